"""Calls about users."""

import secrets

from consumer.standin import errors
from consumer.standin.access import Access, Caller
from consumer.standin.records import Key, TeamMember, User
from consumer.standin.requests import Request, TeamOfUser, UserIds, UserNew, UserPage, UserUpdate
from consumer.standin.routing import get, post
from consumer.standin.state import State, hash_of, new_id


class UserQuery(Request):
    """The query of `/user/info` and `/v2/user/info`; without an id it asks for the caller."""

    user_id: str | None = None


def user_new(state: State, body: UserNew, _caller: Caller) -> object:
    """Make a user, perhaps as a member of teams, and with a key unless told otherwise."""
    user_id = new_id() if body.user_id is None else body.user_id
    if user_id in state.users:
        raise errors.quoted(409, f"User with id {user_id} already exists")
    if body.user_email is not None and (other := state.user_with_email(body.user_email)) is not None:
        raise errors.quoted(409, f"User with email {other.user_email} already exists")
    user = state.make_user(
        user_id,
        user_email=body.user_email,
        user_role=body.user_role,
        max_budget=body.max_budget,
        models=list(body.models),
        metadata=body.metadata or {},
    )
    for asked in body.teams or ():
        wish = TeamOfUser(team_id=asked) if isinstance(asked, str) else asked
        team = state.teams.get(wish.team_id)
        if team is not None and team.member(user_id) is None:
            entry = TeamMember(user_id, wish.user_role, body.user_email)
            state.make_member(team, entry, max_budget=wish.max_budget_in_team)
    secret = _make_key(state, user) if body.auto_create_key else None
    return {
        **user.shown(),
        "teams": None if body.teams is None else list(user.teams),
        "key": secret or "",
        "token": None if secret is None else hash_of(secret),
        "expires": None,
    }


def _make_key(state: State, user: User) -> str:
    secret = f"sk-{secrets.token_urlsafe(16)}"
    key = Key(hash_of(secret), f"sk-...{secret[-4:]}", state.now(), user_id=user.user_id)
    state.keys[key.hash] = key
    return secret


def user_info_v2(state: State, query: UserQuery, caller: Caller) -> object:
    """Show a user's own record."""
    user_id = query.user_id or caller.user_id or ""
    user = state.users.get(user_id)
    if user is None:
        raise errors.error(404, f"User not found: {user_id}")
    return user.shown()


def user_info(state: State, query: UserQuery, caller: Caller) -> object:
    """Show a user with keys and teams."""
    user_id = query.user_id or caller.user_id or ""
    user = state.users.get(user_id)
    if user is None:
        raise errors.error(404, f"User {user_id} not found")
    return {
        "user_id": user_id,
        "user_info": user.shown(),
        "keys": [key.listed() for key in state.keys_of(user_id=user_id)],
        "teams": [state.teams[team_id].shown() for team_id in user.teams if team_id in state.teams],
    }


def user_update(state: State, body: UserUpdate, _caller: Caller) -> object:
    """Set the fields sent, except that empty ones are passed over; an unknown user is made."""
    known = None if body.user_email is None else state.user_with_email(body.user_email)
    user_id = body.user_id or (new_id() if known is None else known.user_id)
    user = state.users.get(user_id) or User(user_id, state.now())
    state.users[user_id] = user
    if body.sent("max_budget"):
        user.max_budget = body.max_budget
    if body.metadata:
        user.metadata = body.metadata
    if body.models:
        user.models = body.models
    if body.user_email is not None:
        user.user_email = body.user_email
    if body.user_role is not None:
        user.user_role = body.user_role
    if body.spend is not None:
        user.set_spend(body.spend)
    return {"user_id": user_id, "data": user.shown()}


def user_delete(state: State, body: UserIds, _caller: Caller) -> object:
    """Delete users with their keys and memberships in all teams.

    An absent id ends the call before any user is deleted, but not before the earlier ones have left their
    teams.
    """
    users = []
    for user_id in body.user_ids:
        user = state.users.get(user_id)
        if user is None:
            raise errors.detail(404, f"User not found, passed user_id={user_id}")
        state.leave_teams(user)
        users.append(user)
    for user in users:
        state.drop_user(user)
    return len(users)


def user_page(state: State, query: UserPage, _caller: Caller) -> object:
    """List users by pages; a single one of `user_ids` matches as a part of an id."""
    wanted = (query.user_ids or "").split(",")
    found = [
        user
        for user in state.users.values()
        if (user.user_id in wanted if len(wanted) > 1 else wanted[0] in user.user_id)
        and (query.user_email or "").lower() in (user.user_email or "").lower()
    ]
    first = (query.page - 1) * query.page_size
    return {
        "users": [user.shown() for user in found[first : first + query.page_size]],
        "total": len(found),
        "page": query.page,
        "page_size": query.page_size,
        "total_pages": -(-len(found) // query.page_size),
    }


ROUTES = (
    post("/user/new", UserNew, user_new),
    get("/v2/user/info", UserQuery, user_info_v2, Access.OWN),
    get("/user/info", UserQuery, user_info, Access.OWN),
    post("/user/update", UserUpdate, user_update),
    post("/user/delete", UserIds, user_delete),
    get("/user/list", UserPage, user_page),
)
