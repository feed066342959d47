"""Who calls, and whether that key may call this."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from consumer.standin import errors
from consumer.standin.records import ADMIN_USER, Key, stamp
from consumer.standin.state import State, hash_of

_LLM_API: Final = "llm_api_routes"


class Access(Enum):
    """Which keys a call takes."""

    PUBLIC = auto()
    """None at all."""
    MODELS = auto()
    """Every key: what keys are there for."""
    OWN = auto()
    """Every key but those for model calls alone, about what is its own."""
    ADMIN = auto()
    """The master key alone."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a virtual key, or None for the master key."""

    key: Key | None

    @property
    def user_id(self) -> str | None:
        """Whose key it is."""
        return ADMIN_USER if self.key is None else self.key.user_id


def authenticate(
    state: State, master_key: str, authorization: str | None, path: str, access: Access
) -> Caller:
    """Find the caller by the request's `Authorization`, and refuse whom the call is not for.

    Raises:
        ApiError: 401 for an unknown, blocked or expired key, or one of a blocked team; 403 for a call not
            allowed to it.
    """
    token = (authorization or "").removeprefix("Bearer ").strip()
    if access is Access.PUBLIC or token == master_key:
        return Caller(None)
    if not token:
        raise errors.authentication(401, "No api key passed in.")
    if not state.database_up:
        raise errors.authentication_database_down()
    key = state.keys.get(hash_of(token))
    if key is None:
        raise errors.authentication(
            401,
            f"Invalid proxy server token passed. Received API Key = sk-...{token[-4:]}, Key Hash (Token) "
            f"={hash_of(token)}. Unable to find token in cache or `LiteLLM_VerificationTokenTable`",
            kind="token_not_found_in_db",
            param="key",
        )
    _check_usable(state, key)
    _check_route(key, path, access)
    _check_team(state, key)
    return Caller(key)


def _check_usable(state: State, key: Key) -> None:
    if key.blocked:
        raise errors.authentication(401, "Key is blocked. Update via `/key/unblock` if you're an admin.")
    now = state.now()
    if key.status(now) == "expired":
        assert key.expires is not None
        raise errors.error(
            401,
            f"Authentication Error - Expired Key. Key Expiry time {stamp(key.expires)} "
            f"and current time {stamp(now)}",
            kind="expired_key",
            param=f"sk-...{key.hash[-4:]}",
        )


def _check_route(key: Key, path: str, access: Access) -> None:
    allowed = key.allowed_routes
    if allowed:
        if path in allowed or (access is Access.MODELS and _LLM_API in allowed):
            return
        raise errors.ApiError(
            403,
            {
                "detail": "Virtual key is not allowed to call this route. "
                f"Only allowed to call routes: {allowed}. Tried to call route: {path}"
            },
        )
    if access is Access.ADMIN:
        raise errors.authentication(
            401,
            "Only proxy admin can be used to generate, delete, update info for new keys/users/teams. "
            f"Route={path}. Your role=internal_user. Your user_id={key.user_id}",
        )


def _check_team(state: State, key: Key) -> None:
    if key.team_id is None:
        return
    team = state.teams.get(key.team_id)
    if team is None:
        absent = f"Team doesn't exist in db. Team={key.team_id}. Create team via `/team/new` call."
        raise errors.quoted(404, absent, kind="auth_error")
    if team.is_blocked(state.now()):
        raise errors.authentication(
            401, f"Team={key.team_id} is blocked. Update via `/team/unblock` if you're an admin."
        )
