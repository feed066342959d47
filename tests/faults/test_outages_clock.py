"""The database's clock and the process's step by an hour under load: nothing breaks or rests for an hour.

The clocks are those of the processes themselves, stepped by libfaketime (Debian: `libfaketime`); what the
kernel counts monotonically goes on as it is.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.standin import Fault, StandIn
from tests.e2e.world import eventually
from tests.faults.outage import SECONDS, ReplicatedWorld, Tell, standin, suffer, tell

if TYPE_CHECKING:
    from tests.parts.servers import OwnKafka, OwnPostgres

__all__ = ["standin", "tell"]

pytestmark = [pytest.mark.real("servers"), pytest.mark.timeout(SECONDS + 300)]

HOUR = 3600
STEPS = (HOUR, 0, -HOUR, 0)
"""Off by so many seconds, one after another: ahead, back, further back, ahead."""


class SteppedClock:
    """The clock of every process that has `environment` in its own."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.set(0)
        file.chmod(0o644)  # the database's user reads it too
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, off_by_s: int) -> None:
        """Have it be off by so many seconds from now on."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{off_by_s:+d}\n", encoding="ascii")
        written.chmod(0o644)
        written.replace(self._file)


@pytest.fixture
def clock(own_postgres_folder: Path) -> SteppedClock:
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        pytest.skip("libfaketime is not installed")
    return SteppedClock(libraries[0], own_postgres_folder / "clock")


@pytest.fixture
def own_postgres_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clock")
    for one in (folder, *folder.parents):
        if one != Path("/") and os.geteuid() == 0:
            one.chmod(one.stat().st_mode | 0o011)
    return folder


@pytest.fixture
def stepped_postgres(clock: SteppedClock) -> "Iterator[OwnPostgres]":
    from tests.parts.servers import OwnPostgres  # noqa: PLC0415

    with OwnPostgres(clock.environment) as server:
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
            clock.set(off_by_s)
            victims.append(await world.start())
            await asyncio.sleep(SECONDS / len(STEPS))  # the time on this clock

    async def nothing() -> None:
        standin.heal()

    report = await suffer(
        world, steady, "database's clock: +1 h, back, -1 h, back", step, nothing, catch_up=90
    )
    tell(report)
    assert report.log["database_clock_went_back"] >= 1
    assert report.log["database_clock_went_ahead"] >= 1


async def test_the_clock_of_the_process_and_of_its_sqlite_file_steps(
    own_kafka: "OwnKafka", standin: StandIn, clock: SteppedClock, tmp_path: Path, tell: Tell
) -> None:
    world = ReplicatedWorld(
        kafka=own_kafka.address,
        database_url=f"sqlite+aiosqlite:///{tmp_path / 'quartermaster.db'}",
        litellm_url=standin.url,
        litellm_key=standin.master_key,
        folder=tmp_path,
    )
    world.settings.update(clock.environment)
    standin.fail(Fault("*", times=10**6, delay_s=0.2))

    async def step() -> None:
        for off_by_s in STEPS:
            clock.set(off_by_s)
            await asyncio.sleep(SECONDS / len(STEPS))  # the time on this clock

    async def nothing() -> None:
        standin.heal()

    async with world:
        service = await world.run_ready()
        report = await suffer(
            world, service, "process's clock: +1 h, back, -1 h, back", step, nothing, catch_up=90
        )
    tell(report)
    assert report.log["database_clock_went_back"] >= 1


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
