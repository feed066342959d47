"""Stored outcomes once more: the same bytes, in order, each as often as asked for and no more."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from consumer.replay.emitting import Emitted, re_emit, would_emit
from consumer.replay.stored import StoredSelection
from storage import outbox, replays
from storage.database import Database
from storage.outbox import PendingRecord
from tests.integration.consumer.ingest.events import NOW, activate, ingest, job

ALL = StoredSelection()


async def emit(database: Database, selection: StoredSelection = ALL, **more: Any) -> Emitted:
    given: dict[str, Any] = {
        "command_id": uuid4(),
        "restart": False,
        "rate": None,
        "stop": asyncio.Event(),
        "on_begun": lambda _first, _last: None,
        "on_progress": lambda _: None,
        **more,
    }
    return await re_emit(database, selection, "/quartermaster", **given)


async def pending(database: Database, *, after: int = 0) -> list[PendingRecord]:
    async with database.reading() as tx:
        return await outbox.pending(tx, range(outbox.SHARDS), after=after, limit=100_000)


async def published(database: Database) -> list[PendingRecord]:
    """Take everything out of the outbox, as the relay would."""
    rows = await pending(database)
    async with database.transaction() as tx:
        await outbox.acknowledge(tx, [row.outbox_id for row in rows])
    return rows


def content(rows: list[PendingRecord]) -> list[Any]:
    return [(row.stream, row.key, row.value, row.headers) for row in rows]


async def test_the_same_bytes_in_the_order_decided(database: Database) -> None:
    for org in ("acme", "other"):
        await activate(database, org=org)
        await ingest(database, *(job(str(n), org=org) for n in range(4)))
    first = await published(database)
    assert (await would_emit(database, ALL, "/quartermaster")).types == {"credits.deducted": 8}
    assert await pending(database) == []
    emitted = await emit(database)
    assert emitted.types == {"credits.deducted": 8}
    assert content(await pending(database)) == content(first)


@pytest.mark.parametrize(
    ("selection", "jobs"),
    [
        (StoredSelection(orgs=frozenset({"acme"})), {"acme-0", "acme-1"}),
        (StoredSelection(event_ids=frozenset({"e-other-1"})), {"other-1"}),
        (StoredSelection(event_ids=frozenset({"e-other-1"}), sources=frozenset({"/platform"})), {"other-1"}),
        (StoredSelection(sources=frozenset({"/nobody"})), set()),
        (StoredSelection(begin=NOW), {"acme-0", "acme-1", "other-0", "other-1"}),
        (StoredSelection(end=NOW), set()),
    ],
)
async def test_only_those_asked_for(database: Database, selection: StoredSelection, jobs: set[str]) -> None:
    for org in ("acme", "other"):
        await activate(database, org=org)
        await ingest(database, *(job(f"{org}-{n}", org=org, id_=f"e-{org}-{n}") for n in range(2)))
    await published(database)
    await emit(database, selection)
    assert {
        one for one in jobs if any(one.encode() in (row.value or b"") for row in await pending(database))
    } == jobs
    assert len(await pending(database)) == len(jobs)


async def test_stopped_it_goes_on_where_it_was(database: Database) -> None:
    await activate(database, credits_=100)
    await ingest(database, *(job(str(n)) for n in range(50)))
    first = await published(database)
    command, stop = uuid4(), asyncio.Event()
    begun: list[tuple[int, int]] = []
    # Ten a second are entered one by one.
    emitted = await emit(
        database,
        command_id=command,
        rate=10.0,
        stop=stop,
        on_progress=lambda number: number >= 1 and stop.set(),
    )
    assert emitted.total == 1
    rest = await emit(database, command_id=command, on_begun=lambda *bounds: begun.append(bounds))
    assert rest.total == 49
    assert begun[0][0] > 0
    assert content(await pending(database)) == content(first)
    async with database.transaction() as tx:
        assert await replays.take_over(tx, command, uuid4()) is None


async def test_what_is_decided_meanwhile_is_not_published_twice(database: Database) -> None:
    await activate(database, credits_=100)
    await ingest(database, job("a"))
    command, stop = uuid4(), asyncio.Event()
    stop.set()
    await emit(database, command_id=command, stop=stop)
    await published(database)
    await ingest(database, job("b"))
    await emit(database, command_id=command)
    assert [b'"b"' in (row.value or b"") for row in await pending(database)] == [True]
