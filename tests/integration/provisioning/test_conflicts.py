"""What is there before us: whose it is, and what becomes of it."""

from decimal import Decimal
from typing import Any

import pytest

from consumer.provisioning.keys import key_alias
from consumer.provisioning.marks import Mark
from consumer.standin import Fault
from consumer.standin.records import Membership
from consumer.standin.state import State
from tests.integration.provisioning.world import OUR_SOURCE, World, org_created, user_joined


async def their_team(
    world: World, *, metadata: dict[str, Any] | None = None, members: tuple[str, ...] = ()
) -> None:
    """A team that somebody else made, with a key of its own."""
    await world.client.team_new(
        "org",
        team_alias="Theirs",
        max_budget=Decimal(9),
        blocked=False,
        models=["fake2"],
        metadata=metadata or {"logging": "theirs"},
        members=("their-user", *members),
    )
    await world.client.key_generate("sk-" + "t" * 20, key_alias="theirs", team_id="org", user_id="their-user")
    world.standin.log.clear()


async def test_a_team_of_others_is_a_conflict_and_stays_as_it_is(world: World) -> None:
    await their_team(world)
    cause = org_created()
    await world.take(cause)
    await world.settle()

    type_, data = await world.outcome_of(cause)
    assert type_ == "org.provisioning_failed"
    assert (data["step"], data["error_code"]) == ("team", "team_conflict")
    assert (data["compensation"], data["orphans"], data["attempts"]) == ("not_needed", [], 1)
    await world.run_for(100, step=20)
    team = world.standin.state.teams["org"]
    assert (team.team_alias, team.max_budget, team.metadata) == ("Theirs", 9.0, {"logging": "theirs"})
    assert [key.key_alias for key in world.live_keys()] == ["theirs"]
    assert "owner-of-org" not in world.standin.state.users
    assert await world.status() == "failed"


@pytest.mark.parametrize("joined", [True, False])
async def test_a_team_of_others_is_adopted_where_the_setting_says_so(world: World, *, joined: bool) -> None:
    world.restart(adopt_existing=True)
    await their_team(world, members=("owner-of-org",) if joined else ())
    cause = org_created(initial_credits=3)
    await world.take(cause)
    await world.settle()

    type_, data = await world.outcome_of(cause)
    assert type_ == "org.provisioned"
    assert (data["created"], data["adopted"]) == (True, True)
    assert (data["name"], data["models"]) == ("Acme", ["fake2"])
    assert Decimal(data["max_budget_usd"]) == 9
    team = world.standin.state.teams["org"]
    assert (team.team_alias, team.max_budget, team.models) == ("Theirs", 9.0, ["fake2"])
    assert team.metadata is not None
    assert team.metadata["logging"] == "theirs"
    mark = Mark.of(team.metadata)
    assert mark is not None
    assert (mark.source, mark.org_id, mark.adopted) == (OUR_SOURCE, "org", True)
    assert sorted(str(key.user_id) for key in world.live_keys()) == ["owner-of-org", "their-user"]
    assert {member.user_id for member in team.members} >= {"their-user", "owner-of-org"}


async def test_an_adopted_team_is_not_removed_when_its_provisioning_fails(world: World) -> None:
    world.restart(adopt_existing=True)
    await their_team(world)
    world.standin.fail(Fault("/team/member_add", status=400))
    cause = org_created()
    await world.take(cause)
    await world.run_for(100)

    type_, data = await world.outcome_of(cause)
    assert type_ == "org.provisioning_failed"
    assert (data["error_code"], data["compensation"], data["orphans"]) == ("litellm_rejected", "done", [])
    assert [key.key_alias for key in world.live_keys()] == ["theirs"]

    await world.retry_failed()
    await world.settle()
    (told,) = [data for type_, data in await world.told() if type_ == "org.provisioned"]
    assert (told["created"], told["adopted"]) == (True, True)


async def test_after_the_database_was_lost_the_mark_says_whose_the_team_is(world: World) -> None:
    """The replayed event finds the team of its first life: nothing about it changes but the owner's key."""
    lost = Mark(OUR_SOURCE, "org", org_created().identity, "a-key-nobody-knows")
    await their_team(world, metadata=lost.added_to({"logging": "ours"}))
    world.standin.fail(Fault("/team/new", drop=True, applied=True))  # makes it doubtful besides
    cause = org_created()
    await world.take(cause)
    await world.run_for(60)

    type_, data = await world.outcome_of(cause)
    assert type_ == "org.provisioned"
    assert (data["created"], data["adopted"], data["models"]) == (True, False, ["fake2"])
    team = world.standin.state.teams["org"]
    assert team.metadata is not None
    assert (team.team_alias, team.max_budget, team.metadata["logging"]) == ("Theirs", 9.0, "ours")


async def test_a_mark_of_another_quartermaster_is_a_conflict(world: World) -> None:
    other = Mark("/other", "org", org_created().identity, "key")
    await their_team(world, metadata=other.added_to({}))
    cause = org_created()
    await world.take(cause)
    await world.settle()
    assert (await world.outcome_of(cause))[1]["error_code"] == "team_conflict"


async def test_an_alias_held_by_a_key_that_is_not_ours_is_a_conflict(world: World) -> None:
    alias = key_alias(OUR_SOURCE, "org", "owner-of-org", "default", 1)
    await world.client.key_generate("sk-" + "t" * 20, key_alias=alias, team_id="elsewhere", user_id=None)
    cause = org_created()
    await world.take(cause)
    await world.run_for(30)
    type_, data = await world.outcome_of(cause)
    assert type_ == "org.provisioning_failed"
    assert (data["step"], data["error_code"], data["compensation"]) == ("key", "key_conflict", "done")
    assert world.standin.state.teams == {}
    assert [key.key_alias for key in world.standin.state.keys.values()] == [alias]


@pytest.mark.parametrize("taken", [1, 2])
async def test_the_next_generation_is_made_where_existing_things_are_adopted(
    world: World, taken: int
) -> None:
    world.restart(adopt_existing=True)
    await world.take(org_created())
    await world.settle()
    for generation in range(1, taken + 1):
        alias = key_alias(OUR_SOURCE, "org", "ann", "default", generation)
        key = "sk-" + str(generation) * 20
        await world.client.key_generate(key, key_alias=alias, team_id="org", user_id="ann")
    cause = user_joined()
    await world.take(cause)
    await world.settle()
    type_, data = await world.outcome_of(cause)
    assert type_ == "user.provisioned"
    assert data["key"]["alias"] == key_alias(OUR_SOURCE, "org", "ann", "default", taken + 1)
    assert len(world.live_keys(user_id="ann")) == taken + 1
    assert [one.state.value for one in await world.keys() if one.user_id == "ann"] == ["removed"] * taken + [
        "live"
    ]
    assert {one.state.value for one in await world.resources() if one.kind.value == "key"} == {"in_use"}


async def test_a_user_litellm_says_exists_but_does_not_show(world: World) -> None:
    body = b'{"detail": {"error": "User with id ann already exists"}}'
    await world.take(org_created())
    await world.settle()
    world.standin.fail(Fault("/user/new", status=409, body=body))
    cause = user_joined(email="ann@b.c")
    await world.take(cause)
    await world.settle()
    type_, data = await world.outcome_of(cause)
    assert type_ == "user.provisioning_failed"
    assert (data["step"], data["error_code"]) == ("user", "user_conflict")
    assert (data["compensation"], data["attempts"]) == ("not_needed", 1)


async def test_a_user_denied_once_is_looked_for_again(world: World) -> None:
    """LiteLLM's database was away for that one moment: no conflict, which would be final."""
    await world.client.user_new("ann", user_email="old@b.c")
    await world.take(org_created())
    await world.settle()
    body = b'{"error": {"message": "User not found: ann", "code": "404"}}'
    world.standin.fail(Fault("/v2/user/info", status=404, body=body))
    cause = user_joined(email="ann@b.c")
    await world.take(cause)
    await world.settle()
    type_, data = await world.outcome_of(cause)
    assert (type_, data["attempts"], data["email_set"]) == ("user.provisioned", 1, False)
    assert world.standin.state.users["ann"].user_email == "old@b.c"


async def test_a_member_of_an_adopted_team_keeps_the_budget(world: World) -> None:
    world.restart(adopt_existing=True)
    await their_team(world)
    await world.client.member_add("org", "ann", max_budget_in_team=Decimal(2))
    await world.take(org_created())
    await world.settle()
    cause = user_joined(max_budget_usd="7")
    await world.take(cause)
    await world.settle()
    assert (await world.outcome_of(cause))[0] == "user.provisioned"
    assert world.standin.state.memberships["org", "ann"].max_budget == 2


async def test_a_known_user_is_used_unchanged(world: World) -> None:
    await world.client.user_new("ann", user_email="old@b.c")
    await world.take(org_created())
    await world.settle()
    cause = user_joined(email="new@b.c")
    await world.take(cause)
    await world.settle()
    assert (await world.outcome_of(cause))[1]["email_set"] is False
    assert world.standin.state.users["ann"].user_email == "old@b.c"


@pytest.mark.parametrize("type_", ["org", "user"])
async def test_a_refusal_is_final(world: World, type_: str) -> None:
    if type_ == "user":
        await world.take(org_created())
        await world.settle()
    world.standin.fail(Fault("/key/generate", status=400))
    cause = org_created() if type_ == "org" else user_joined()
    await world.take(cause)
    await world.run_for(30)
    told, data = await world.outcome_of(cause)
    assert told == f"{type_}.provisioning_failed"
    assert (data["step"], data["error_code"], data["attempts"]) == ("key", "litellm_rejected", 1)
    assert (data["compensation"], data["orphans"]) == ("done", [])
    assert ("org" in world.standin.state.teams) == (type_ == "user")
    if type_ == "user":
        assert data["user_id"] == "ann"
        assert [member.user_id for member in world.standin.state.teams["org"].members].count("ann") == 0
        assert "ann" in world.standin.state.users
        assert len(world.live_keys()) == 1


async def test_a_retry_after_failure_makes_a_key_of_the_next_generation(world: World) -> None:
    world.standin.fail(Fault("/team/info", status=400))
    cause = org_created(initial_credits=2)
    await world.take(cause)
    await world.run_for(30)
    assert (await world.outcome_of(cause))[0] == "org.provisioning_failed"
    await world.retry_failed()
    await world.settle()
    outcomes = await world.outcomes()
    assert [(one["type"], one["round"], one["origin"]) for one in outcomes] == [
        ("org.provisioning_failed", 1, "live"),
        ("org.provisioned", 2, "retry"),
    ]
    assert [(one.generation, one.state.value) for one in await world.keys()] == [(1, "removed"), (2, "live")]
    assert outcomes[1]["data"]["attempts"] == 1
    await world.run_for(60)
    assert len(world.live_keys()) == 1
    assert {one.state.value for one in await world.resources()} == {"in_use"}


@pytest.mark.parametrize("email", [None, "ann@b.c"])
@pytest.mark.parametrize("fails", [True, False])
async def test_a_member_of_an_adopted_team_is_theirs_also_where_an_answer_is_lost(
    world: World, email: str | None, *, fails: bool
) -> None:
    world.restart(adopt_existing=True)
    await their_team(world)
    await world.client.member_add("org", "ann", max_budget_in_team=Decimal(2))
    await world.take(org_created())
    await world.settle()
    world.standin.fail(Fault("/team/member_add", drop=True, applied=False))
    world.standin.fail(Fault("/user/new", drop=True, applied=False))
    if fails:
        world.standin.fail(Fault("/key/generate", status=400))
    cause = user_joined(email=email, max_budget_usd="7")
    await world.take(cause)
    await world.run_for(120)
    assert (await world.outcome_of(cause))[0] == ("user.provisioning_failed" if fails else "user.provisioned")
    assert world.standin.state.memberships["org", "ann"].max_budget == 2
    assert "ann" in {member.user_id for member in world.standin.state.teams["org"].members}


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("asked", [{}, {"max_budget_usd": "7"}])
async def test_a_member_added_by_hand_keeps_its_budget_also_where_an_answer_is_lost(
    world: World, asked: dict[str, Any], *, applied: bool, fails: bool
) -> None:
    """The team is ours; a budget that we did not ask for says that the member is not."""
    await world.take(org_created())
    await world.settle()
    await world.client.member_add("org", "ann", max_budget_in_team=Decimal(2))
    world.standin.fail(Fault("/team/member_add", drop=True, applied=applied))
    if fails:
        world.standin.fail(Fault("/key/generate", status=400))
    cause = user_joined(**asked)
    await world.take(cause)
    await world.run_for(120)
    assert (await world.outcome_of(cause))[0] == ("user.provisioning_failed" if fails else "user.provisioned")
    assert world.standin.state.memberships["org", "ann"].max_budget == 2
    assert "ann" in {member.user_id for member in world.standin.state.teams["org"].members}


@pytest.mark.parametrize("lost", ["/team/member_add", "/key/generate"])
@pytest.mark.parametrize("fails", [True, False])
async def test_a_member_added_to_an_adopted_team_is_ours(world: World, lost: str, *, fails: bool) -> None:
    world.restart(adopt_existing=True)
    await their_team(world)
    await world.take(org_created())
    await world.settle()
    world.standin.fail(Fault(lost, drop=True, applied=True))
    if fails:
        world.standin.fail(Fault("/key/info" if lost == "/key/generate" else "/key/generate", status=400))
    cause = user_joined(max_budget_usd="7")
    await world.take(cause)
    await world.run_for(120)
    type_, _ = await world.outcome_of(cause)
    assert type_ == ("user.provisioning_failed" if fails else "user.provisioned")
    members = [member.user_id for member in world.standin.state.teams["org"].members]
    if type_ == "user.provisioned":
        assert world.standin.state.memberships["org", "ann"].max_budget == 7
    assert members.count("ann") == (1 if type_ == "user.provisioned" else 0)
    assert {one.state.value for one in await world.resources() if one.resource_id == "ann"} <= {"in_use"}


@pytest.mark.parametrize("lost", [None, "/team/member_add", "/team/info"])
@pytest.mark.parametrize("joined", [True, False])
async def test_the_default_for_members_limits_no_owner_added_to_an_adopted_team(
    world: World, monkeypatch: pytest.MonkeyPatch, lost: str | None, *, joined: bool
) -> None:
    real = State.make_member

    def with_default(*args: Any, **kwargs: Any) -> Membership:
        row = real(*args, **kwargs)
        row.budget_id, row.max_budget = "team-default", 5.0
        return row

    monkeypatch.setattr(State, "make_member", with_default)
    world.restart(adopt_existing=True)
    await their_team(world, members=("owner-of-org",) if joined else ())
    if lost is not None:
        world.standin.fail(Fault(lost, drop=True, applied=True))
    cause = org_created()
    await world.take(cause)
    await world.run_for(120)
    assert (await world.outcome_of(cause))[0] == "org.provisioned"
    assert world.standin.state.memberships["org", "owner-of-org"].max_budget == (5 if joined else None)
    assert {one.state.value for one in await world.resources() if one.kind == "member"} == (
        set() if joined else {"in_use"}
    )


class Killed(BaseException):
    """The process dies here."""


async def test_a_team_made_in_place_of_theirs_is_taken_back_also_after_a_crash(world: World) -> None:
    await their_team(world)
    cause = org_created()
    await world.take(cause)
    await world.settle()
    assert (await world.outcome_of(cause))[1]["error_code"] == "team_conflict"
    await world.client.team_delete("org")
    await world.retry_failed()
    real = world.client.team_new

    async def dies(*args: Any, **kwargs: Any) -> Any:
        await real(*args, **kwargs)
        raise Killed

    world.client.team_new = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await world.settle()
    assert "org" in world.standin.state.teams
    world.client.team_new = real  # type: ignore[method-assign]
    world.restart()
    world.time.passes(120)
    world.standin.fail(Fault("/key/generate", status=400))
    await world.run_for(120)
    type_, data = (await world.told())[-1]
    assert (type_, data["compensation"], data["orphans"]) == ("org.provisioning_failed", "done", [])
    assert world.standin.state.teams == {}


async def test_a_name_with_line_separators_stands_in_a_form_that_litellm_keeps(world: World) -> None:
    cause = org_created(name="A\u2028B\u0085C")
    await world.take(cause)
    await world.settle()
    type_, data = await world.outcome_of(cause)
    assert (type_, data["name"]) == ("org.provisioned", "A\u2028B\u0085C")
    assert world.standin.state.teams["org"].team_alias == "A B C"


async def test_an_id_that_litellm_would_change_is_refused_before_anything_is_made(world: World) -> None:
    cause = org_created(org_id="a\u2028b")
    await world.take(cause)
    await world.settle()
    type_, data = await world.outcome_of(cause)
    assert (type_, data["error_code"]) == ("org.provisioning_failed", "litellm_rejected")
    assert (data["attempts"], data["compensation"]) == (0, "not_needed")
    assert world.calls() == []


async def test_a_user_id_that_litellm_would_change_is_refused(world: World) -> None:
    cause = user_joined(user_id="ann\u2029")
    await world.take(org_created(), cause)
    await world.settle()
    type_, data = await world.outcome_of(cause)
    assert (type_, data["error_code"]) == ("user.provisioning_failed", "litellm_rejected")
    assert "ann\u2029" not in world.standin.state.users
