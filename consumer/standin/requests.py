"""The bodies of requests.

What is known of them is checked as LiteLLM does, what is not is dropped in silence.
"""

import math
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from consumer.standin.errors import quoted

Json = dict[str, Any]


class Request(BaseModel):
    """Base of all bodies. Which fields were sent is told by `model_fields_set`."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    def sent(self, name: str) -> bool:
        """Whether the body named this field, if only as null."""
        return name in self.model_fields_set


class Budgeted(Request):
    """A body with a budget that must not be negative; checked by the call and not by the body's shape."""

    max_budget: float | None = None

    def check_budget(self, kind: str = "internal_server_error") -> None:
        """Refuse a budget that is none."""
        if self.max_budget is not None and not (math.isfinite(self.max_budget) and self.max_budget >= 0):
            message = f"max_budget must be a non-negative finite number. Received: {self.max_budget}"
            raise quoted(400, message, kind=kind)


class Member(Request):
    """A member to add, by id or e-mail."""

    role: Literal["admin", "user"]
    user_id: str | None = None
    user_email: str | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.user_id is None and self.user_email is None:
            raise ValueError("Either user id or user email must be provided")
        return self


class TeamNew(Budgeted):
    """`/team/new`."""

    team_id: str | None = None
    team_alias: str | None = None
    blocked: bool = False
    models: list[str] = Field(default_factory=list)
    metadata: Json | None = None
    members_with_roles: list[Member] = Field(default_factory=list)
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    budget_duration: str | None = None


class TeamUpdate(Budgeted):
    """`/team/update`."""

    team_id: str
    team_alias: str | None = None
    blocked: bool | None = None
    models: list[str] | None = None
    metadata: Json | None = None
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    budget_duration: str | None = None
    team_member_budget: float | None = None


class TeamIds(Request):
    """`/team/delete`."""

    team_ids: list[str]


class TeamId(Request):
    """`/team/block` and `/team/unblock`."""

    team_id: str


class MemberAdd(Request):
    """`/team/member_add`, of one member or of a list."""

    team_id: str
    member: list[Member]
    max_budget_in_team: float | None = None
    alone: bool = False

    @model_validator(mode="before")
    @classmethod
    def _as_list(cls, values: Json) -> Json:
        member = values.get("member")
        if not isinstance(member, dict):
            return {**values, "alone": False}
        return {**values, "member": [member], "alone": True}


class MemberOfTeam(Request):
    """`/team/member_delete`, and what `/team/member_update` has in common with it."""

    team_id: str
    user_id: str | None = None
    user_email: str | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.user_id is None and self.user_email is None:
            raise ValueError("Either user id or user email must be provided")
        return self


class MemberUpdate(MemberOfTeam):
    """`/team/member_update`."""

    max_budget_in_team: float | None = None


class TeamOfUser(Request):
    """A team that a new user joins."""

    team_id: str
    user_role: Literal["admin", "user"] = "user"
    max_budget_in_team: float | None = None


UserRole = Literal["proxy_admin", "proxy_admin_viewer", "internal_user", "internal_user_viewer"]


class UserNew(Request):
    """`/user/new`."""

    user_id: str | None = None
    user_email: str | None = None
    user_role: UserRole | None = None
    max_budget: float | None = None
    models: list[str] = Field(default_factory=list)
    metadata: Json | None = None
    teams: list[str | TeamOfUser] | None = None
    auto_create_key: bool = True


class UserUpdate(Request):
    """`/user/update`."""

    user_id: str | None = None
    user_email: str | None = None
    user_role: UserRole | None = None
    max_budget: float | None = None
    models: list[str] | None = None
    metadata: Json | None = None
    spend: float | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.user_id is None and self.user_email is None:
            raise ValueError("Either user id or user email must be provided")
        return self


class UserIds(Request):
    """`/user/delete`."""

    user_ids: list[str]


class KeyType(StrEnum):
    """What a key is for."""

    LLM_API = "llm_api"
    MANAGEMENT = "management"
    READ_ONLY = "read_only"
    DEFAULT = "default"


class KeyGenerate(Budgeted):
    """`/key/generate`."""

    key: str | None = None
    key_alias: str | None = None
    team_id: str | None = None
    user_id: str | None = None
    key_type: KeyType = KeyType.DEFAULT
    allowed_routes: list[str] | None = None
    models: list[str] | None = None
    metadata: Json | None = None
    duration: str | None = None
    budget_duration: str | None = None
    budget_id: str | None = None
    blocked: bool | None = None


class KeyUpdate(Budgeted):
    """`/key/update`."""

    key: str | None = None
    key_alias: str | None = None
    team_id: str | None = None
    user_id: str | None = None
    allowed_routes: list[str] | None = None
    models: list[str] | None = None
    metadata: Json | None = None
    duration: str | None = None
    budget_duration: str | None = None
    blocked: bool | None = None
    spend: float | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.key is None and self.key_alias is None:
            raise ValueError("either key or key_alias must be provided")
        return self


class KeyNames(Request):
    """`/key/delete`, and `/v2/key/info` which looks at `keys` alone."""

    keys: list[str] | None = None
    key_aliases: list[str] | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.keys and not self.key_aliases:
            raise ValueError("At least one of 'keys' or 'key_aliases' must be provided.")
        return self


class KeyName(Request):
    """`/key/block` and `/key/unblock`."""

    key: str


class Chat(Request):
    """`/chat/completions`."""

    model: str | None = None
    messages: list[Json] | None = None


class Page(Request):
    """The query of a list."""

    page: Annotated[int, Field(ge=1)] = 1


class TeamPage(Page):
    """The query of `/v2/team/list`."""

    page_size: Annotated[int, Field(ge=1, le=100)] = 10
    team_id: str | None = None
    team_alias: str | None = None
    user_id: str | None = None
    status: str | None = None


class KeyPage(Page):
    """The query of `/key/list`."""

    size: Annotated[int, Field(ge=1, le=100)] = 10
    team_id: str | None = None
    user_id: str | None = None
    key_alias: str | None = None
    key_hash: str | None = None
    status: str | None = None
    return_full_object: bool = False


class UserPage(Page):
    """The query of `/user/list`."""

    page_size: Annotated[int, Field(ge=1, le=100)] = 25
    user_ids: str | None = None
    user_email: str | None = None
