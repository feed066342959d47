"""Calls about teams."""

from datetime import timedelta
from typing import Any, Final

from consumer.standin import errors
from consumer.standin.access import Access, Caller
from consumer.standin.records import ADMIN_USER, Membership, Team, TeamMember
from consumer.standin.requests import Request, TeamId, TeamIds, TeamNew, TeamPage, TeamUpdate
from consumer.standin.routing import get, post
from consumer.standin.state import State, new_id

_BLOCK_REACHES_CALLS_AFTER: Final = timedelta(seconds=60)
_DEFAULT_BUDGET: Final = "team-budget-"
_SETTABLE: Final = (
    "team_alias",
    "max_budget",
    "models",
    "metadata",
    "tpm_limit",
    "rpm_limit",
    "budget_duration",
)


class TeamQuery(Request):
    """The query of `/team/info`."""

    team_id: str | None = None


def team_new(state: State, body: TeamNew, _caller: Caller) -> object:
    """Make a team; its id, unlike its alias, is unique."""
    body.check_budget()
    team_id = body.team_id or new_id()
    if team_id in state.teams:
        raise errors.quoted(400, f"Team id = {team_id} already exists. Please use a different team id.")
    defaults = state.settings.default_team_params
    team = Team(
        team_id,
        state.now(),
        team_alias=body.team_alias,
        max_budget=defaults.get("max_budget") if body.max_budget is None else body.max_budget,
        models=body.models or list(defaults.get("models", ())),
        metadata=body.metadata or {},
        tpm_limit=body.tpm_limit,
        rpm_limit=body.rpm_limit,
        budget_duration=body.budget_duration or defaults.get("budget_duration"),
        blocked=body.blocked,
    )
    state.teams[team_id] = team
    for member in body.members_with_roles:
        user_id = member.user_id or new_id()
        if team.member(user_id) is None:
            state.make_member(team, TeamMember(user_id, member.role, member.user_email))
    if team.member(ADMIN_USER) is None:
        state.make_member(team, state.admin())
    return team.shown()


def team_info(state: State, query: TeamQuery, _caller: Caller) -> object:
    """Show a team with memberships and keys."""
    if query.team_id is None:
        message = repr({"message": "Malformed request. No team id passed in."})
        raise errors.error(422, message, kind="auth_error", param="None")
    team = state.find_team(query.team_id)
    if team is None:
        message = repr({"message": f"Team not found, passed team id: {query.team_id}."})
        raise errors.error(404, message, kind="auth_error", param="None")
    shown = team.shown()
    for member in shown["members_with_roles"]:
        member["user_alias"] = None
    return {
        "team_id": team.team_id,
        "team_info": shown,
        "keys": [key.listed() for key in state.keys_of(team_id=team.team_id)],
        "team_memberships": [
            _with_source(row) for row in state.memberships.values() if row.team_id == team.team_id
        ],
    }


def _with_source(row: Membership) -> dict[str, Any]:
    source = "none"
    if row.budget_id is not None:
        source = "team_default" if row.budget_id.startswith(_DEFAULT_BUDGET) else "custom"
    return {**row.shown(), "budget_source": source}


def team_update(state: State, body: TeamUpdate, _caller: Caller) -> object:
    """Set the fields sent; metadata is replaced as a whole. Binds calls at once."""
    body.check_budget()
    team = state.teams.get(body.team_id)
    if team is None:
        raise errors.quoted(404, f"Team not found, passed team_id={body.team_id}")
    for name in ("models", "blocked"):
        if body.sent(name) and getattr(body, name) is None:
            raise errors.error(
                500,
                "Unable to match input value to any allowed input type for the field. Parse errors: "
                f"[`data.{name}`: A value is required but not set]",
            )
    for name in _SETTABLE:
        if body.sent(name):
            setattr(team, name, getattr(body, name))
    if body.blocked is not None:
        team.block(body.blocked, now=state.now())
    if body.team_member_budget is not None:
        _set_member_budget(state, team, body.team_member_budget)
    if team.member_budget is not None:
        team.metadata = {**(team.metadata or {}), "team_member_budget_id": team.member_budget[0]}
    return {"team_id": team.team_id, "data": team.shown()}


def _set_member_budget(state: State, team: Team, amount: float) -> None:
    """Set what members get who have no budget of their own, also those that are there."""
    budget_id = f"{_DEFAULT_BUDGET}{new_id()}" if team.member_budget is None else team.member_budget[0]
    team.member_budget = budget_id, amount
    for row in state.memberships.values():
        if row.team_id == team.team_id and row.budget_id in {None, budget_id}:
            row.budget_id, row.max_budget = team.member_budget


def team_delete(state: State, body: TeamIds, _caller: Caller) -> object:
    """Delete teams with their keys; one absent id, and none is deleted."""
    teams = []
    for team_id in body.team_ids:
        team = state.find_team(team_id)
        if team is None:
            raise errors.detail(404, f"Team not found, passed team_id={team_id}")
        teams.append(team)
    for team in teams:
        state.drop_team(team)
    return {"deleted_teams": body.team_ids}


def team_block(state: State, body: TeamId, _caller: Caller) -> object:
    """Block a team for calls made a minute later."""
    return _set_blocked(state, body.team_id, blocked=True)


def team_unblock(state: State, body: TeamId, _caller: Caller) -> object:
    """Unblock a team for calls made a minute later."""
    return _set_blocked(state, body.team_id, blocked=False)


def _set_blocked(state: State, team_id: str, *, blocked: bool) -> object:
    team = state.teams.get(team_id)
    if team is None:
        raise errors.detail(404, f"Team not found, passed team_id={team_id}")
    team.block(blocked, now=state.now(), after=_BLOCK_REACHES_CALLS_AFTER)
    return team.shown()


def team_page(state: State, query: TeamPage, _caller: Caller) -> object:
    """List teams by pages of at most 100."""
    teams = state.deleted_teams if query.status == "deleted" else state.teams
    found = [team for team in teams.values() if _is_listed(team, query)]
    first = (query.page - 1) * query.page_size
    return {
        "teams": [
            {
                **team.shown(),
                "members_count": len(team.members),
                "keys_count": len(state.keys_of(team_id=team.team_id)),
            }
            for team in found[first : first + query.page_size]
        ],
        "total": len(found),
        "page": query.page,
        "page_size": query.page_size,
        "total_pages": -(-len(found) // query.page_size),
    }


def _is_listed(team: Team, query: TeamPage) -> bool:
    return (
        (query.team_id is None or team.team_id == query.team_id)
        and (query.team_alias is None or query.team_alias in (team.team_alias or ""))
        and (query.user_id is None or team.member(query.user_id) is not None)
    )


def team_list(state: State, _query: Request, _caller: Caller) -> object:
    """List all teams at once, with their keys."""
    return [
        {**team.shown(), "keys": [key.listed() for key in state.keys_of(team_id=team.team_id)]}
        for team in state.teams.values()
    ]


ROUTES = (
    post("/team/new", TeamNew, team_new),
    get("/team/info", TeamQuery, team_info, Access.OWN),
    post("/team/update", TeamUpdate, team_update),
    post("/team/delete", TeamIds, team_delete),
    post("/team/block", TeamId, team_block),
    post("/team/unblock", TeamId, team_unblock),
    get("/v2/team/list", TeamPage, team_page),
    get("/team/list", Request, team_list),
)
