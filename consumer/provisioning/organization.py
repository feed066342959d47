"""One attempt at an organization: its team, the owner in it, and the owner's key.

Read, compare, write the difference, read back. Without a hitch that is three calls, and one before them where
the owner has an e-mail.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from consumer.litellm.client import TeamChanges
from consumer.litellm.errors import AlreadyExists, NotFound
from consumer.litellm.models import Team, TeamInfo
from consumer.provisioning.attempt import Attempt, KeyIntent
from consumer.provisioning.comparison import (
    KeyAim,
    TeamAim,
    key_changes,
    mark_changes,
    member_budget_stands,
    team_changes,
)
from consumer.provisioning.failures import Conflict, ErrorCode, Step, Unsettled, must_be_kept
from consumer.provisioning.footprint import Footprint
from consumer.provisioning.key_making import make_key
from consumer.provisioning.marks import Mark
from consumer.provisioning.people import make_user


@dataclass(frozen=True, slots=True)
class OrganizationPlan:
    """What an attempt is to bring about.

    Attributes:
        team: What the team should be.
        owner: The owner's user id.
        owner_email: To be set for the owner, where it is free.
        former_owners: Whom earlier events that failed made owner; in a team of theirs they may still be.
        known_keys: Hashes of all keys that the database decided on for this organization.
        team_footprint: What is known of the team.
        key: The owner's key.
    """

    team: TeamAim
    owner: str
    owner_email: str | None
    former_owners: AbstractSet[str]
    known_keys: AbstractSet[str]
    team_footprint: Footprint
    key: KeyIntent


@dataclass(frozen=True, slots=True)
class OrganizationStanding:
    """What stands at the end.

    Attributes:
        team: As LiteLLM has it.
        as_asked: Whether the team's budget and models are those asked for; else they were there before.
        adopted: Whether the team was somebody else's.
        email_set: Whether the e-mail given stands for the owner.
        key: The owner's key.
        member: The owner's membership where it was added by itself.
    """

    team: Team
    as_asked: bool
    adopted: bool
    email_set: bool
    key: KeyIntent
    member: Footprint | None


@dataclass(slots=True)
class _Found:
    """How the team came to stand: `made` by our attempts, or there before (`adopted`: without our mark)."""

    made: bool
    adopted: bool
    info: TeamInfo | None
    member: Footprint | None = None


async def provision_organization(attempt: Attempt, plan: OrganizationPlan) -> OrganizationStanding:
    """Bring LiteLLM into line with the plan.

    Guarantees: a team that our attempts did not make keeps its budget, models, members and keys; nothing is
    concluded from a 404 but that something may be made.

    Raises:
        Conflict: Something that is not ours stands in the way.
        Unsettled: LiteLLM contradicts itself, or does not keep what is written.
        LiteLLMError: A call failed.
        Stopping: The process is to end.
        LeaseLost: Another worker has the organization.
    """
    must_be_kept(plan.team.team_id, plan.owner, *plan.team.models)
    email_set = False
    if plan.owner_email is not None:
        email_set = (await make_user(attempt, plan.owner, plan.owner_email)).email_set
    found = await _find_or_make_team(attempt, plan)
    key = plan.key
    if found.info is not None and found.info.key(key.hash) is not None:
        key.footprint.made()
    else:
        key = await make_key(attempt, key, team_id=plan.team.team_id, user_id=plan.owner)
    info = await _verify(attempt, plan, found, key)
    return OrganizationStanding(info.team, found.made, found.adopted, email_set, key, found.member)


async def _find_or_make_team(attempt: Attempt, plan: OrganizationPlan) -> _Found:
    attempt.step = Step.TEAM
    if plan.team_footprint.may_be_ours:
        info = await _read(attempt, plan)
        if info is not None:
            return _recognize(attempt, plan, info)
    elif plan.team_footprint.others_had_it:
        info = await _read(attempt, plan)
        if info is not None:
            return _recognize(attempt, plan, info)
        await attempt.call(attempt.client.probe)  # with its database down LiteLLM denies what exists
        await attempt.intents.intend_anew(plan.team_footprint)
    aim = plan.team
    client = attempt.client
    try:
        await attempt.call(
            lambda: client.team_new(
                aim.team_id,
                team_alias=aim.alias,
                max_budget=aim.max_budget,
                blocked=aim.blocked,
                models=aim.models,
                metadata=aim.mark.added_to({}),
                members=[plan.owner],
            ),
            makes=plan.team_footprint,
        )
    except AlreadyExists:
        info = await _read(attempt, plan)
        if info is None:
            raise Unsettled("LiteLLM says that the team exists, and does not show it") from None
        return _recognize(attempt, plan, info)
    return _Found(made=True, adopted=False, info=None)


def _recognize(attempt: Attempt, plan: OrganizationPlan, info: TeamInfo) -> _Found:
    footprint = plan.team_footprint
    aim = plan.team
    mark = Mark.of(info.team.metadata)
    if mark is not None and not mark.is_of(aim.mark.source, aim.mark.org_id):
        mark = None
    if footprint.surely_made or (
        footprint.may_be_ours and mark is not None and not mark.adopted and mark.key in plan.known_keys
    ):
        footprint.made()
        return _Found(made=True, adopted=False, info=info)
    footprint.foreign()
    if mark is not None:
        return _Found(made=False, adopted=mark.adopted, info=info)
    if attempt.policy.adopt_existing:
        return _Found(made=False, adopted=True, info=info)
    raise Conflict(ErrorCode.TEAM_CONFLICT, "a team with this id exists that is not ours")


async def _verify(attempt: Attempt, plan: OrganizationPlan, found: _Found, key: KeyIntent) -> TeamInfo:
    """Read everything back, mend what differs, and read that back too."""
    attempt.step = Step.VERIFICATION
    info = await _read_made(attempt, plan)
    if await _mend(attempt, plan, found, key, info):
        info = await _read_made(attempt, plan)
        if await _mend(attempt, plan, found, key, info, only_look=True):
            raise Unsettled("LiteLLM does not keep what is written to the team or its key")
    return info


async def _mend(
    attempt: Attempt,
    plan: OrganizationPlan,
    found: _Found,
    key: KeyIntent,
    info: TeamInfo,
    *,
    only_look: bool = False,
) -> bool:
    """Write what differs; tell whether anything did."""
    client = attempt.client
    team_id, owner = plan.team.team_id, plan.owner
    of_team = _team_changes(plan, found, info.team)
    joins = not info.team.has_member(owner)
    if not found.made and not joins and found.member is None:
        found.member = await attempt.intents.member_left(owner)
        if found.member is not None:
            found.member.made()
    limited = not member_budget_stands(info.membership(owner), None)
    frees = limited and _owner_is_ours(found)
    standing = info.key(key.hash)
    if standing is None:
        raise Unsettled("LiteLLM does not show the key that it made")
    of_key = key_changes(KeyAim(key.hash, key.alias, team_id, owner), standing)
    leavers = _leavers(plan, found, info)
    differs = bool(of_team or joins or frees or of_key or leavers)
    if only_look:
        return differs
    if of_team:
        await attempt.call(lambda: client.team_update(team_id, **of_team), changes=plan.team_footprint)
    if joins:
        frees = await _join(attempt, plan, found)
    if frees:
        await attempt.call(
            lambda: client.member_update(team_id, owner, max_budget_in_team=None), changes=found.member
        )
    if of_key:
        await attempt.call(lambda: client.key_update(key.hash, **of_key))
    await _see_off(attempt, team_id, leavers)
    return differs


async def _join(attempt: Attempt, plan: OrganizationPlan, found: _Found) -> bool:
    """Make the owner a member; tell whether the team's default for its members limits them."""
    team_id, owner = plan.team.team_id, plan.owner
    # A team/new that failed halfway leaves a team without members; an adopted one never had the owner.
    if not found.made:
        found.member = await attempt.intents.intend_member(owner)
    try:
        added = await attempt.call(lambda: attempt.client.member_add(team_id, owner), makes=found.member)
    except AlreadyExists:
        if found.member is not None:
            if found.member.may_be_ours:
                found.member.made()
            else:
                found.member.foreign()
        return False
    return not member_budget_stands(added.membership(owner), None)


def _owner_is_ours(found: _Found) -> bool:
    """Whether our attempts made the owner a member."""
    return found.made or (found.member is not None and found.member.surely_made)


async def _see_off(attempt: Attempt, team_id: str, leavers: Iterable[str]) -> None:
    client = attempt.client
    for leaver in leavers:
        await attempt.intents.intend_leaving(leaver)
        await attempt.call(lambda leaver=leaver: client.member_delete(team_id, leaver))  # type: ignore[misc]


def _leavers(plan: OrganizationPlan, found: _Found, info: TeamInfo) -> list[str]:
    """Whom a team taken over from an event that failed has as its owner, unless others gave them keys."""
    if not found.made:
        return []
    used = {key.user_id for key in info.keys if key.hash not in plan.known_keys}
    return [one for one in sorted(plan.former_owners - used) if info.team.has_member(one)]


def _team_changes(plan: OrganizationPlan, found: _Found, team: Team) -> TeamChanges:
    if found.made:
        return team_changes(plan.team, team)
    mark = plan.team.mark
    adopting = Mark(mark.source, mark.org_id, mark.event, mark.key, adopted=True)
    return mark_changes(adopting, team)


async def _read_made(attempt: Attempt, plan: OrganizationPlan) -> TeamInfo:
    info = await _read(attempt, plan)
    if info is None:
        raise Unsettled("LiteLLM does not show the team that it made")
    return info


async def _read(attempt: Attempt, plan: OrganizationPlan) -> TeamInfo | None:
    try:
        return await attempt.call(lambda: attempt.client.team_info(plan.team.team_id))
    except NotFound:
        return None
