"""The gate before all tries against LiteLLM."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from consumer.litellm.errors import Doubtful, Unauthorized
from consumer.litellm.gate import FIRST_PAUSE_S, LONGEST_PAUSE_S, HealthGate


class World:
    """A proxy that is up or not, and a clock that only pauses move."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.probes = 0
        self.pauses: list[float] = []
        self.states: list[bool] = []
        self.now = 100.0
        self.may_go_on = asyncio.Semaphore(0)
        self.pausing = asyncio.Event()
        self.gate = HealthGate(
            self.probe,
            random=lambda: 1.0,
            clock=lambda: self.now,
            sleep=self.sleep,
            on_change=self.states.append,
        )

    async def probe(self) -> None:
        self.probes += 1
        if self.failures:
            raise self.failures.pop(0)

    async def sleep(self, pause: float) -> None:
        self.pauses.append(pause)
        self.now += pause
        self.pausing.set()
        await self.may_go_on.acquire()

    async def next_pause(self) -> None:
        await self.pausing.wait()
        self.pausing.clear()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    task = asyncio.create_task(world.gate.run())
    yield world
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until_idle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_it_is_open_and_probes_nothing_until_a_failure(world: World) -> None:
    await until_idle()

    assert world.gate.is_open
    assert world.probes == 0
    await world.gate.wait_open()


async def test_it_says_at_the_start_that_it_is_open(world: World) -> None:
    await until_idle()

    assert world.states == [True]


async def test_a_failure_that_the_probe_does_not_share_leaves_it_open(world: World) -> None:
    world.gate.report_failure()
    world.gate.report_failure()
    await until_idle()

    assert world.gate.is_open
    assert world.probes == 1
    assert world.states == [True]


async def test_it_closes_where_the_probe_fails_and_opens_where_one_succeeds(world: World) -> None:
    world.failures = [Doubtful("/key/info", "down"), Doubtful("/key/info", "down")]
    world.gate.report_failure()
    await world.next_pause()
    waiting = asyncio.create_task(world.gate.wait_open())
    await until_idle()

    assert world.states == [True, False]
    assert not waiting.done()
    assert isinstance(world.gate.last_error, Doubtful)
    assert world.gate.closed_for_s == FIRST_PAUSE_S

    world.may_go_on.release()
    await world.next_pause()
    assert world.states == [True, False]

    world.may_go_on.release()
    await waiting
    assert world.states == [True, False, True]
    assert world.gate.closed_for_s == 0
    assert world.pauses == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S]


async def test_it_tells_a_refused_key_from_an_outage(world: World) -> None:
    world.failures = [Unauthorized("/key/info", "no", status=401)]
    world.gate.report_failure()
    await world.next_pause()

    assert not world.gate.is_open
    assert isinstance(world.gate.last_error, Unauthorized)


async def test_it_closes_again_and_pauses_start_small_again(world: World) -> None:
    for _ in range(2):
        world.failures = [Doubtful("/key/info", "down")]
        world.gate.report_failure()
        await world.next_pause()
        world.may_go_on.release()
        await world.gate.wait_open()

    assert world.pauses == [FIRST_PAUSE_S, FIRST_PAUSE_S]


async def test_pauses_grow_to_a_limit(world: World) -> None:
    world.failures = [Doubtful("/key/info", "down")] * 9
    world.gate.report_failure()
    for _ in range(9):
        await world.next_pause()
        world.may_go_on.release()
    await world.gate.wait_open()

    assert world.pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert world.pauses[-2:] == [LONGEST_PAUSE_S, LONGEST_PAUSE_S]


async def test_an_outage_is_said_once_and_so_is_its_end(world: World) -> None:
    world.failures = [Doubtful("/key/info", "no answer")] * 3
    with capture_logs() as logs:
        world.gate.report_failure()
        for _ in range(3):
            await world.next_pause()
            world.gate.report_failure()
            world.may_go_on.release()
        await world.gate.wait_open()
    assert [one["event"] for one in logs] == ["litellm_unavailable", "litellm_back"]
    assert logs[-1]["after_s"] == sum(world.pauses)
