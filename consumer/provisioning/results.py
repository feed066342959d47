"""What became of a try, written down in one transaction."""

from collections.abc import Sequence
from dataclasses import replace

from consumer.decisions.credits import open_account
from consumer.provisioning.attempt import KeyIntent
from consumer.provisioning.claim import Claim
from consumer.provisioning.context import Context, Moment
from consumer.provisioning.endings import end_organization, end_user
from consumer.provisioning.failures import Verdict, next_try
from consumer.provisioning.footprint import Footprint
from consumer.provisioning.intents import remember
from consumer.provisioning.keys import KEY_NAME
from consumer.provisioning.leftovers import give_up
from consumer.provisioning.organization import OrganizationStanding
from consumer.provisioning.outcomes import KeyFacts, OrganizationFacts, UserFacts, usd_text
from consumer.provisioning.todo import Decided, OrganizationTry, Postponed, Try, UserTry
from consumer.provisioning.user import UserStanding
from schemas.events import OrgCreated, UserJoined
from schemas.json_codec import dump_json
from storage import inbox, ledger, members, organizations, virtual_keys
from storage.inbox import WaitReason
from storage.members import Member
from storage.organizations import OrgProfile, OrgState
from storage.virtual_keys import KeyState


async def organization_stands(
    context: Context,
    claim: Claim,
    todo: OrganizationTry,
    standing: OrganizationStanding,
    footprints: Sequence[Footprint],
) -> Decided:
    """Activate the organization, open its account, tell it, and let its users and jobs go on."""
    row, data, policy = todo.row, todo.event.data, context.policy
    assert isinstance(data, OrgCreated)
    team, key = standing.team, standing.key
    encrypted = context.deliver(key.key)
    asked = standing.as_asked

    async def work(moment: Moment) -> Decided:
        tx, now = moment.tx, moment.now
        profile = OrgProfile(
            org_id=row.org_id,
            name=data.name,
            owner_user_id=data.owner_user_id,
            team_id=team.team_id,
            adopted=standing.adopted,
            max_budget_usd=policy.max_budget_usd(data) if asked else usd_text(team.max_budget),
            models=policy.models(data) if asked else tuple(team.models),
            metadata=None if data.metadata is None else dump_json(data.metadata).decode(),
            provisioned_at=now,
        )
        state = await _open_account(moment, policy.initial_credits(data))
        await organizations.activate(tx, state, profile)
        member = _member(moment, data.owner_user_id, "owner", key, email_set=standing.email_set)
        await _enrol(moment, member, footprints)
        await inbox.release_users(tx, row.org_id, now)
        await claim.give_back_email(tx, now)
        facts = OrganizationFacts(
            org_id=row.org_id,
            name=profile.name,
            team_id=profile.team_id,
            adopted=profile.adopted,
            max_budget_usd=profile.max_budget_usd,
            models=profile.models,
            credits_balance=state.balance,
            owner_user_id=data.owner_user_id,
            owner_email_set=standing.email_set,
            owner_key=KeyFacts(KEY_NAME, key.alias, key.hash, encrypted),
        )
        return await end_organization(moment, row, facts, created=True)

    decided = await context.transaction(claim, work)
    claim.email_given_back()
    return decided


async def user_stands(
    context: Context, claim: Claim, todo: UserTry, standing: UserStanding, footprints: Sequence[Footprint]
) -> Decided:
    """Enter the user as a member, and tell it."""
    row, data, plan, key = todo.row, todo.event.data, todo.plan, standing.key
    assert isinstance(data, UserJoined)
    encrypted = context.deliver(key.key)

    async def work(moment: Moment) -> Decided:
        tx, now = moment.tx, moment.now
        member = _member(moment, plan.user_id, data.role, key, email_set=standing.email_set)
        await _enrol(moment, member, footprints)
        await claim.give_back_email(tx, now)
        facts = UserFacts(
            org_id=row.org_id,
            user_id=plan.user_id,
            team_id=plan.team_id,
            email_set=standing.email_set,
            key=KeyFacts(KEY_NAME, key.alias, key.hash, encrypted),
        )
        return await end_user(moment, row, facts, created=True)

    decided = await context.transaction(claim, work)
    claim.email_given_back()
    return decided


async def try_failed(
    context: Context,
    claim: Claim,
    todo: Try,
    footprints: Sequence[Footprint],
    *,
    verdict: Verdict,
    monotonic: float,
    called: bool,
) -> Decided | Postponed:
    """Write down a failed try, and when the next one is or that there is none.

    Args:
        context: What to work with.
        claim: The organization.
        todo: What was tried.
        footprints: What the try left.
        verdict: Why it failed.
        monotonic: Now, by the clock that the footprints go by.
        called: Whether LiteLLM was called; what ends without that was no try.
    """
    tries = todo.row.attempts - (verdict.final and not called)

    async def work(moment: Moment) -> Decided | Postponed:
        tx, now = moment.tx, moment.now
        row = replace(todo.row, failure=verdict.failure.to_json(), attempts=tries)
        await remember(tx, [(one, one.after_failure(now, monotonic)) for one in footprints])
        await claim.give_back_email(tx, now)
        due_at = None
        if not verdict.final:
            assert row.first_try_at is not None
            due_at = next_try(
                now,
                attempts=row.attempts,
                deadline=row.first_try_at + context.policy.retry_for,
                retry_after=verdict.retry_after,
                random=context.random,
            )
        if due_at is None:
            return await give_up(moment, row, verdict.failure)
        reason = WaitReason.LITELLM if verdict.outage else WaitReason.RETRY
        await inbox.update(tx, replace(row, due_at=due_at, reason=reason))
        return Postponed()

    ended = await context.transaction(claim, work)
    claim.email_given_back()
    return ended


async def try_interrupted(
    context: Context,
    claim: Claim,
    todo: Try,
    footprints: Sequence[Footprint],
    *,
    monotonic: float,
    called: bool,
) -> None:
    """Write down how far a try came that ends with the process; whoever is next goes on from there.

    Args:
        context: What to work with.
        claim: The organization.
        todo: What was tried.
        footprints: What the try left.
        monotonic: Now, by the clock that the footprints go by.
        called: Whether LiteLLM was called; if not, it was no try.
    """

    async def work(moment: Moment) -> None:
        tx, now = moment.tx, moment.now
        await remember(tx, [(one, one.after_failure(now, monotonic)) for one in footprints])
        await claim.give_back_email(tx, now)
        if not called:
            row = todo.row
            first_try_at = None if row.attempts == 1 else row.first_try_at
            await inbox.update(tx, replace(row, attempts=row.attempts - 1, first_try_at=first_try_at))

    await context.transaction(claim, work)
    claim.email_given_back()


async def _open_account(moment: Moment, granted: int) -> OrgState:
    state, entry = open_account(moment.state, granted, moment.now)
    if entry is not None:
        await ledger.append(moment.tx, [entry])
    return state


def _member(moment: Moment, user_id: str, role: str, key: KeyIntent, *, email_set: bool) -> Member:
    return Member(
        org_id=moment.state.org_id,
        user_id=user_id,
        role=role,
        email_set=email_set,
        key_hash=key.hash,
        key_alias=key.alias,
        key_name=KEY_NAME,
        provisioned_at=moment.now,
    )


async def _enrol(moment: Moment, member: Member, footprints: Sequence[Footprint]) -> None:
    tx = moment.tx
    await members.add(tx, member)
    await virtual_keys.mark(tx, member.key_hash, KeyState.LIVE)
    await remember(tx, [(one, one.after_success(moment.now)) for one in footprints])
