"""The database's clock and the process's step by an hour under load: nothing breaks or rests for an hour.

PostgreSQL's clock is stepped by libfaketime (Debian: `libfaketime`). That would slow SQLite down to a crawl,
so there the service itself is given clocks that step: `tests.faults.stepped`. What the kernel counts
monotonically goes on as it is.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.standin import Fault, StandIn
from tests.e2e.world import Service, eventually
from tests.faults.outage import SECONDS, ReplicatedWorld, Tell, standin, suffer, tell

if TYPE_CHECKING:
    from tests.parts.servers import OwnKafka, OwnPostgres

__all__ = ["standin", "tell"]

pytestmark = [pytest.mark.real("servers"), pytest.mark.timeout(SECONDS + 600)]

HOUR = 3600
STEPS = (HOUR, 0, -HOUR, 0)
"""Off by so many seconds, one after another: ahead, back, further back, ahead; each until it is noticed."""


GIVEN_UP_SOONER = {"may_fail": True}
"""What is said not to hold: what waits while the clock goes ahead by an hour may be given up (0014)."""

_PG_CTL = """#!/bin/bash
PATH=${{PATH#*:}}
export LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={clock} FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1
exec pg_ctl "$@"
"""


class SteppedWorld(ReplicatedWorld):
    """A world whose service has clocks that step."""

    program = (sys.executable, "-m", "tests.faults.stepped")


class SteppedClock:
    """A file that says by how many seconds a clock is off."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0)

    def set(self, off_by_s: int) -> None:
        """Have it be off by so many seconds from now on."""
        written = self.file.with_suffix(".new")
        written.write_text(f"{off_by_s:+d}\n", encoding="ascii")
        written.chmod(0o644)  # the database's user reads it too
        written.replace(self.file)


async def noticed(service: Service, clock: SteppedClock, off_by_s: int) -> None:
    """Have the clock step, and stay there for its share of the outage, and until the service says so."""

    async def told() -> int:
        return service.log.read_text().count('"database_clock_went_')

    before, begun = await told(), time.monotonic()
    clock.set(off_by_s)
    await eventually(told, lambda count: count > before, what=f"it says of the step to {off_by_s} s")
    await asyncio.sleep(begun + SECONDS / len(STEPS) - time.monotonic())  # the time on this clock


@pytest.fixture
def clock(tmp_path_factory: pytest.TempPathFactory) -> SteppedClock:
    folder = tmp_path_factory.mktemp("clock")
    if os.geteuid() == 0:
        for one in (folder, *folder.parents[:-1]):
            one.chmod(one.stat().st_mode | 0o011)
    return SteppedClock(folder / "clock")


@pytest.fixture
def stepped_postgres(clock: SteppedClock) -> "Iterator[OwnPostgres]":
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        pytest.skip("libfaketime is not installed")
    from tests.parts.servers import OwnPostgres  # noqa: PLC0415

    # In the server's own programs alone, found before the real one: what libfaketime shares with the
    # processes it is handed on to belongs to one user, and the script changes from root to the database's.
    wrapper = clock.file.with_name("pg_ctl")
    wrapper.write_text(_PG_CTL.format(library=libraries[0], clock=clock.file), encoding="utf-8")
    wrapper.chmod(0o755)
    with OwnPostgres({"PATH": f"{wrapper.parent}:{os.environ['PATH']}"}) as server:
        yield server


@pytest.fixture
async def on_stepped_postgres(
    own_kafka: "OwnKafka", stepped_postgres: "OwnPostgres", standin: StandIn, tmp_path: Path
) -> AsyncIterator[ReplicatedWorld]:
    from tests.parts.databases import temporary_database  # noqa: PLC0415

    async with temporary_database(stepped_postgres.url) as url:
        world = ReplicatedWorld(
            kafka=own_kafka.address,
            database_url=url.render_as_string(hide_password=False),
            litellm_url=standin.url,
            litellm_key=standin.master_key,
            folder=tmp_path,
        )
        async with world:
            yield world


async def test_the_clock_of_postgres_steps_and_instances_die_with_their_leases(
    on_stepped_postgres: ReplicatedWorld, clock: SteppedClock, standin: StandIn, tell: Tell
) -> None:
    """Before each step an instance is killed amid its calls: its leases stay, by the clock as it was."""
    world = on_stepped_postgres
    # Slow enough that organizations are in hand at any moment, and some answers are lost for good.
    standin.fail(Fault("*", times=10**6, delay_s=0.2))
    steady = await world.run_ready()
    victims = [await world.run_ready()]

    async def step() -> None:
        for off_by_s in STEPS:
            await victims[-1].kill()
            await noticed(steady, clock, off_by_s)
            victims.append(await world.start())

    async def nothing() -> None:
        standin.heal()

    report = await suffer(
        world,
        steady,
        "database's clock: +1 h, back, -1 h, back",
        step,
        nothing,
        catch_up=90,
        policy=GIVEN_UP_SOONER,
    )
    tell(report)
    assert report.log["database_clock_went_back"] == 2
    assert report.log["database_clock_went_ahead"] == 2


async def test_the_clock_of_the_process_and_of_its_sqlite_file_steps(
    own_kafka: "OwnKafka", standin: StandIn, clock: SteppedClock, tmp_path: Path, tell: Tell
) -> None:
    world = SteppedWorld(
        kafka=own_kafka.address,
        database_url=f"sqlite+aiosqlite:///{tmp_path / 'quartermaster.db'}",
        litellm_url=standin.url,
        litellm_key=standin.master_key,
        folder=tmp_path,
    )
    world.settings["QM_TEST_CLOCK"] = str(clock.file)
    standin.fail(Fault("*", times=10**6, delay_s=0.2))

    async def step() -> None:
        for off_by_s in STEPS:
            await noticed(service, clock, off_by_s)

    async def nothing() -> None:
        standin.heal()

    async with world:
        service = await world.run_ready()
        report = await suffer(
            world,
            service,
            "process's clock: +1 h, back, -1 h, back",
            step,
            nothing,
            catch_up=90,
            policy=GIVEN_UP_SOONER,
        )
    tell(report)
    assert report.log["database_clock_went_back"] == 2
    assert report.log["database_clock_went_ahead"] == 2


async def test_a_step_back_between_a_death_and_a_start_is_found_at_the_start(
    on_stepped_postgres: ReplicatedWorld, clock: SteppedClock, standin: StandIn
) -> None:
    """Nobody saw the step: leases, pauses and the outbox of the dead one go on within their own time."""
    world = on_stepped_postgres
    clock.set(HOUR)
    first = await world.run_ready()
    standin.fail(Fault("/team/new", times=10**6, delay_s=5))
    orgs = [world.org(f"o{n}") for n in range(6)]
    events = {
        await world.publish("org.created", {"org_id": org, "name": org, "owner_user_id": f"{org}-o"})
        for org in orgs
    }
    await eventually(first.waiting, lambda count: count == len(orgs), what="all are in hand or wait")
    await first.kill()
    clock.set(0)
    standin.heal()
    second = await world.run_ready()
    await world.wait_for_outcomes("provisioning.outcomes", events, patience=90)
    assert '"database_clock_went_back"' in second.log.read_text()
