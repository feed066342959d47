"""Outages under load: no restart is needed, it is said what is wrong, and afterwards all is caught up.

Each lasts as long as `tests.faults.outage.SECONDS` says: seconds as they stand, a minute with
``QM_TEST_OUTAGE_S=60``.
"""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.engine import make_url

from consumer.standin import StandIn
from tests.faults.outage import SECONDS, Load, ReplicatedWorld, Report, Tell, standin, suffer, tell
from tests.faults.tcp_proxy import TcpProxy, wire_to

if TYPE_CHECKING:
    from tests.parts.servers import OwnKafka, OwnPostgres

__all__ = ["standin", "tell"]

pytestmark = [pytest.mark.real("servers"), pytest.mark.timeout(SECONDS + 600)]

BROKER_SILENT_S = 30.0
"""After which silence of all brokers the instance says so at the latest."""
DATABASE_SILENT_S = 20.0
"""The same of a database that hangs; one that refuses is told at once."""

Step = Callable[[], Awaitable[None]]


@pytest.fixture
async def on_postgres(
    own_kafka: "OwnKafka", own_postgres: "OwnPostgres", standin: StandIn, tmp_path: Path
) -> AsyncIterator[ReplicatedWorld]:
    """A world on servers of its own; whatever a test did to them, they run again at its end."""
    from tests.parts.databases import temporary_database  # noqa: PLC0415

    async with temporary_database(own_postgres.url) as url:
        world = ReplicatedWorld(
            kafka=own_kafka.address,
            database_url=url.render_as_string(hide_password=False),
            litellm_url=standin.url,
            litellm_key=standin.master_key,
            folder=tmp_path,
        )
        async with world:
            try:
                yield world
            finally:
                await asyncio.to_thread(own_postgres.start_again)
                await asyncio.to_thread(own_kafka.start_again)


def blocking(work: Callable[[], object]) -> Step:
    async def run() -> None:
        await asyncio.to_thread(work)

    return run


def about(report: Report, what: str) -> bool:
    """Whether the instance was unready for this first, and else only for a standstill that comes of it."""
    return bool(report.reasons) and all(
        reason.startswith(words)
        for reason, words in zip(report.reasons, [what] + [(what, "records to ")] * 9, strict=False)
    )


# --- PostgreSQL -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "kill", "hang"])
async def test_postgres_away(
    on_postgres: ReplicatedWorld, own_postgres: "OwnPostgres", how: str, tell: Tell
) -> None:
    service = await on_postgres.run_ready()
    report = await suffer(
        on_postgres,
        service,
        f"PostgreSQL: {how}",
        blocking(getattr(own_postgres, how)),
        blocking(own_postgres.start_again),
    )
    tell(report)
    if how != "hang" or report.seconds > DATABASE_SILENT_S:
        assert about(report, "database: ")
        assert report.unready_after is not None
        assert report.unready_after < (DATABASE_SILENT_S if how == "hang" else 8)


async def test_connections_to_postgres_that_go_dead_without_a_word(
    on_postgres: ReplicatedWorld, tell: Tell
) -> None:
    """A fail-over, or a firewall that forgot them: new ones work, and no answer comes on the old ones."""
    async with wire_to(on_postgres.database_url) as (wire, through):
        service = await on_postgres.run_ready(database_url=through)
        report = await suffer(
            on_postgres, service, "PostgreSQL: connections lost", wire.lose, wire.mend, catch_up=150
        )
    tell(report)


# --- Kafka ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_one_broker_of_three_away(
    on_postgres: ReplicatedWorld, own_kafka: "OwnKafka", how: str, tell: Tell
) -> None:
    service = await on_postgres.run_ready()
    report = await suffer(
        on_postgres,
        service,
        f"one broker of three: {how}",
        blocking(lambda: getattr(own_kafka, how)(1)),
        blocking(own_kafka.start_again),
    )
    tell(report)


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_all_brokers_away(
    on_postgres: ReplicatedWorld, own_kafka: "OwnKafka", how: str, tell: Tell
) -> None:
    service = await on_postgres.run_ready()
    report = await suffer(
        on_postgres,
        service,
        f"all brokers: {how}",
        blocking(getattr(own_kafka, f"{how}_all")),
        blocking(own_kafka.start_again),
        catch_up=120,
    )
    tell(report)
    if report.seconds > BROKER_SILENT_S:
        assert report.unready_after is not None
        assert report.unready_after < BROKER_SILENT_S
        assert "broker: " in report.reasons[0]


# --- LiteLLM --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "hang"])
async def test_litellm_away(on_postgres: ReplicatedWorld, standin: StandIn, how: str, tell: Tell) -> None:
    """What hung while it was away arrives late, long after whoever sent it has given it up."""
    async with TcpProxy("127.0.0.1", make_url(standin.url).port or 0) as wire:
        service = await on_postgres.run_ready(litellm_url=f"http://127.0.0.1:{wire.port}")
        report = await suffer(
            on_postgres,
            service,
            f"LiteLLM: {'refuses' if how == 'cut' else 'hangs'}",
            getattr(wire, how),
            wire.mend,
            catch_up=150,
        )
    tell(report)
    assert report.unready_after is None, "LiteLLM being down does not make unready"


async def test_litellm_without_its_database(
    on_postgres: ReplicatedWorld, standin: StandIn, tell: Tell
) -> None:
    async def begin() -> None:
        standin.database_up = False

    async def end() -> None:
        standin.database_up = True

    service = await on_postgres.run_ready()
    report = await suffer(on_postgres, service, "LiteLLM: no database", begin, end, catch_up=90)
    tell(report)
    assert report.unready_after is None, "LiteLLM being down does not make unready"


# --- SQLite ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MB; only a full one makes a running process meet what SQLite calls FULL."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "quartermaster-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system of its own needs root, and a system that lets it mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_the_disk_of_sqlite_is_full(
    own_kafka: "OwnKafka", standin: StandIn, small_disk: Path, tmp_path: Path, tell: Tell
) -> None:
    ballast = small_disk / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            block = bytes(65536)
            while len(block) > 0:
                try:
                    file.write(block)
                except OSError:
                    block = block[: len(block) // 2]

    world = ReplicatedWorld(
        kafka=own_kafka.address,
        database_url=f"sqlite+aiosqlite:///{small_disk / 'quartermaster.db'}",
        litellm_url=standin.url,
        litellm_key=standin.master_key,
        folder=tmp_path,
    )
    async with world:
        service = await world.run_ready()
        report = await suffer(world, service, "SQLite: disk full", blocking(fill), blocking(ballast.unlink))
    tell(report)
    assert about(report, "database: ")


# --- The end, meanwhile ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["postgres", "kafka"])
async def test_told_to_stop_while_something_hangs_it_ends_in_time(
    on_postgres: ReplicatedWorld, own_postgres: "OwnPostgres", own_kafka: "OwnKafka", what: str
) -> None:
    service = await on_postgres.run_ready(shutdown_timeout="5")
    async with Load(on_postgres).running():
        await asyncio.sleep(2)  # the load's own time before the outage
        if what == "postgres":
            await asyncio.to_thread(own_postgres.hang)
        else:
            await asyncio.to_thread(own_kafka.pause_all)
        await asyncio.sleep(2)  # the outage's own time: calls are under way that nobody answers
        begun = time.monotonic()
        code = await service.stop()
        took = time.monotonic() - begun
        await asyncio.to_thread(own_postgres.resume)
        await asyncio.to_thread(own_kafka.start_again)
    told = {
        entry["event"]: entry["timestamp"] for entry in map(json.loads, service.log.read_text().splitlines())
    }
    stopping, stopped = (datetime.fromisoformat(told[one]) for one in ("stopping", "stopped"))
    # Its own time, and what a busy machine takes to deliver the signal and to end a process.
    assert (code, stopped - stopping < timedelta(seconds=9), took < 30) == (0, True, True), (took, told)
