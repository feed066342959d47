"""What the proxy's database holds, and how the proxy shows it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

Json = dict[str, Any]

ADMIN_USER: Final = "default_user_id"
"""Who acts under the master key; the proxy makes it an admin of every team."""


def stamp(moment: datetime) -> str:
    """Write a moment as the proxy does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


@dataclass(slots=True)
class TeamMember:
    """An entry of a team's member list."""

    user_id: str
    role: str
    user_email: str | None = None

    def shown(self) -> Json:
        """Show it."""
        return {"user_id": self.user_id, "user_email": self.user_email, "role": self.role}


@dataclass(slots=True)
class Membership:
    """A membership row, which outlives the entry in the member list and may come without one."""

    team_id: str
    user_id: str
    budget_id: str | None = None
    max_budget: float | None = None
    spend: Decimal = Decimal(0)

    def shown(self) -> Json:
        """Show it with its budget."""
        budget = {"budget_id": self.budget_id, "max_budget": self.max_budget}
        return {
            "user_id": self.user_id,
            "team_id": self.team_id,
            "budget_id": self.budget_id,
            "spend": float(self.spend),
            "total_spend": float(self.spend),
            "litellm_budget_table": None if self.budget_id is None else budget,
        }


@dataclass(slots=True)
class Team:
    """A team. `/team/block` reaches calls only after a while, so what is stored and what binds differ."""

    team_id: str
    created_at: datetime
    team_alias: str | None = None
    max_budget: float | None = None
    models: list[str] = field(default_factory=list)
    metadata: Json | None = field(default_factory=dict)
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    budget_duration: str | None = None
    members: list[TeamMember] = field(default_factory=list)
    spend: Decimal = Decimal(0)
    blocked: bool = False
    member_budget: tuple[str, float] | None = None
    _binding: bool = False
    _binds_from: datetime | None = None

    def block(self, blocked: bool, *, now: datetime, after: timedelta = timedelta(0)) -> None:  # noqa: FBT001
        """Block or unblock the team for calls made after a while."""
        self._binding = self.is_blocked(now)
        self._binds_from = now + after
        self.blocked = blocked

    def is_blocked(self, now: datetime) -> bool:
        """Whether calls are refused."""
        return self.blocked if self._binds_from is None or now >= self._binds_from else self._binding

    def member(self, user_id: str | None, user_email: str | None = None) -> TeamMember | None:
        """Find a member by id, or by an e-mail that stands in the list."""
        for member in self.members:
            if member.user_id == user_id or (user_email is not None and member.user_email == user_email):
                return member
        return None

    def shown(self) -> Json:
        """Show it."""
        return {
            "team_id": self.team_id,
            "team_alias": self.team_alias,
            "organization_id": None,
            "admins": [],
            "members": [],
            "members_with_roles": [member.shown() for member in self.members],
            "metadata": self.metadata,
            "tpm_limit": self.tpm_limit,
            "rpm_limit": self.rpm_limit,
            "max_budget": self.max_budget,
            "budget_duration": self.budget_duration,
            "budget_reset_at": None,
            "models": list(self.models),
            "blocked": self.blocked,
            "spend": float(self.spend),
            "router_settings": {},
            "created_at": stamp(self.created_at),
        }


@dataclass(slots=True)
class User:
    """A user."""

    user_id: str
    created_at: datetime
    user_email: str | None = None
    user_role: str | None = None
    max_budget: float | None = None
    models: list[str] = field(default_factory=list)
    metadata: Json = field(default_factory=dict)
    teams: list[str] = field(default_factory=list)
    spend: Decimal = Decimal(0)

    def set_spend(self, spend: float) -> None:
        """Put the spend at a value."""
        self.spend = Decimal(str(spend))

    def shown(self) -> Json:
        """Show it."""
        return {
            "user_id": self.user_id,
            "user_email": self.user_email,
            "user_alias": None,
            "user_role": self.user_role,
            "spend": float(self.spend),
            "max_budget": self.max_budget,
            "models": list(self.models),
            "metadata": self.metadata,
            "teams": list(self.teams),
            "created_at": stamp(self.created_at),
        }


@dataclass(slots=True)
class Key:
    """A virtual key; the key itself is not stored."""

    hash: str
    key_name: str
    created_at: datetime
    key_alias: str | None = None
    team_id: str | None = None
    user_id: str | None = None
    key_type: str = "default"
    allowed_routes: list[str] = field(default_factory=list)
    max_budget: float | None = None
    budget_duration: str | None = None
    expires: datetime | None = None
    models: list[str] = field(default_factory=list)
    metadata: Json = field(default_factory=dict)
    blocked: bool | None = None
    spend: Decimal = Decimal(0)
    total_spend: Decimal = Decimal(0)
    deleted_at: datetime | None = None

    def status(self, now: datetime) -> str:
        """Name its state as `/key/info` does."""
        if self.deleted_at is not None:
            return "deleted"
        return "expired" if self.expires is not None and now >= self.expires else "active"

    def shown(self) -> Json:
        """Show it, without its hash."""
        return {
            "key_name": self.key_name,
            "key_alias": self.key_alias,
            "spend": float(self.spend),
            "total_spend": float(self.total_spend),
            "expires": None if self.expires is None else stamp(self.expires),
            "models": list(self.models),
            "user_id": self.user_id,
            "team_id": self.team_id,
            "metadata": self.metadata,
            "blocked": self.blocked,
            "max_budget": self.max_budget,
            "budget_duration": self.budget_duration,
            "budget_reset_at": None,
            "allowed_routes": list(self.allowed_routes),
            "key_type": self.key_type,
            "router_settings": {},
            "organization_id": None,
            "litellm_budget_table": None,
            "created_at": stamp(self.created_at),
            "created_by": ADMIN_USER,
        }

    def listed(self) -> Json:
        """Show it with its hash, as lists of keys do."""
        return {"token": self.hash, **self.shown()}
