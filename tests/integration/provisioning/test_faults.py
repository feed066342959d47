"""Answers lost and processes killed at every point: one team, one live key, one outcome all the same."""

from typing import Any

import pytest

from consumer.litellm.client import LiteLLMClient
from consumer.provisioning.pool import Provisioner
from consumer.standin import Fault
from schemas.event import InboundEvent
from storage.database import Database
from tests.integration.provisioning.world import World, org_created, user_joined

ORG_CALLS = ("/user/new", "/team/new", "/key/generate", "/team/info")
USER_CALLS = {
    "plain": ("/team/member_add", "/key/generate", "/key/info"),
    "email": ("/user/new", "/key/generate", "/team/info"),
}
LOSSES = {
    "lost_after": {"drop": True, "applied": True},
    "lost_before": {"drop": True, "applied": False},
    "failed_after": {"status": 500, "applied": True},
    "failed_before": {"status": 503, "applied": False},
    "garbled_after": {"status": 200, "body": b"<html>", "content_type": "text/html", "applied": True},
    "throttled": {"status": 429},
    "unauthorized": {"status": 401},
}


def tries_after(endpoint: str, loss: str) -> set[int]:
    """A read on a connection that was closed may be repeated by the HTTP client itself."""
    return {1, 2} if endpoint.endswith("/info") and loss.startswith("lost") else {2}


def org_event() -> InboundEvent:
    return org_created(owner_email="owner@b.c", initial_credits=3)


def user_event(kind: str) -> InboundEvent:
    extra: dict[str, Any] = {"email": "ann@b.c"} if kind == "email" else {}
    return user_joined(max_budget_usd="3.5", **extra)


async def check_organization(world: World, cause: InboundEvent) -> None:
    """What stands is what was asked for, once."""
    type_, data = await world.outcome_of(cause)
    assert (type_, data.get("message")) == ("org.provisioned", None)
    state = world.standin.state
    assert list(state.teams) == ["org"]
    team = state.teams["org"]
    assert (team.max_budget, team.blocked, team.team_alias) == (25.0, False, "Acme")
    assert [member.user_id for member in team.members].count("owner-of-org") == 1
    (key,) = [key for key in state.keys.values() if key.user_id == "owner-of-org"]
    assert key.hash == data["owner"]["key"]["hash"]
    assert data["created"] is True
    assert data["owner"]["email_set"] is True
    assert [one.state.value for one in await world.keys() if one.key_hash == key.hash] == ["live"]
    assert (await world.books()).ok


async def check_user(world: World, cause: InboundEvent) -> None:
    type_, data = await world.outcome_of(cause)
    assert (type_, data.get("message")) == ("user.provisioned", None)
    state = world.standin.state
    (key,) = world.live_keys(user_id="ann")
    assert key.hash == data["key"]["hash"]
    assert data["created"] is True
    assert state.memberships["org", "ann"].max_budget == 3.5
    assert [member.user_id for member in state.teams["org"].members].count("ann") == 1


@pytest.mark.parametrize("dialect", ["sqlite"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("endpoint", ORG_CALLS)
async def test_an_organization_survives_a_lost_answer(world: World, endpoint: str, loss: str) -> None:
    world.standin.fail(Fault(endpoint, **LOSSES[loss]))  # type: ignore[arg-type]
    cause = org_event()
    await world.take(cause)
    await world.run_for(60)
    await check_organization(world, cause)
    assert (await world.outcome_of(cause))[1]["attempts"] in tries_after(endpoint, loss)


@pytest.mark.parametrize("dialect", ["sqlite"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("kind", "endpoint"), [(kind, endpoint) for kind, calls in USER_CALLS.items() for endpoint in calls]
)
async def test_a_user_survives_a_lost_answer(world: World, kind: str, endpoint: str, loss: str) -> None:
    await world.take(org_created())
    await world.settle()
    world.standin.fail(Fault(endpoint, **LOSSES[loss]))  # type: ignore[arg-type]
    cause = user_event(kind)
    await world.take(cause)
    await world.run_for(60)
    await check_user(world, cause)
    assert (await world.outcome_of(cause))[1]["attempts"] in tries_after(endpoint, loss)
    assert (await world.outcome_of(cause))[1]["email_set"] is (kind == "email")


class Killed(BaseException):
    """The process dies here."""


class Fuse:
    """Kills at the n-th point passed."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.passed = 0

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise Killed


class MortalClient:
    """LiteLLM, with a point to die at before and after each call."""

    def __init__(self, client: LiteLLMClient, fuse: Fuse) -> None:
        self._client = client
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._fuse.point()
            answer = await method(*args, **kwargs)
            self._fuse.point()
            return answer

        return call


class MortalDatabase:
    """The database, with a point to die at before and after each commit."""

    def __init__(self, database: Database, fuse: Fuse) -> None:
        self._database = database
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def run(self, work: Any) -> Any:
        self._fuse.point()
        result = await self._database.run(work)
        self._fuse.point()
        return result


def mortal(world: World, fuse: Fuse) -> Provisioner:
    return Provisioner(
        MortalDatabase(world.database, fuse),  # type: ignore[arg-type]
        MortalClient(world.client, fuse),  # type: ignore[arg-type]
        world.gate,
        world.vault,
        world.policy,
        on_outcomes=lambda: None,
        on_activated=lambda _org_id: None,
        clock=world.time.database,
        monotonic=world.time.monotonic,
        random=lambda: 0.5,
    )


async def live_until(world: World, fuse: Fuse, *, seconds: float = 0, step: float = 1.0) -> bool:
    """Work until the fuse kills or nothing is due; tell whether it killed."""
    provisioner = mortal(world, fuse)
    passed = 0.0
    try:
        while True:
            while await provisioner.run_once():
                pass
            await provisioner.sweep_once()
            if passed >= seconds:
                return False
            world.time.passes(step)
            passed += step
    except Killed:
        return True


@pytest.mark.parametrize("at", range(1, 18))
async def test_an_organization_survives_a_kill(world: World, at: int) -> None:
    cause = org_event()
    await world.take(cause)
    killed = await live_until(world, Fuse(at))
    assert killed == (at <= 16)
    await world.run_for(120)
    await check_organization(world, cause)
    assert {one.state.value for one in await world.resources()} == {"in_use"}


@pytest.mark.parametrize("kind", USER_CALLS)
@pytest.mark.parametrize("at", range(1, 16))
async def test_a_user_survives_a_kill(world: World, kind: str, at: int) -> None:
    await world.take(org_created())
    await world.settle()
    cause = user_event(kind)
    await world.take(cause)
    assert await live_until(world, Fuse(at)) == (at <= 14)
    await world.run_for(120)
    await check_user(world, cause)


@pytest.mark.parametrize("at", range(1, 40, 2))
async def test_compensation_survives_a_kill(world: World, at: int) -> None:
    world.restart(retry_for=world.policy.retry_for * 0)
    world.standin.fail(Fault("/team/info", times=1, status=400))
    cause = org_event()
    await world.take(cause)
    await live_until(world, Fuse(at), seconds=3)
    world.standin.heal()
    await world.run_for(300)
    type_, data = await world.outcome_of(cause)
    state = world.standin.state
    if type_ == "org.provisioned":  # killed before it failed, and the next try met no fault
        await check_organization(world, cause)
        return
    assert data["error_code"] == "litellm_rejected"
    assert (data["compensation"], data["orphans"]) == ("done", [])
    assert (state.teams, state.keys) == ({}, {})
    assert "owner-of-org" in state.users
    assert await world.resources() == []


@pytest.mark.parametrize("at", [4, 6, 8, 10])
async def test_a_kill_at_every_try_costs_nothing_but_tries(world: World, at: int) -> None:
    cause = org_event()
    await world.take(cause)
    for _ in range(4):
        await live_until(world, Fuse(at))
        world.time.passes(60)
    await world.run_for(60)
    await check_organization(world, cause)


@pytest.mark.parametrize("dialect", ["sqlite"])
async def test_compensation_that_breaks_off_is_told_when_its_time_is_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("a defect of ours")

    monkeypatch.setattr(world.client, "team_delete", broken)
    world.standin.fail(Fault("/team/info", times=1, status=400))
    cause = org_event()
    await world.take(cause)
    await world.run_for(120)
    type_, data = await world.outcome_of(cause)
    assert (type_, data["compensation"]) == ("org.provisioning_failed", "pending")
    assert {"kind": "team", "id": "org"} in data["orphans"]
