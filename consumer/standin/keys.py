"""Calls about virtual keys."""

import secrets
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from consumer.standin import errors
from consumer.standin.access import Access, Caller
from consumer.standin.durations import BadDuration, parse_duration
from consumer.standin.records import Key
from consumer.standin.requests import KeyGenerate, KeyName, KeyNames, KeyPage, KeyType, KeyUpdate, Request
from consumer.standin.routing import get, post
from consumer.standin.state import State, hash_of

_SHORTEST_KEY: Final = 16
_ROUTES_OF_TYPE: Final = {
    KeyType.LLM_API: ["llm_api_routes"],
    KeyType.MANAGEMENT: ["management_routes"],
    KeyType.READ_ONLY: ["info_routes"],
    KeyType.DEFAULT: [],
}
_HASH_LENGTH: Final = 64


class KeyQuery(Request):
    """The query of `/key/info`."""

    key: str | None = None


def key_generate(state: State, body: KeyGenerate, caller: Caller) -> object:
    """Make a key, the caller's own where one is sent. Neither team nor user need exist."""
    body.check_budget()
    _apply_defaults(state, body)
    _check_upper_bounds(state, body)
    secret = f"sk-{secrets.token_urlsafe(16)}" if body.key is None else body.key
    _check_format(secret)
    _check_alias(state, body.key_alias)
    expires = _expiry(state, body.duration)
    if body.budget_id is not None:
        raise errors.quoted(500, "Internal Server Error.")
    asked = Key(
        hash_of(secret),
        f"sk-...{secret[-4:]}",
        state.now(),
        key_alias=body.key_alias,
        team_id=body.team_id,
        user_id=body.user_id if caller.key is None else caller.user_id,
        key_type=body.key_type.value,
        allowed_routes=body.allowed_routes or list(_ROUTES_OF_TYPE[body.key_type]),
        max_budget=body.max_budget,
        budget_duration=body.budget_duration,
        expires=expires,
        models=body.models or [],
        metadata=body.metadata or {},
        blocked=body.blocked,
    )
    # A key that is there already keeps what it has, though the answer shows what was asked for.
    state.keys.setdefault(asked.hash, asked)
    return {
        **asked.listed(),
        "key": secret,
        "token_id": asked.hash,
        "duration": body.duration,
        "key_type": asked.key_type,
    }


def _apply_defaults(state: State, body: KeyGenerate) -> None:
    for name, value in state.settings.default_key_generate_params.items():
        if getattr(body, name, None) is None:
            setattr(body, name, value)


def _check_upper_bounds(state: State, body: KeyGenerate | KeyUpdate) -> None:
    """Refuse what is above a bound; a new key gets the bound where it asks for nothing."""
    for name, bound in state.settings.upperbound_key_generate_params.items():
        value = getattr(body, name, None)
        if value is None:
            if isinstance(body, KeyGenerate):
                setattr(body, name, bound)
        elif _is_above(value, bound):
            message = f"{name} is over max limit set in config - user_value={value}; max_value={bound}"
            kind = "internal_server_error" if isinstance(body, KeyGenerate) else "auth_error"
            raise errors.quoted(400, message, kind=kind)


def _is_above(value: Any, bound: Any) -> bool:
    if isinstance(bound, str):
        if value == "-1":  # never: beyond every bound
            return True
        try:
            return parse_duration(value) > parse_duration(bound)
        except BadDuration:
            return False
    return bool(value > bound)


def _check_format(secret: str) -> None:
    if not secret.startswith("sk-"):
        received = f"{secret[:4]}****{secret[-4:]}"
        message = f"Invalid key format. LiteLLM Virtual Key must start with 'sk-'. Received: {received}"
        raise errors.quoted(400, message)
    if len(secret) < _SHORTEST_KEY:
        message = "Invalid key format. LiteLLM Virtual Key must be at least 16 characters long."
        raise errors.quoted(400, message)


def _check_alias(state: State, alias: str | None) -> None:
    if alias and state.key_named(alias) is not None:
        raise errors.error(
            400,
            f"Key with alias '{alias}' already exists. Unique key aliases across all keys are required.",
            kind="bad_request_error",
            param="key_alias",
        )


def _expiry(state: State, duration: str | None) -> datetime | None:
    if duration is None:
        return None
    try:
        return state.now() + parse_duration(duration)
    except BadDuration:
        raise errors.error(500, "Invalid duration format") from None


def key_info(state: State, query: KeyQuery, caller: Caller) -> object:
    """Show a key, also one that was deleted."""
    asked = query.key or ("" if caller.key is None else caller.key.hash)
    key = state.keys.get(hash_of(asked)) or state.deleted_keys.get(hash_of(asked))
    if key is None:
        raise errors.error(404, "Key not found in database", kind="not_found_error", param="key")
    return {"key": asked, "info": {**key.shown(), "status": key.status(state.now())}}


def keys_info(state: State, body: KeyNames, _caller: Caller) -> object:
    """Show those of several keys that there are."""
    asked = body.keys or []
    found = [state.keys[hash_of(name)] for name in asked if hash_of(name) in state.keys]
    return {"key": asked, "info": [key.listed() for key in found]}


def key_update(state: State, body: KeyUpdate, _caller: Caller) -> object:
    """Set the fields sent. Binds calls at once."""
    body.check_budget("auth_error")
    key = state.key_named(body.key_alias or "") if body.key is None else state.keys.get(hash_of(body.key))
    if key is None:
        raise errors.error(404, "Key not found.", kind="not_found_error", param="key")
    _check_upper_bounds(state, body)
    if body.sent("models") and body.models is None:
        raise errors.authentication(
            400,
            "Unable to match input value to any allowed input type for the field. Parse errors: "
            "[`data.models`: A value is required but not set]",
        )
    if body.key_alias != key.key_alias:
        _check_alias(state, body.key_alias)
    if body.sent("team_id"):
        _check_move(state, key, body.team_id)
    if body.sent("duration"):
        key.expires = _new_expiry(state, body.duration)
    for name in (
        "key_alias",
        "team_id",
        "user_id",
        "allowed_routes",
        "models",
        "max_budget",
        "budget_duration",
        "blocked",
    ):
        if body.sent(name):
            setattr(key, name, getattr(body, name))
    if body.sent("metadata"):
        key.metadata = body.metadata or {}
    if body.spend is not None:
        key.spend = Decimal(str(body.spend))
    return {"key": body.key, **key.listed()}


def _check_move(state: State, key: Key, team_id: str | None) -> None:
    if team_id is None:
        return
    team = state.teams.get(team_id)
    if team is None:
        absent = f"Team doesn't exist in db. Team={team_id}. Create team via `/team/new` call."
        raise errors.quoted(404, absent, kind="auth_error")
    if key.user_id is not None and team.member(key.user_id) is None:
        raise errors.quoted(
            403, f"User={key.user_id} is not a member of the team={team_id}.", kind="auth_error"
        )


def _new_expiry(state: State, duration: str | None) -> datetime | None:
    if duration is None or duration == "-1":
        return None
    try:
        return state.now() + parse_duration(duration)
    except BadDuration:
        raise errors.authentication(400, "Invalid duration format") from None


def key_delete(state: State, body: KeyNames, _caller: Caller) -> object:
    """Delete keys by key, hash or alias; the answer lists what was asked, found or not."""
    asked = body.keys or body.key_aliases or []
    by_alias = not body.keys
    found = [state.key_named(name) if by_alias else state.keys.get(hash_of(name)) for name in asked]
    if not any(found):
        raise errors.quoted(404, "No keys found")
    for key in found:
        if key is not None:
            state.drop_key(key)
    return {"deleted_keys": asked}


def key_block(state: State, body: KeyName, _caller: Caller) -> object:
    """Block a key at once."""
    return _set_blocked(state, body.key, blocked=True)


def key_unblock(state: State, body: KeyName, _caller: Caller) -> object:
    """Unblock a key at once."""
    return _set_blocked(state, body.key, blocked=False)


def _set_blocked(state: State, name: str, *, blocked: bool) -> object:
    if not name.startswith("sk-") and len(name) != _HASH_LENGTH:
        raise errors.error(400, "Invalid key format.", kind="bad_request_error", param="key")
    key = state.keys.get(hash_of(name))
    if key is None:
        raise errors.error(404, "Key not found.", kind="not_found_error", param="key")
    key.blocked = blocked
    return key.listed()


def key_page(state: State, query: KeyPage, caller: Caller) -> object:
    """List keys by pages of at most 100, as hashes or in full."""
    keys = state.deleted_keys if query.status == "deleted" else state.keys
    found = [key for key in keys.values() if _is_listed(key, query, caller)]
    first = (query.page - 1) * query.size
    page = found[first : first + query.size]
    return {
        "keys": [key.listed() if query.return_full_object else key.hash for key in page],
        "total_count": len(found),
        "current_page": query.page,
        "total_pages": -(-len(found) // query.size),
    }


def _is_listed(key: Key, query: KeyPage, caller: Caller) -> bool:
    return (
        (caller.key is None or key.user_id == caller.user_id)
        and (query.team_id is None or key.team_id == query.team_id)
        and (query.user_id is None or key.user_id == query.user_id)
        and (query.key_alias is None or key.key_alias == query.key_alias)
        and (query.key_hash is None or key.hash == query.key_hash)
    )


ROUTES = (
    post("/key/generate", KeyGenerate, key_generate, Access.OWN),
    get("/key/info", KeyQuery, key_info, Access.OWN),
    post("/v2/key/info", KeyNames, keys_info),
    post("/key/update", KeyUpdate, key_update),
    post("/key/delete", KeyNames, key_delete, Access.OWN),
    post("/key/block", KeyName, key_block),
    post("/key/unblock", KeyName, key_unblock),
    get("/key/list", KeyPage, key_page, Access.OWN),
)
