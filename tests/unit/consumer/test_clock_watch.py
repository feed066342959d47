"""What counts as a step of the database's clock, and what is done about it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from consumer import clock_watch
from consumer.clock_watch import ClockWatch
from storage.clock_steps import Longest
from storage.database import Database

START = datetime(2030, 1, 1, tzinfo=UTC)


class World:
    """A database that answers after a while, its clock, and ours."""

    def __init__(self) -> None:
        self.ours = 100.0
        self.theirs = START
        self.answers_after = 0.0
        self.cuts = 0
        self.found = 0
        self.watch = ClockWatch(
            cast("Database", self),
            cast("Longest", None),
            clock=self.clock,
            monotonic=lambda: self.ours,
        )

    async def clock(self, _tx: object) -> datetime:
        return self.theirs

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        yield
        self.passes(self.answers_after)

    async def run(self, work: Callable[[Any], Awaitable[int]]) -> int:
        return await work(None)

    def passes(self, seconds: float) -> None:
        self.ours += seconds
        self.theirs += timedelta(seconds=seconds)

    def steps(self, seconds: float) -> None:
        self.theirs += timedelta(seconds=seconds)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    async def cut_to_length(_tx: object, now: datetime, _longest: object) -> int:
        assert now == world.theirs
        world.cuts += 1
        return world.found

    monkeypatch.setattr(clock_watch, "cut_to_length", cut_to_length)
    return world


async def test_a_start_looks_for_what_a_step_back_would_have_left(world: World) -> None:
    with capture_logs() as logs:
        await world.watch.look()
    assert (world.cuts, logs) == (1, [])


async def test_what_a_start_finds_is_said(world: World) -> None:
    world.found = 3
    with capture_logs() as logs:
        await world.watch.look()
    assert [(one["event"], one["moments_cut"], one["by_s"]) for one in logs] == [
        ("database_clock_went_back", 3, None)
    ]


async def test_a_step_back_is_put_right_once_and_said_once(world: World) -> None:
    await world.watch.look()
    world.passes(5)
    world.steps(-3600)
    with capture_logs() as logs:
        for _ in range(3):
            await world.watch.look()
            world.passes(5)
    assert world.cuts == 2
    assert [(one["event"], one["by_s"]) for one in logs] == [("database_clock_went_back", 3600.0)]


async def test_a_step_ahead_is_said_and_nothing_is_cut(world: World) -> None:
    await world.watch.look()
    world.steps(3600)
    with capture_logs() as logs:
        await world.watch.look()
    assert world.cuts == 1
    assert [(one["event"], one["by_s"]) for one in logs] == [("database_clock_went_ahead", 3600.0)]


async def test_a_database_that_answers_late_has_no_other_clock(world: World) -> None:
    with capture_logs() as logs:
        for late in (0.0, 60.0, 0.0, 60.0, 60.0):
            world.answers_after = late
            await world.watch.look()
            world.passes(5)
    assert (world.cuts, logs) == (1, [])
