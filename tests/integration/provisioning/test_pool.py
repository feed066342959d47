"""The pool: leases between instances, bounds, and an orderly end."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.standin import Fault
from storage import leases, resources
from storage.database import Database
from storage.inbox import WaitReason
from storage.resources import Resource, ResourceKind, ResourceState
from tests.integration.provisioning.world import World, org_created, user_joined


async def test_run_provisions_and_stops(world: World) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(world.provisioner.run(stop))
    await world.take(*(org_created(f"org-{n}", f"e-{n}") for n in range(20)))
    world.provisioner.wake()
    await world.decides(20)
    stop.set()
    await running
    assert [type_ for type_, _ in await world.told()] == ["org.provisioned"] * 20
    assert await held(world.database, world, [f"org-{n}" for n in range(20)]) == set()


def begins(world: World) -> asyncio.Event:
    """Set once a team is about to be made."""
    begun = asyncio.Event()
    real = world.client.team_new

    async def team_new(*args: Any, **kwargs: Any) -> Any:
        begun.set()
        return await real(*args, **kwargs)

    world.client.team_new = team_new  # type: ignore[method-assign]
    return begun


async def held(database: Database, world: World, org_ids: list[str]) -> set[str]:
    async with database.reading() as tx:
        return await leases.held_scopes(tx, [leases.org_scope(one) for one in org_ids], world.time.now)


async def test_a_stop_finishes_the_call_in_hand_and_no_more(world: World) -> None:
    world.standin.fail(Fault("/team/new", delay_s=0.3))
    begun = begins(world)
    stop = asyncio.Event()
    running = asyncio.create_task(world.provisioner.run(stop))
    cause = org_created()
    await world.take(cause)
    world.provisioner.wake()
    await begun.wait()
    stop.set()
    await running
    assert world.calls() == ["/team/new"]
    assert await held(world.database, world, ["org"]) == set()
    assert [one.state.value for one in await world.resources()] == ["made"]

    world.restart()
    await world.settle()
    assert world.calls() == ["/team/new", "/team/info", "/key/generate", "/team/info"]
    assert (await world.outcome_of(cause))[1]["attempts"] == 2


async def test_instances_share_the_work_and_no_organization_is_served_twice(world: World) -> None:
    await world.take(*(org_created(f"org-{n}", f"e-{n}") for n in range(12)))
    others = [world.another() for _ in range(3)]
    world.restart(concurrency=3)
    for _ in range(20):
        await asyncio.gather(*(one.run_once() for one in (world.provisioner, *others)))
    assert len(await world.told()) == 12
    assert len(world.calls()) == 36


async def test_a_slow_organization_holds_up_no_other(world: World) -> None:
    world.standin.fail(Fault("/team/new", delay_s=1.0))
    await world.take(org_created("slow", "e-slow"))
    begun = begins(world)
    stop = asyncio.Event()
    running = asyncio.create_task(world.provisioner.run(stop))
    await begun.wait()
    await world.take(org_created("quick", "e-quick"))
    world.provisioner.wake()
    await world.decides(2)
    stop.set()
    await running
    assert [data["org_id"] for _, data in await world.told()] == ["quick", "slow"]


async def test_a_worker_that_lost_its_lease_writes_nothing(world: World) -> None:
    """It hung in a call; another one took the organization meanwhile."""
    real = world.client.key_generate
    other = world.another()

    async def hangs(*args: object, **kwargs: object) -> object:
        world.client.key_generate = real  # type: ignore[method-assign]
        world.time.passes(world.policy.lease_ttl.total_seconds() + 1)
        while await other.run_once():
            pass
        return await real(*args, **kwargs)  # type: ignore[arg-type]

    world.client.key_generate = hangs  # type: ignore[assignment, method-assign]
    cause = org_created(initial_credits=1)
    await world.take(cause)
    await world.settle()
    type_, data = await world.outcome_of(cause)
    assert (type_, data["attempts"]) == ("org.provisioned", 2)
    assert len(world.live_keys()) == 1
    assert (await world.books()).ok


async def test_a_long_try_keeps_its_lease(world: World) -> None:
    real = world.client.team_new
    other = world.another()

    async def slow(*args: object, **kwargs: object) -> object:
        answer = await real(*args, **kwargs)  # type: ignore[arg-type]
        world.time.passes(world.policy.lease_ttl.total_seconds() * 0.9)
        return answer

    async def slow_generate(*args: object, **kwargs: object) -> object:
        world.time.passes(world.policy.lease_ttl.total_seconds() * 0.9)
        assert not await other.run_once()
        return await generate(*args, **kwargs)  # type: ignore[arg-type]

    generate = world.client.key_generate
    world.client.team_new = slow  # type: ignore[assignment, method-assign]
    world.client.key_generate = slow_generate  # type: ignore[assignment, method-assign]
    cause = org_created()
    await world.take(cause)
    await world.settle()
    assert (await world.outcome_of(cause))[1]["attempts"] == 1


async def test_one_email_is_set_by_one_at_a_time(world: World) -> None:
    await world.take(*(org_created(f"org-{n}", f"e-{n}", owner_email="a@b.c") for n in range(4)))
    await world.run_for(10, step=1)
    emails = [user.user_email for user in world.standin.state.users.values() if user.user_email]
    assert emails == ["a@b.c"]
    told = [data["owner"]["email_set"] for _, data in await world.told()]
    assert sorted(told) == [False, False, False, True]
    assert {data["attempts"] for _, data in await world.told()} == {1}


async def test_a_member_is_tried_again_with_the_budget_asked_for(world: World) -> None:
    await world.take(org_created())
    await world.settle()
    world.restart(litellm_timeout=timedelta(seconds=2))
    world.standin.fail(Fault("/user/new", drop=True, applied=True))
    cause = user_joined(email="ann@b.c", max_budget_usd="4")
    await world.take(cause)
    await world.run_for(30)
    assert (await world.outcome_of(cause))[1]["email_set"] is True
    assert world.standin.state.memberships["org", "ann"].max_budget == 4


async def test_sweeps_and_turns_share_one_bound(world: World) -> None:
    orphans = [f"org-{n}" for n in range(6)]

    async def leave(tx: AsyncConnection) -> None:
        await resources.save(
            tx,
            [
                Resource(one, ResourceKind.TEAM, one, uuid4(), ResourceState.REMOVING, due_at=world.time.now)
                for one in orphans
            ],
        )

    await world.database.run(leave)
    world.restart(concurrency=2)
    under_way = most = 0

    def counted(real: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                await asyncio.sleep(0.05)
                return await real(*args, **kwargs)
            finally:
                under_way -= 1

        return call

    for name in ("team_info", "team_new", "key_generate"):
        setattr(world.client, name, counted(getattr(world.client, name)))
    await world.take(*(org_created(f"new-{n}", f"e-{n}") for n in range(6)))
    stop = asyncio.Event()
    running = asyncio.create_task(world.provisioner.run(stop))
    await world.decides(6)
    async with asyncio.timeout(20):
        while {(await world.resources(one))[0].state for one in orphans} != {ResourceState.REMOVED}:
            await asyncio.sleep(0.05)
            assert most <= 2
    stop.set()
    await running
    assert most == 2


async def test_an_event_that_comes_while_litellm_is_down_says_what_it_waits_for(world: World) -> None:
    await world.standin.stop()
    world.gate.report_failure()
    await world.probe_gate()
    assert not world.gate.is_open
    cause = org_created()
    await world.take(cause)
    stop = asyncio.Event()
    running = asyncio.create_task(world.provisioner.run(stop))
    async with asyncio.timeout(10):
        while [row.reason for row in await world.waiting()] != [WaitReason.LITELLM]:
            await asyncio.sleep(0.05)
            assert await world.told() == []
    assert [row.attempts for row in await world.waiting()] == [0]
    await world.standin.start()
    world.gate.report_failure()
    probing = asyncio.create_task(world.gate.run())
    await world.decides(1)
    stop.set()
    await running
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)
    assert (await world.outcome_of(cause))[0] == "org.provisioned"
