"""LiteLLM's answers, as far as they are used; what else they hold is passed over.

An answer that does not fit its model is no answer (`Doubtful`): a proxy in between can say 200 to anything.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import AliasChoices, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field

T = TypeVar("T")


def _null_is(default: object) -> BeforeValidator:
    return BeforeValidator(lambda value: default if value is None else value)


Flag = Annotated[bool, _null_is(False)]
"""A boolean that LiteLLM leaves null until it is set."""
Names = Annotated[tuple[str, ...], _null_is(())]
"""A list of names; LiteLLM also stores null for an empty one."""
Metadata = Annotated[Mapping[str, Any], _null_is({})]


class Answer(BaseModel):
    """Base of all answers: immutable, tolerant of what is new."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class TeamMember(Answer):
    """An entry of a team's member list. `user_id` is null for a member invited by e-mail alone."""

    user_id: str | None
    role: str


class Team(Answer):
    """A team's own record. `max_budget` in USD, None: no limit; empty `models`: all."""

    team_id: str
    team_alias: str | None = None
    max_budget: Decimal | None = None
    budget_duration: str | None = None
    spend: Decimal = Decimal(0)
    blocked: Flag = False
    models: Names = ()
    metadata: Metadata = Field(default_factory=dict)
    members: Annotated[tuple[TeamMember, ...], _null_is(())] = Field(
        default=(), validation_alias=AliasChoices("members_with_roles")
    )

    def has_member(self, user_id: str) -> bool:
        """Say whether the member list names this user."""
        return any(member.user_id == user_id for member in self.members)


class Membership(Answer):
    """A membership row, which holds the member's own budget in USD (None: only the team's binds).

    `budget_source` tells a budget of their own (`custom`) from the team's default (`team_default`); None
    where LiteLLM does not say.
    """

    team_id: str
    user_id: str
    spend: Decimal | None = None
    budget_source: str | None = None
    max_budget: Decimal | None = Field(
        default=None,
        validation_alias=AliasChoices(AliasPath("litellm_budget_table", "max_budget"), "max_budget"),
    )


class Key(Answer):
    """A virtual key as stored.

    The key itself is in no answer that is kept. Empty `models`: all of the team's.
    """

    hash: str = Field(validation_alias=AliasChoices("token", "hash"))
    key_alias: str | None = None
    team_id: str | None = None
    user_id: str | None = None
    key_type: str | None = None
    allowed_routes: Names = ()
    max_budget: Decimal | None = None
    budget_duration: str | None = None
    expires: str | None = None
    spend: Decimal = Decimal(0)
    models: Names = ()
    blocked: Flag = False
    metadata: Metadata = Field(default_factory=dict)
    status: str = "active"

    @property
    def deleted(self) -> bool:
        """Whether LiteLLM shows the record of a key that is gone."""
        return self.status == "deleted"


class KeyInfo(Answer):
    """The answer of `/key/info`, which names the key beside its record."""

    key: str
    info: Mapping[str, Any]

    def stored(self) -> Key:
        """Put name and record together."""
        return Key.model_validate({**self.info, "token": self.key})


class TeamInfo(Answer):
    """The answer of `/team/info`: the team with all memberships and keys."""

    team_id: str
    team: Team = Field(validation_alias=AliasChoices("team_info"))
    keys: Annotated[tuple[Key, ...], _null_is(())] = ()
    memberships: Annotated[tuple[Membership, ...], _null_is(())] = Field(
        default=(), validation_alias=AliasChoices("team_memberships")
    )

    def key(self, key_hash: str) -> Key | None:
        """Find one key of the team by its hash."""
        return next((key for key in self.keys if key.hash == key_hash), None)

    def membership(self, user_id: str) -> Membership | None:
        """Find one user's membership row."""
        return next((row for row in self.memberships if row.user_id == user_id), None)


class MemberAdded(Team):
    """The answer of `/team/member_add`: the team after it, and the rows of the members really added."""

    memberships: Annotated[tuple[Membership, ...], _null_is(())] = Field(
        default=(), validation_alias=AliasChoices("updated_team_memberships")
    )

    def membership(self, user_id: str) -> Membership | None:
        """Find one added user's membership row."""
        return next((row for row in self.memberships if row.user_id == user_id), None)


class User(Answer):
    """A user; `teams` are the ids of the teams that the user's own record names."""

    user_id: str
    user_email: str | None = Field(default=None, repr=False)
    user_role: str | None = None
    max_budget: Decimal | None = None
    teams: Names = ()


class UpdatedTeam(Answer):
    """The answer of `/team/update`."""

    team_id: str
    data: Team


class UpdatedMember(Answer):
    """The answer of `/team/member_update`.

    It shows omitted fields as null, so it proves no more than its ids.
    """

    team_id: str
    user_id: str


class DeletedTeams(Answer):
    """The answer of `/team/delete`."""

    deleted_teams: tuple[Any, ...]


class DeletedKeys(Answer):
    """The answer of `/key/delete`, which also lists hashes that named no key."""

    deleted_keys: tuple[Any, ...]
