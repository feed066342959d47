"""What stands in LiteLLM against what should stand there: the differences, as changes to send.

LiteLLM's own defaults may put a budget, models or an expiry where none was asked for, so nothing is taken to
be as it was sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from consumer.litellm.client import KeyChanges, TeamChanges
from consumer.litellm.models import Key, Membership, Team, TeamInfo
from consumer.provisioning.marks import Mark

LLM_API_ROUTES: Final = ("llm_api_routes",)
"""What a key of the type `llm_api` may call: models alone, so that it cannot make itself another key."""


@dataclass(frozen=True, slots=True)
class TeamAim:
    """What a team of ours should be; besides: with a budget that is never filled up again.

    Attributes:
        team_id: The organization's id.
        alias: Its name.
        max_budget: In USD; None: no limit.
        models: Empty: all.
        mark: Says that it is ours.
    """

    team_id: str
    alias: str
    max_budget: Decimal | None
    models: tuple[str, ...]
    mark: Mark

    @property
    def blocked(self) -> bool:
        """A budget of 0 alone would let a first call through."""
        return self.max_budget is not None and not self.max_budget


@dataclass(frozen=True, slots=True)
class KeyAim:
    """What a key of ours should be; besides: for model calls alone, without budget, models or expiry."""

    hash: str
    alias: str
    team_id: str
    user_id: str


def same_amount(one: Decimal | None, other: Decimal | None) -> bool:
    """Whether two amounts are the same to LiteLLM, which keeps them as binary floating point."""
    if one is None or other is None:
        return one is other
    return float(one) == float(other)


def team_changes(aim: TeamAim, team: Team) -> TeamChanges:
    """Give what to change in a team that our own attempts made; empty: nothing."""
    changes = TeamChanges()
    if team.team_alias != aim.alias:
        changes["team_alias"] = aim.alias
    if not same_amount(team.max_budget, aim.max_budget):
        changes["max_budget"] = aim.max_budget
    if team.budget_duration is not None:
        changes["budget_duration"] = None
    if team.blocked != aim.blocked:
        changes["blocked"] = aim.blocked
    if set(team.models) != set(aim.models):
        changes["models"] = aim.models
    changes.update(mark_changes(aim.mark, team))
    return changes


def mark_changes(mark: Mark, team: Team) -> TeamChanges:
    """Give what to change so that a team bears our mark; its other metadata stay."""
    standing = Mark.of(team.metadata)
    if standing is not None and standing.is_of(mark.source, mark.org_id):
        return TeamChanges()
    return TeamChanges(metadata=mark.added_to(team.metadata))


def key_changes(aim: KeyAim, key: Key) -> KeyChanges:
    """Give what to change in a key of ours; empty: nothing."""
    changes = KeyChanges()
    if key.key_alias != aim.alias:
        changes["key_alias"] = aim.alias
    if key.user_id != aim.user_id:
        changes["user_id"] = aim.user_id
    if key.team_id != aim.team_id:
        changes["team_id"] = aim.team_id
    if tuple(key.allowed_routes) != LLM_API_ROUTES:
        changes["allowed_routes"] = LLM_API_ROUTES
    if key.max_budget is not None:
        changes["max_budget"] = None
    if key.budget_duration is not None:
        changes["budget_duration"] = None
    if key.expires is not None:
        changes["duration"] = None
    if key.models:
        changes["models"] = ()
    if key.blocked:
        changes["blocked"] = False
    return changes


def member_budget_stands(membership: Membership | None, max_budget: Decimal | None) -> bool:
    """Whether a member's own budget is the one asked for (None: none); no row is no budget."""
    return same_amount(None if membership is None else membership.max_budget, max_budget)


def member_of_others(membership: Membership | None, max_budget: Decimal | None) -> bool:
    """Whether a member's budget shows that the call which asked for `max_budget` did not make the member.

    LiteLLM stores the budget that is asked for, and where none is, the team's default for its members.
    """
    if membership is None or member_budget_stands(membership, max_budget):
        return False
    return max_budget is not None or membership.budget_source == "custom"


def used_by_others(info: TeamInfo, *, our_users: Iterable[str], our_keys: Iterable[str]) -> bool:
    """Whether a team holds members or keys besides those given: somebody else has come to use it."""
    known_users = {*our_users, LITELLM_ADMIN}
    known_keys = set(our_keys)
    return any(member.user_id not in known_users for member in info.team.members) or any(
        key.hash not in known_keys for key in info.keys
    )


LITELLM_ADMIN: Final = "default_user_id"
"""The user that LiteLLM adds to every team."""
