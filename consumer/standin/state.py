"""The proxy's database and settings, with the rules by which one record's end is another's."""

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from consumer.standin.records import ADMIN_USER, Key, Membership, Team, TeamMember, User


def hash_of(key: str) -> str:
    """Give the hash under which a key is stored; a hash is taken as it is."""
    return hashlib.sha256(key.encode()).hexdigest() if key.startswith("sk-") else key


def new_id() -> str:
    """Make up an id."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The proxy's `litellm_settings` that change what a request asked for, and the models it serves.

    Attributes:
        models: Model names, with their price in USD for one chat call.
        default_team_params: Take effect where a new team's field is absent or null.
        default_internal_user_params: Also for users made by `/team/new` and `/team/member_add`.
        default_key_generate_params: Take effect where a new key's field is absent or null.
        upperbound_key_generate_params: Greatest values; `duration` also where none is asked for.
    """

    models: Mapping[str, Decimal] = field(
        default_factory=lambda: {"fake": Decimal("0.05"), "fake2": Decimal("0.05")}
    )
    default_team_params: Mapping[str, Any] = field(default_factory=dict)
    default_internal_user_params: Mapping[str, Any] = field(default_factory=dict)
    default_key_generate_params: Mapping[str, Any] = field(default_factory=dict)
    upperbound_key_generate_params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """All that the proxy knows.

    `database_up` False makes it forget, as the proxy does, without losing anything.
    """

    settings: ProxySettings = field(default_factory=ProxySettings)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    database_up: bool = True
    teams: dict[str, Team] = field(default_factory=dict)
    deleted_teams: dict[str, Team] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    deleted_keys: dict[str, Key] = field(default_factory=dict)
    memberships: dict[tuple[str, str], Membership] = field(default_factory=dict)

    def make_user(self, user_id: str, **fields: Any) -> User:
        """Make a user under the proxy's defaults, which also override an explicit null or empty list."""
        defaults = self.settings.default_internal_user_params
        user = User(user_id, self.now(), **fields)
        if user.max_budget is None:
            user.max_budget = defaults.get("max_budget")
        if not user.models:
            user.models = list(defaults.get("models", ()))
        self.users[user_id] = user
        return user

    def make_member(self, team: Team, member: TeamMember, *, max_budget: float | None = None) -> Membership:
        """Make a user a member: entry, row and the user's own list; an unknown user is made."""
        user = self.users.get(member.user_id) or self.make_user(member.user_id, user_role="internal_user")
        team.members.append(member)
        if team.team_id not in user.teams:
            user.teams.append(team.team_id)
        row = Membership(team.team_id, member.user_id)
        if max_budget is not None:
            row.budget_id, row.max_budget = new_id(), max_budget
        elif team.member_budget is not None:
            row.budget_id, row.max_budget = team.member_budget
        self.memberships[team.team_id, member.user_id] = row
        return row

    def drop_member(self, team: Team, user_id: str) -> None:
        """End a membership; the user's keys of that team end with it."""
        team.members = [member for member in team.members if member.user_id != user_id]
        self.memberships.pop((team.team_id, user_id), None)
        user = self.users.get(user_id)
        if user is not None and team.team_id in user.teams:
            user.teams.remove(team.team_id)
        for key in self.keys_of(team_id=team.team_id, user_id=user_id):
            self.drop_key(key)

    def drop_team(self, team: Team) -> None:
        """Delete a team with its memberships and keys."""
        for user_id in {user_id for team_id, user_id in self.memberships if team_id == team.team_id}:
            del self.memberships[team.team_id, user_id]
        for user in self.users.values():
            if team.team_id in user.teams:
                user.teams.remove(team.team_id)
        for key in self.keys_of(team_id=team.team_id):
            self.drop_key(key)
        self.deleted_teams[team.team_id] = self.teams.pop(team.team_id)

    def leave_teams(self, user: User) -> None:
        """Take a user out of all member lists."""
        for team in self.teams.values():
            team.members = [member for member in team.members if member.user_id != user.user_id]

    def drop_user(self, user: User) -> None:
        """Delete a user with the memberships and keys in all teams; of those keys no record is kept."""
        self.leave_teams(user)
        for team_id in self.teams:
            self.memberships.pop((team_id, user.user_id), None)
        for key in self.keys_of(user_id=user.user_id):
            del self.keys[key.hash]
        del self.users[user.user_id]

    def drop_key(self, key: Key) -> None:
        """Delete a key; `/key/info` goes on showing it as deleted."""
        key.deleted_at = self.now()
        self.deleted_keys[key.hash] = self.keys.pop(key.hash)

    def keys_of(self, *, team_id: str | None = None, user_id: str | None = None) -> list[Key]:
        """List the keys of a team, of a user, or of a user in a team."""
        return [
            key
            for key in self.keys.values()
            if (team_id is None or key.team_id == team_id) and (user_id is None or key.user_id == user_id)
        ]

    def find_team(self, team_id: str) -> Team | None:
        """Look a team up as calls do that take a silent database for one without the team."""
        return self.teams.get(team_id) if self.database_up else None

    def key_named(self, alias: str) -> Key | None:
        """Find a key by its alias, which no two keys share."""
        return next((key for key in self.keys.values() if key.key_alias == alias), None)

    def user_with_email(self, email: str) -> User | None:
        """Find a user by e-mail, whatever its case."""
        wanted = email.lower()
        return next((user for user in self.users.values() if (user.user_email or "").lower() == wanted), None)

    def admin(self) -> TeamMember:
        """Make the entry that every team gets."""
        return TeamMember(ADMIN_USER, "admin")
