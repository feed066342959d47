"""LiteLLM is down: events wait, are given up in time, and leave nothing behind for good."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumer.litellm.errors import LiteLLMError
from consumer.provisioning import pool
from consumer.standin import Fault, ProxySettings
from storage import inbox
from storage.database import DatabaseUnavailable
from tests.integration.provisioning.world import World, org_created, user_joined


async def test_down_then_up(world: World) -> None:
    await world.standin.stop()
    first, second = org_created(), org_created("other", "e-other")
    await world.take(first)
    await world.settle()
    await world.probe_gate()
    assert not world.gate.is_open
    await world.take(second)
    await world.run_for(120)
    assert await world.told() == []
    assert [row.attempts for row in await world.waiting()] == [1]
    assert [row.attempts for row in await world.waiting("other")] == [0]

    await world.standin.start()
    world.restart()
    await world.run_for(60)
    assert (await world.outcome_of(first))[1]["attempts"] == 2
    assert (await world.outcome_of(second))[1]["attempts"] == 1


async def test_nothing_was_ever_sent_so_nothing_is_to_be_taken_back(world: World) -> None:
    world.restart(retry_for=timedelta(seconds=20))
    await world.standin.stop()
    cause = org_created()
    await world.take(cause)
    await world.run_for(40)
    type_, data = await world.outcome_of(cause)
    assert type_ == "org.provisioning_failed"
    assert (data["error_code"], data["step"]) == ("litellm_unavailable", "team")
    assert (data["compensation"], data["orphans"]) == ("not_needed", [])
    assert data["attempts"] > 1
    assert await world.resources() == []


async def test_the_gate_closed_the_retry_time_runs_out(world: World) -> None:
    world.restart(retry_for=timedelta(seconds=20))
    await world.standin.stop()
    cause = org_created()
    await world.take(cause)
    await world.settle()
    await world.probe_gate()
    await world.run_for(40)
    type_, data = await world.outcome_of(cause)
    assert (type_, data["error_code"], data["attempts"]) == (
        "org.provisioning_failed",
        "litellm_unavailable",
        1,
    )


async def test_a_key_that_is_not_accepted_is_an_outage_first(world: World) -> None:
    world.restart(retry_for=timedelta(seconds=20))
    cause = org_created()
    world.standin.fail(Fault("*", times=1000, status=401))
    await world.take(cause)
    await world.run_for(40)
    type_, data = await world.outcome_of(cause)
    assert (type_, data["error_code"]) == ("org.provisioning_failed", "litellm_unauthorized")
    assert data["attempts"] > 1


@pytest.mark.parametrize("gate", ["open", "closed"])
async def test_guarantee_5_what_cannot_be_taken_back_is_named_and_removed_later(
    world: World, gate: str
) -> None:
    world.restart(retry_for=timedelta(seconds=10))
    world.standin.fail(Fault("/team/info", times=1000, status=500))
    world.standin.fail(Fault("/team/delete", times=1000, status=500))
    cause = org_created(owner_email="o@b.c")
    await world.take(cause)
    await world.run_for(20, step=2)
    if gate == "closed":
        await world.standin.stop()
        world.gate.report_failure()
        await world.probe_gate()
    await world.run_for(100)
    type_, data = await world.outcome_of(cause)
    assert type_ == "org.provisioning_failed"
    assert data["error_code"] == "litellm_unavailable"
    assert data["compensation"] == "pending"
    assert {"kind": "team", "id": "org"} in data["orphans"]
    assert "org" in world.standin.state.teams

    if gate == "closed":
        await world.standin.start()
    world.standin.heal()
    world.restart()
    await world.run_for(120)
    assert world.standin.state.teams == {}
    assert world.standin.state.keys == {}
    assert "owner-of-org" in world.standin.state.users
    assert await world.resources() == []
    assert len(await world.told()) == 1


async def test_a_later_event_takes_over_what_was_left(world: World) -> None:
    world.restart(retry_for=timedelta(seconds=10))
    world.standin.fail(Fault("/team/info", times=1000, status=500))
    world.standin.fail(Fault("/key/delete", times=1000, status=500))
    first = org_created(max_budget_usd="1")
    await world.take(first)
    await world.run_for(100)
    data = (await world.outcome_of(first))[1]
    assert data["compensation"] == "pending"
    old_keys = [key.hash for key in world.live_keys()]
    assert len(old_keys) == 1
    assert await world.status() == "failed"

    second = org_created(id_="e-2", name="Second", max_budget_usd="5")
    world.standin.heal()
    world.restart()
    world.time.passes(1)
    await world.take(second)
    await world.settle()
    type_, data = await world.outcome_of(second)
    assert (type_, data["created"], data["adopted"]) == ("org.provisioned", True, False)
    team = world.standin.state.teams["org"]
    assert (team.team_alias, team.max_budget) == ("Second", 5.0)
    await world.run_for(120)
    assert [key.hash for key in world.live_keys()] == [data["owner"]["key"]["hash"]]
    assert old_keys != [data["owner"]["key"]["hash"]]
    assert "org" in world.standin.state.teams
    assert {one.state.value for one in await world.resources()} == {"in_use"}


async def test_a_later_event_takes_over_without_the_former_owner(world: World) -> None:
    world.restart(retry_for=timedelta(seconds=10))
    world.standin.fail(Fault("/team/info", times=1000, status=500))
    world.standin.fail(Fault("/key/delete", times=1000, status=500))
    first = org_created(owner_user_id="former")
    await world.take(first)
    await world.run_for(100)
    assert (await world.outcome_of(first))[1]["compensation"] == "pending"

    world.standin.heal()
    world.restart()
    world.time.passes(1)
    second = org_created(id_="e-2", owner_user_id="latter")
    await world.take(second)
    await world.settle()
    assert (await world.outcome_of(second))[0] == "org.provisioned"
    await world.run_for(120)
    members = [member.user_id for member in world.standin.state.teams["org"].members]
    assert "latter" in members
    assert "former" not in members
    assert ("org", "former") not in world.standin.state.memberships
    assert [key.user_id for key in world.live_keys()] == ["latter"]
    assert "former" in world.standin.state.users


async def test_guarantee_2_a_removal_that_comes_late_takes_no_key_in_use_with_it(world: World) -> None:
    """The former owner joins a team taken over while a call that takes them out is still under way."""
    world.restart(retry_for=timedelta(seconds=10))
    world.standin.fail(Fault("/team/info", times=1000, status=500))
    world.standin.fail(Fault("/key/delete", times=1000, status=500))
    first = org_created(owner_user_id="former")
    await world.take(first)
    await world.run_for(100)

    world.standin.heal()
    world.restart()
    world.time.passes(1)
    world.standin.fail(Fault("/team/member_delete", drop=True))
    joins = user_joined("former")
    await world.take(org_created(id_="e-2", owner_user_id="latter"), joins)
    await world.run_for(world.policy.litellm_timeout.total_seconds(), step=0.5)
    assert await world.status() == "active"
    with contextlib.suppress(LiteLLMError):  # what the lost call does now
        await world.client.member_delete("org", "former")
    await world.run_for(60)
    assert (await world.outcome_of(joins))[0] == "user.provisioned"
    assert "former" in {member.user_id for member in world.standin.state.teams["org"].members}
    assert [key.hash for key in world.live_keys(user_id="former")] == [
        (await world.outcome_of(joins))[1]["key"]["hash"]
    ]


async def test_a_change_that_comes_late_finds_its_member_still_there(world: World) -> None:
    """Of a member who is gone, a change of the budget would leave a row for good."""
    await world.take(org_created())
    await world.settle()
    await world.client.team_update("org", team_member_budget=5)  # type: ignore[call-arg]
    world.standin.fail(Fault("/team/member_update", drop=True))
    cause = user_joined()
    await world.take(cause)
    await world.settle()
    (lost,) = [one for one in await world.resources() if one.resource_id == "ann"]
    assert (lost.state.value, lost.doubt_until is None) == ("made", False)
    world.standin.fail(Fault("/key/info", status=400), Fault("/team/info", status=400))
    await world.run_for(world.policy.litellm_timeout.total_seconds(), step=0.5)
    await world.client.member_update("org", "ann", max_budget_in_team=None)  # what the lost call does now
    await world.run_for(60)
    assert (await world.outcome_of(cause))[1]["compensation"] == "done"
    assert ("org", "ann") not in world.standin.state.memberships


async def test_a_change_that_comes_late_finds_no_team_of_a_later_event(world: World) -> None:
    """It would give the team the budget of an event that failed."""
    world.standin.state.settings = ProxySettings(default_team_params={"max_budget": 7})
    world.standin.fail(Fault("/team/update", drop=True))
    cause = org_created(max_budget_usd=None)
    await world.take(cause)
    await world.settle()
    world.standin.fail(Fault("/team/info", status=400))
    await world.run_for(world.policy.litellm_timeout.total_seconds(), step=0.5)
    assert [one.doubt_until is None for one in await world.resources() if one.kind == "team"] == [False]
    assert await world.told() == []
    assert "org" in world.standin.state.teams
    await world.run_for(60)
    assert (await world.outcome_of(cause))[1]["compensation"] == "done"
    assert world.standin.state.teams == {}


async def test_a_retry_takes_over_what_was_left_of_a_user(world: World) -> None:
    await world.take(org_created())
    await world.settle()
    world.restart(retry_for=timedelta(seconds=10))
    world.standin.fail(Fault("/key/info", times=1000, status=500))
    cause = user_joined(max_budget_usd="3")
    await world.take(cause)
    await world.run_for(100)
    data = (await world.outcome_of(cause))[1]
    assert (data["compensation"], data["error_code"]) == ("pending", "litellm_unavailable")
    world.standin.heal()
    await world.retry_failed()
    await world.run_for(120)
    assert [type_ for type_, _ in await world.told()][-1] == "user.provisioned"
    (key,) = world.live_keys(user_id="ann")
    assert key.hash == (await world.told())[-1][1]["key"]["hash"]
    assert world.standin.state.memberships["org", "ann"].max_budget == 3
    assert {one.state.value for one in await world.resources()} == {"in_use"}


async def test_a_membership_goes_with_its_failed_event_and_the_team_stays(world: World) -> None:
    await world.take(org_created())
    await world.settle()
    world.standin.fail(Fault("/key/info", status=400))
    cause = user_joined()
    await world.take(cause)
    await world.run_for(60)
    data = (await world.outcome_of(cause))[1]
    assert (data["compensation"], data["orphans"]) == ("done", [])
    team = world.standin.state.teams["org"]
    assert "ann" not in [member.user_id for member in team.members]
    assert len(world.live_keys()) == 1


async def test_a_team_that_others_have_come_to_use_stays(world: World) -> None:
    world.standin.fail(Fault("/key/generate", status=400, delay_s=0))
    cause = org_created()
    real = world.client.key_generate

    async def meanwhile(*args: object, **kwargs: object) -> object:
        await world.client.member_add("org", "somebody")
        return await real(*args, **kwargs)  # type: ignore[arg-type]

    world.client.key_generate = meanwhile  # type: ignore[assignment, method-assign]
    await world.take(cause)
    await world.run_for(60)
    data = (await world.outcome_of(cause))[1]
    assert (data["compensation"], data["orphans"]) == ("done", [{"kind": "team", "id": "org"}])
    assert "org" in world.standin.state.teams


async def test_the_404_of_a_proxy_without_its_database_proves_nothing(world: World) -> None:
    world.restart(retry_for=timedelta(seconds=10))
    world.standin.fail(Fault("/key/generate", times=1000, status=500))
    cause = org_created()
    await world.take(cause)
    await world.run_for(12, step=2)
    world.standin.database_up = False
    await world.run_for(100)
    data = (await world.outcome_of(cause))[1]
    assert data["compensation"] == "pending"
    assert {"kind": "team", "id": "org"} in data["orphans"]
    world.standin.heal()
    world.restart()
    await world.run_for(100)
    assert world.standin.state.teams == {}


async def test_an_unforeseen_error_is_told_as_internal_without_its_text(world: World) -> None:
    world.restart(retry_for=timedelta(seconds=10))

    async def broken(*_args: object, **_kwargs: object) -> object:
        raise RuntimeError("sk-secret-in-a-message")

    world.client.key_generate = broken  # type: ignore[assignment, method-assign]
    cause = org_created()
    await world.take(cause)
    await world.run_for(60)
    data = (await world.outcome_of(cause))[1]
    assert (data["error_code"], data["message"]) == ("internal", "unexpected RuntimeError")
    assert data["compensation"] == "done"


async def test_a_late_create_after_the_removal_is_removed_too(world: World) -> None:
    """What an answer was lost of may take effect after compensation: it is looked at once more."""
    world.restart(retry_for=timedelta(0))
    world.standin.fail(Fault("/team/new", drop=True))
    cause = org_created()
    await world.take(cause)
    await world.run_for(9, step=1)
    assert (await world.outcome_of(cause))[1]["compensation"] == "done"
    sent = next(one.request for one in world.standin.log if one.endpoint == "/team/new")
    await world.client.team_new(
        "org", team_alias="late", max_budget=None, blocked=False, models=[], metadata=sent["metadata"]
    )
    await world.run_for(60)
    assert world.standin.state.teams == {}
    assert await world.resources() == []


async def test_a_team_that_others_make_after_the_removal_is_theirs(world: World) -> None:
    world.standin.fail(Fault("/key/generate", status=400))
    cause = org_created()
    await world.take(cause)
    await world.settle()
    assert (await world.outcome_of(cause))[1]["compensation"] == "done"
    assert world.standin.state.teams == {}
    await world.client.team_new(
        "org", team_alias="theirs", max_budget=None, blocked=False, models=[], metadata={}
    )
    await world.run_for(60)
    assert world.standin.state.teams["org"].team_alias == "theirs"


async def test_a_database_that_is_away_is_said_once_and_so_is_its_return(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_AWAY_S", 0.001)
    away = DatabaseUnavailable("nobody there")
    failures, tries = asyncio.Event(), 0
    find = inbox.runnable_orgs

    async def runnable_orgs(*args: Any, **kwargs: Any) -> list[str]:
        nonlocal tries
        tries += 1
        if tries <= 5:
            raise away
        failures.set()
        return await find(*args, **kwargs)

    monkeypatch.setattr(inbox, "runnable_orgs", runnable_orgs)
    stop = asyncio.Event()
    await world.take(org_created())
    with capture_logs() as logs:
        running = asyncio.create_task(world.provisioner.run(stop))
        await failures.wait()
        await world.decides(1)
        stop.set()
        await running
    said = [one["event"] for one in logs if one["event"].startswith("provisioner")]
    assert said == ["provisioner_held_up", "provisioner_goes_on"]
