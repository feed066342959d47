"""What the observer makes of a database that hangs, and how often it says what changed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from consumer.ingest.status import IngestStatus
from consumer.metrics import Metrics
from consumer.observer import DATABASE_SILENT_AFTER_S, Observer
from storage.database import Database


class Instance:
    """An observer of an instance in order, with a clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.status = IngestStatus(member_at=self.now, broker_seen_at=self.now, progress_at=self.now)
        self.observer = Observer(
            self.status,
            Metrics(CollectorRegistry()),
            stopping=lambda: False,
            monotonic=lambda: self.now,
        )
        self.observer.database_error = None


@pytest.fixture
def instance() -> Instance:
    return Instance()


class HangingDatabase:
    """Takes questions and answers none."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        self.asked.set()
        await asyncio.Event().wait()
        yield


async def test_a_database_that_hangs_makes_unready_long_before_its_statements_fail(
    instance: Instance,
) -> None:
    database = HangingDatabase()
    running = asyncio.ensure_future(instance.observer.run(cast("Database", database), asyncio.Event()))
    await database.asked.wait()
    assert instance.observer.reasons() == []
    instance.now += DATABASE_SILENT_AFTER_S + 1
    instance.status.member_at = instance.now
    assert instance.observer.reasons() == ["database: no answer for 11 s"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_batch_that_hangs_makes_unready_though_others_are_answered(instance: Instance) -> None:
    instance.status.applying_since = instance.now
    instance.now += DATABASE_SILENT_AFTER_S
    assert instance.observer.reasons() == []
    instance.now += 5
    assert instance.observer.reasons() == ["database: no answer for 15 s"]
    instance.status.applying_since = None
    assert instance.observer.reasons() == []


def said(logs: Any) -> list[Any]:
    return [(one["event"], one.get("reasons")) for one in logs]


def test_what_changes_is_said_once_and_said_when_it_is_over(instance: Instance) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            instance.observer.tell()
        instance.status.database_away = True
        for _ in range(3):
            instance.observer.tell()
        instance.status.broker_error = "no answer for 21 s"
        instance.observer.tell()
        instance.status.broker_error = "no answer for 22 s"
        instance.observer.tell()
        instance.status.database_away = False
        instance.observer.tell()
        instance.status.broker_error = None
        for _ in range(3):
            instance.observer.tell()
    assert said(logs) == [
        ("ready", None),
        ("not_ready", ["database: does not answer, a batch waits"]),
        ("not_ready", ["broker: no answer for 21 s"]),
        ("ready", None),
    ]


def test_before_it_was_ever_ready_nothing_is_said(instance: Instance) -> None:
    instance.observer.database_error = "not reached yet"
    with capture_logs() as logs:
        instance.observer.tell()
        instance.observer.database_error = None
        instance.observer.tell()
    assert said(logs) == [("ready", None)]
