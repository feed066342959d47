"""What is to be done next for an organization: decided here as far as that goes without LiteLLM."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from consumer.litellm.text import kept
from consumer.provisioning.claim import Claim
from consumer.provisioning.comparison import TeamAim
from consumer.provisioning.context import Context, Moment
from consumer.provisioning.endings import end_failed, end_organization, end_user
from consumer.provisioning.failures import ErrorCode, Failure, Step
from consumer.provisioning.intents import intent, key_intent, write_down
from consumer.provisioning.leftovers import give_up, last_failure, plan_compensation
from consumer.provisioning.marks import Mark
from consumer.provisioning.organization import OrganizationPlan
from consumer.provisioning.outcomes import CompensationEnd
from consumer.provisioning.standing import profile_of, standing_organization, standing_user
from consumer.provisioning.todo import OrganizationTry, Postponed, Todo, UserTry
from consumer.provisioning.user import UserPlan
from schemas.event import from_stored
from schemas.events import EventType, OrgCreated, UserJoined
from storage import inbox, members, organizations, resources, virtual_keys
from storage.inbox import InboxRow, Phase, WaitReason
from storage.organizations import OrgStatus
from storage.resources import Resource, ResourceKind, ResourceState

_EMAIL_PAUSE: Final = timedelta(seconds=0.5)
"""How long to leave an e-mail to whoever is at it."""


async def next_todo(context: Context, claim: Claim, *, gate_open: bool) -> Todo | None:
    """Take an organization's next due event in hand; None: nothing is due, and the claim is given back.

    A try is written down before it begins, with all that it may make.

    Args:
        context: What to work with.
        claim: The organization.
        gate_open: Whether LiteLLM is worth a try.

    Raises:
        LeaseLost: Somebody else may have the organization.
    """

    async def work(moment: Moment) -> Todo | None:
        now = moment.now
        tried_before = now - context.policy.retry_for
        due = await inbox.due_rows(
            moment.tx, claim.org_id, now, 1, gate_open=gate_open, tried_before=tried_before
        )
        if not due:
            await claim.give_back_within(moment.tx, now)
            return None
        row = due[0]
        planner = _Planner(moment, claim, row, gate_open=gate_open)
        if row.phase is Phase.COMPENSATING:
            return await plan_compensation(moment, row, gate_open=gate_open)
        if row.type is EventType.ORG_CREATED:
            return await planner.organization()
        return await planner.user()

    todo = await context.transaction(claim, work)
    if todo is None:
        claim.given_back()
    return todo


class _Planner:
    """One event within one transaction."""

    def __init__(self, moment: Moment, claim: Claim, row: InboxRow, *, gate_open: bool) -> None:
        self._moment = moment
        self._claim = claim
        self._row = row
        self._gate_open = gate_open

    async def organization(self) -> Todo:
        moment, tx, row = self._moment, self._moment.tx, self._row
        event = from_stored(row.event)
        data = event.data
        assert isinstance(data, OrgCreated)
        if moment.state.status is OrgStatus.ACTIVE:
            facts = await standing_organization(moment)
            return await end_organization(moment, row, facts, created=False)
        if moment.state.status is not OrgStatus.PROVISIONING:
            state = moment.state._replace(status=OrgStatus.PROVISIONING, failed_at=None)
            self._moment = moment = replace(moment, state=state)
            await organizations.save(tx, [state])
            await inbox.hold_dependents(tx, [row.org_id])
        standing = await resources.get(tx, row.org_id, ResourceKind.TEAM, row.org_id)
        held_up = await self._held_up(standing, data.owner_email)
        if held_up is not None:
            return held_up

        key = await key_intent(moment, row, data.owner_user_id)
        team = intent(moment, row, ResourceKind.TEAM, row.org_id, standing)
        await write_down(moment, team, key.footprint)
        decided_on = await virtual_keys.of_org(tx, row.org_id)
        policy = moment.context.policy
        budget = policy.max_budget_usd(data)
        plan = OrganizationPlan(
            team=TeamAim(
                team_id=row.org_id,
                alias=kept(data.name),
                max_budget=None if budget is None else Decimal(budget),
                models=policy.models(data),
                mark=Mark(policy.our_source, row.org_id, row.identity, key.hash),
            ),
            owner=data.owner_user_id,
            owner_email=data.owner_email,
            former_owners={one.user_id for one in decided_on} - {data.owner_user_id},
            known_keys={one.key_hash for one in decided_on},
            team_footprint=team,
            key=key,
        )
        return OrganizationTry(await self._begin(), event, plan)

    async def user(self) -> Todo:
        moment, tx, row = self._moment, self._moment.tx, self._row
        event = from_stored(row.event)
        data = event.data
        assert isinstance(data, UserJoined)
        member = await members.get(tx, row.org_id, data.user_id)
        if member is not None:
            facts = await standing_user(moment, member)
            return await end_user(moment, row, facts, created=False)
        if moment.state.status is not OrgStatus.ACTIVE:
            return await self._without_organization()
        standing = await resources.get(tx, row.org_id, ResourceKind.MEMBER, data.user_id)
        held_up = await self._held_up(standing, data.email)
        if held_up is not None:
            return held_up

        profile = await profile_of(tx, row.org_id)
        budget = data.max_budget_usd
        key = await key_intent(moment, row, data.user_id)
        looks_first = profile.adopted or (standing is not None and standing.state is ResourceState.KEPT)
        membership = None if looks_first else intent(moment, row, ResourceKind.MEMBER, data.user_id, standing)
        await write_down(moment, *(one for one in (key.footprint, membership) if one is not None))
        plan = UserPlan(
            team_id=profile.team_id,
            user_id=data.user_id,
            email=data.email,
            max_budget=None if budget is None else Decimal(budget),
            member=membership,
            key=key,
        )
        return UserTry(await self._begin(), event, plan)

    async def _without_organization(self) -> Todo:
        state, now, row = self._moment.state, self._moment.now, self._row
        if state.status is OrgStatus.PROVISIONING:
            return await self._wait(None, WaitReason.ORGANIZATION)
        waits_since = row.stored_at if state.failed_at is None else max(row.stored_at, state.failed_at)
        deadline = waits_since + self._moment.context.policy.dependency_wait
        # One that already waited for its organization is due because that wait is over.
        if row.reason is not WaitReason.ORGANIZATION and now < deadline:
            return await self._wait(deadline, WaitReason.ORGANIZATION)
        if state.status is OrgStatus.UNKNOWN:
            code, message = ErrorCode.ORG_NOT_FOUND, "no org.created came for this organization"
        else:
            code, message = ErrorCode.ORG_NOT_ACTIVE, "this organization could not be provisioned"
        failure = Failure(Step.ORGANIZATION, code, message)
        return await end_failed(self._moment, row, failure, compensation=CompensationEnd.NOT_NEEDED)

    async def _held_up(self, standing: Resource | None, email: str | None) -> Todo | None:
        """Put off a try that would cross something still under way; end one that LiteLLM was down for.

        Args:
            standing: What the database remembers of what is to be made.
            email: What is to be set for the user.
        """
        tx, now, row = self._moment.tx, self._moment.now, self._row
        if not self._gate_open:  # due all the same: its retry time has run out
            return await give_up(self._moment, row, last_failure(row))
        if (
            standing is not None
            and standing.state is ResourceState.REMOVING
            and standing.doubt_until is not None
            and standing.doubt_until > now
        ):  # a delete whose answer was lost may still hit what the try would take over
            return await self._wait(standing.doubt_until, WaitReason.RETRY)
        if email is not None and not await self._claim.take_email(tx, email, now):
            return await self._wait(
                now + _EMAIL_PAUSE * (0.5 + self._moment.context.random() / 2), WaitReason.TURN
            )
        return None

    async def _wait(self, due_at: datetime | None, reason: WaitReason) -> Postponed:
        await inbox.update(self._moment.tx, replace(self._row, due_at=due_at, reason=reason))
        return Postponed()

    async def _begin(self) -> InboxRow:
        """Count the try before it begins: a crash in it is a try all the same."""
        first_try_at = self._row.first_try_at or self._moment.now
        row = replace(self._row, attempts=self._row.attempts + 1, first_try_at=first_try_at)
        await inbox.update(self._moment.tx, row)
        return row
