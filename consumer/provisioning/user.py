"""One attempt at a user: the membership in the organization's team, and a key for that team.

Without a hitch three calls: the membership (together with the user where there is an e-mail), the key, and
one that reads back what the answers did not show. Where the member may be others', one more looks first.
"""

from dataclasses import dataclass
from decimal import Decimal

from consumer.litellm.errors import AlreadyExists, NotFound
from consumer.litellm.models import Key, Membership, TeamInfo
from consumer.provisioning.attempt import Attempt, KeyIntent
from consumer.provisioning.comparison import (
    KeyAim,
    key_changes,
    member_budget_stands,
    member_of_others,
)
from consumer.provisioning.failures import Step, Unsettled, must_be_kept
from consumer.provisioning.footprint import Fate, Footprint
from consumer.provisioning.key_making import make_key
from consumer.provisioning.people import Joining, make_user


@dataclass(frozen=True, slots=True)
class UserPlan:
    """What an attempt is to bring about.

    Attributes:
        team_id: The organization's team.
        user_id: The user.
        email: To be set for the user, where it is free.
        max_budget: The member's own limit in USD; 0 blocks the member, None: only the team's binds.
        member: What is known of the membership; None: it may be others', and is looked for first.
        key: The user's key.
    """

    team_id: str
    user_id: str
    email: str | None
    max_budget: Decimal | None
    member: Footprint | None
    key: KeyIntent


@dataclass(frozen=True, slots=True)
class UserStanding:
    """What stands at the end: whether the e-mail given does, and the key."""

    email_set: bool
    key: KeyIntent


async def provision_user(attempt: Attempt, plan: UserPlan) -> UserStanding:
    """Bring LiteLLM into line with the plan.

    Guarantees: a membership that our attempts did not make keeps its budget.

    Raises:
        Conflict: Something that is not ours stands in the way.
        Unsettled: LiteLLM contradicts itself, or does not keep what is written.
        LiteLLMError: A call failed.
        Stopping: The process is to end.
        LeaseLost: Another worker has the organization.
    """
    must_be_kept(plan.user_id)
    email_set = proved = False  # the answer that makes a user as a member shows no budget
    member = plan.member or await _look_for_member(attempt, plan)
    joined = member is None
    if plan.email is not None:
        joining = None if member is None else Joining(plan.team_id, plan.max_budget, member)
        person = await make_user(attempt, plan.user_id, plan.email, joining)
        email_set, joined = person.email_set, joined or person.joined
    if member is not None and not joined:
        proved = await _join(attempt, plan, member)
    key = await make_key(attempt, plan.key, team_id=plan.team_id, user_id=plan.user_id)
    attempt.step = Step.VERIFICATION
    if not proved:
        await _verify_membership(attempt, plan, member, key)
    else:
        await _verify_key(attempt, plan, key)
    return UserStanding(email_set, key)


async def _look_for_member(attempt: Attempt, plan: UserPlan) -> Footprint | None:
    """Write down the membership before the call that could make it; None: it stands, and others made it."""
    attempt.step = Step.MEMBERSHIP
    left = await attempt.intents.member_left(plan.user_id)
    if left is not None:
        return left
    info = await _team(attempt, plan)
    return None if info.team.has_member(plan.user_id) else await attempt.intents.intend_member(plan.user_id)


async def _join(attempt: Attempt, plan: UserPlan, member: Footprint) -> bool:
    """Make the user a member; tell whether the answer proves the membership as asked for."""
    attempt.step = Step.MEMBERSHIP
    try:
        added = await attempt.call(
            lambda: attempt.client.member_add(plan.team_id, plan.user_id, max_budget_in_team=plan.max_budget),
            makes=member,
        )
    except AlreadyExists:
        if member.surely_made:
            member.made()
        elif not member.may_be_ours or await _is_of_others(attempt, plan):
            member.foreign()
        else:
            member.made()
        return False
    row = added.membership(plan.user_id)
    return row is not None and member_budget_stands(row, plan.max_budget)


async def _is_of_others(attempt: Attempt, plan: UserPlan) -> bool:
    """Whether a member that an earlier attempt may have made shows that it did not."""
    return member_of_others((await _team(attempt, plan)).membership(plan.user_id), plan.max_budget)


async def _team(attempt: Attempt, plan: UserPlan) -> TeamInfo:
    try:
        return await attempt.call(lambda: attempt.client.team_info(plan.team_id))
    except NotFound:
        raise Unsettled("LiteLLM does not show the organization's team") from None


async def _verify_membership(
    attempt: Attempt, plan: UserPlan, ours: Footprint | None, key: KeyIntent
) -> None:
    """Read membership and key back from the team, mend what differs, and read that back too."""
    member, standing = await _read_member(attempt, plan, key)
    mended = await _mend_budget(attempt, plan, ours, member)
    mended |= await _mend_key(attempt, plan, key, standing)
    if mended:
        member, standing = await _read_member(attempt, plan, key)
        if not _budget_stands(plan, ours, member) or key_changes(_aim(plan, key), standing):
            raise Unsettled("LiteLLM does not keep what is written to the member or its key")


async def _read_member(attempt: Attempt, plan: UserPlan, key: KeyIntent) -> tuple[Membership | None, Key]:
    info = await _team(attempt, plan)
    if not info.team.has_member(plan.user_id):
        raise Unsettled("LiteLLM does not show the member that it added")
    standing = info.key(key.hash)
    if standing is None:
        raise Unsettled("LiteLLM does not show the key that it made")
    return info.membership(plan.user_id), standing


async def _verify_key(attempt: Attempt, plan: UserPlan, key: KeyIntent) -> None:
    if await _mend_key(attempt, plan, key, await _read_key(attempt, key)) and key_changes(
        _aim(plan, key), await _read_key(attempt, key)
    ):
        raise Unsettled("LiteLLM does not keep what is written to the key")


async def _read_key(attempt: Attempt, key: KeyIntent) -> Key:
    try:
        standing = await attempt.call(lambda: attempt.client.key_info(key.hash))
    except NotFound:
        raise Unsettled("LiteLLM does not show the key that it made") from None
    if standing.deleted:
        raise Unsettled("LiteLLM shows the key as deleted that it made")
    return standing


async def _mend_budget(
    attempt: Attempt, plan: UserPlan, ours: Footprint | None, member: Membership | None
) -> bool:
    if _budget_stands(plan, ours, member):
        return False
    await attempt.call(
        lambda: attempt.client.member_update(plan.team_id, plan.user_id, max_budget_in_team=plan.max_budget),
        changes=ours,
    )
    return True


def _budget_stands(plan: UserPlan, ours: Footprint | None, member: Membership | None) -> bool:
    return ours is None or ours.fate is Fate.FOREIGN or member_budget_stands(member, plan.max_budget)


async def _mend_key(attempt: Attempt, plan: UserPlan, key: KeyIntent, standing: Key) -> bool:
    changes = key_changes(_aim(plan, key), standing)
    if changes:
        await attempt.call(lambda: attempt.client.key_update(key.hash, **changes))
    return bool(changes)


def _aim(plan: UserPlan, key: KeyIntent) -> KeyAim:
    return KeyAim(key.hash, key.alias, plan.team_id, plan.user_id)
