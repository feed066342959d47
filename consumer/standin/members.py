"""Calls about who belongs to a team."""

from typing import Any, Final

from consumer.standin import errors
from consumer.standin.access import Caller
from consumer.standin.records import Membership, Team, TeamMember
from consumer.standin.requests import Member, MemberAdd, MemberOfTeam, MemberUpdate
from consumer.standin.routing import post
from consumer.standin.state import State, new_id

_PREMIUM: Final = (
    "Assigning team admins is a premium feature. You must be a LiteLLM Enterprise user to use this feature."
)


def member_add(state: State, body: MemberAdd, _caller: Caller) -> object:
    """Add members; one that is there already is refused alone, and skipped in a list."""
    team = state.find_team(body.team_id)
    members = body.member
    if any(member.role == "admin" for member in members):
        raise errors.detail(400, _PREMIUM)
    if team is None:
        message = f"Team doesn't exist in db. Team={body.team_id}. Create team via `/team/new` call."
        raise errors.detail(404, message)
    new = [member for member in members if team.member(member.user_id, member.user_email) is None]
    if not new:
        raise _already_in(team, members[0] if body.alone else None)
    rows = []
    for member in new:
        user_id = member.user_id or _user_with(state, member.user_email)
        entry = TeamMember(user_id, member.role, member.user_email)
        rows.append(state.make_member(team, entry, max_budget=body.max_budget_in_team))
    return {
        **team.shown(),
        "updated_users": [state.users[row.user_id].shown() for row in rows],
        "updated_team_memberships": [row.shown() for row in rows],
    }


def _user_with(state: State, email: str | None) -> str:
    user = None if email is None else state.user_with_email(email)
    if user is not None:
        return user.user_id
    return state.make_user(new_id(), user_email=email, user_role="internal_user").user_id


def _already_in(team: Team, member: Member | None) -> errors.ApiError:
    whose = "All users are already in team."
    if member is not None:
        whose = f"User already in team. Member: user_id={member.user_id}, user_email={member.user_email}."
    existing = ", ".join(
        f"Member(user_id={entry.user_id!r}, user_email={entry.user_email!r}, role={entry.role!r})"
        for entry in team.members
    )
    return errors.error(
        400,
        f"{whose} Existing members=[{existing}]",
        kind="team_member_already_in_team",
        param="member",
    )


def member_update(state: State, body: MemberUpdate, _caller: Caller) -> object:
    """Set a member's budget; of a non-member, this makes a membership row without a member."""
    team = _team(state, body.team_id)
    entry = team.member(body.user_id, body.user_email)
    user_id = body.user_id or (None if entry is None else entry.user_id)
    if user_id is None:
        raise errors.detail(400, f"User id doesn't exist in team table. Data={body}")
    row = state.memberships.setdefault((team.team_id, user_id), Membership(team.team_id, user_id))
    if body.sent("max_budget_in_team"):
        row.max_budget = body.max_budget_in_team
        row.budget_id = row.budget_id or new_id()
    answer: dict[str, Any] = {
        "user_id": user_id,
        "user_email": body.user_email,
        "team_id": team.team_id,
        "max_budget_in_team": body.max_budget_in_team,
    }
    return answer


def member_delete(state: State, body: MemberOfTeam, _caller: Caller) -> object:
    """Take a user out of a team."""
    team = _team(state, body.team_id)
    entry = team.member(body.user_id, body.user_email)
    if entry is None:
        raise errors.detail(400, "User not found in team")
    state.drop_member(team, entry.user_id)
    return team.shown()


def _team(state: State, team_id: str) -> Team:
    team = state.teams.get(team_id)
    if team is None:
        raise errors.detail(400, f"Team id={team_id} does not exist in db")
    return team


ROUTES = (
    post("/team/member_add", MemberAdd, member_add),
    post("/team/member_update", MemberUpdate, member_update),
    post("/team/member_delete", MemberOfTeam, member_delete),
)
