"""What a batch and an event cost, as numbers that only ever go down: time is noisy, counts are not.

Whoever makes one of them smaller makes the number here smaller too.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from consumer.ingest.batch import WRITE_AT, Received
from consumer.ingest.judging import IngestPolicy
from consumer.ingest.loop import Ingest, IngestLimits
from consumer.ingest.offsets import OffsetsToCommit
from consumer.ingest.status import IngestStatus
from consumer.metrics import Metrics
from producers.kafka_client import KafkaConnection, make_producer
from producers.relay import Relay
from schemas.decode import IncomingRecord
from schemas.outcomes import Stream
from storage import outbox, tables
from storage.database import Database
from storage.written_outcomes import WrittenOutcomes
from tests.integration.consumer.ingest.events import activate, ingest, received
from tests.parts.choice import KAFKA

BATCH = 500
ORGS = 10

STATEMENTS_A_BATCH = {"postgresql": 6, "sqlite": 11}
"""Begin and commit among them."""
STATEMENTS_A_PART = {"postgresql": 1, "sqlite": 4}
"""More, for each part after the first in which a long batch is written."""
ROUND_TRIPS_A_BATCH = 6
"""To PostgreSQL."""
STATEMENTS_A_PAGE = 2
"""Of the relay in the outbox: delete what was acknowledged, read the next page."""
OUTCOME_BYTES = 1_150
"""Of a job's outcome on the topic, where the event has 812."""
ROWS_AN_EVENT = {"identities": 1, "ledger_entries": 1, "outcomes": 1, "outbox": 1}
"""Those of a charge; a duplicate has none, and the outbox's goes once it is published."""


@dataclass
class Cost:
    """What has been asked of a database since `clear`."""

    clear: Callable[[], None]
    statements: Callable[[], list[str]]
    round_trips: Callable[[], int]

    def of(self, keyword: str) -> int:
        return sum(text.lstrip().upper().startswith(keyword) for text in self.statements())


@pytest.fixture
async def counted_database(database_url: str, dialect: str) -> AsyncIterator[tuple[Database, Cost]]:
    """A database in which organizations are active, and what is asked of it below every layer of ours."""
    async with contextlib.AsyncExitStack() as stack:
        url = database_url
        if dialect == "postgresql":
            from tests.parts.wire import counted  # noqa: PLC0415

            counting, asked = await stack.enter_async_context(counted(make_url(url)))
            url = counting.render_as_string(hide_password=False)
        database = await Database.connect(url)
        stack.push_async_callback(database.close)
        for number in range(ORGS):
            await activate(database, org=f"org-{number}", credits_=1_000_000)
        if dialect == "postgresql":
            cost = Cost(asked.clear, lambda: list(asked.statements), lambda: asked.round_trips)
        else:
            traced: list[str] = []
            async with database.transaction() as tx:
                raw = await tx.get_raw_connection()
                await cast("Any", raw.driver_connection).set_trace_callback(traced.append)
            cost = Cost(traced.clear, lambda: _runs(traced), lambda: len(_runs(traced)))
        yield database, cost


_LITERAL = re.compile(r"[xX]?'(?:[^']|'')*'|\b\d+(\.\d+)?\b|\bNULL\b")


def _runs(traced: list[str]) -> list[str]:
    """What SQLite carried out, one statement over many rows told once: it is handed over once."""
    found: list[str] = []
    last = ""
    for text in traced:
        shape = _LITERAL.sub("?", text)
        if shape != last:
            found.append(text)
        last = shape
    return found


def event(number: int) -> bytes:
    """A job of 812 bytes, as a platform sends it."""
    org = f"org-{number % ORGS}"
    value = {
        "specversion": "1.0",
        "id": f"evt-{number:012}",
        "source": "/platform/jobs",
        "type": "job.completed",
        "time": "2026-03-01T12:00:00.123Z",
        "datacontenttype": "application/json",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": {
            "job_id": f"job-{number:012}",
            "org_id": org,
            "user_id": f"user-{number:05}",
            "job_type": "batch-inference",
            "status": "completed",
            "usage": {
                "total_calls": 12,
                "successful_calls": 12,
                "failed_calls": 0,
                "prompt_tokens": 18231,
                "completion_tokens": 2044,
                "total_tokens": 20275,
                "total_cost_usd": "0.123400",
                "avg_latency_ms": 812.5,
            },
            "started_at": "2026-03-01T11:59:00Z",
            "completed_at": "2026-03-01T12:00:00Z",
            "metadata": {"region": "eu-central-1", "queue": "default", "padding": ""},
        },
    }
    lacking = 812 - len(json.dumps(value))
    cast("Any", value["data"])["metadata"]["padding"] = "x" * lacking
    return json.dumps(value).encode()


def jobs(first: int, count: int = BATCH) -> list[Received]:
    return [
        received(IncomingRecord("in", 0, number, 0, b"key", event(number), ()))
        for number in range(first, first + count)
    ]


async def warm(database: Database) -> None:
    """Have every statement prepared."""
    await ingest(database, *jobs(1_000_000, 20))


@pytest.mark.parametrize("size", [20, BATCH])
async def test_a_batch_of_any_size_costs_so_many_statements_and_one_commit(
    counted_database: tuple[Database, Cost], dialect: str, size: int
) -> None:
    database, cost = counted_database
    await ingest(database, *jobs(1_000_000, size))  # has every statement prepared
    cost.clear()
    await ingest(database, *jobs(0, size))
    assert len(cost.statements()) <= STATEMENTS_A_BATCH[dialect], cost.statements()
    assert cost.of("COMMIT") == 1
    if dialect == "postgresql":
        assert cost.round_trips() <= ROUND_TRIPS_A_BATCH


async def test_a_batch_of_duplicates_costs_no_more_than_looking(
    counted_database: tuple[Database, Cost], dialect: str
) -> None:
    database, cost = counted_database
    batch = jobs(0)
    await ingest(database, *batch)
    before = await rows(database)
    cost.clear()
    await ingest(database, *batch)
    assert len(cost.statements()) <= 4, cost.statements()
    assert await rows(database) == before


async def test_a_look_into_the_outbox_is_one_round_trip(
    counted_database: tuple[Database, Cost], dialect: str
) -> None:
    database, cost = counted_database
    applied = await ingest(database, *jobs(0, 20))
    shards = list(range(outbox.SHARDS))
    for _ in range(2):  # the first time it is prepared
        written = WrittenOutcomes()
        written.add(applied.written)
        cost.clear()
        async with database.looking() as tx:
            assert len(await outbox.pending(tx, shards, limit=1000, written=written)) == 20
    if dialect == "postgresql":
        assert (len(cost.statements()), cost.round_trips()) == (1, 1)


async def test_a_charge_costs_so_many_rows(database: Database) -> None:
    for number in range(ORGS):
        await activate(database, org=f"org-{number}", credits_=1_000_000)
    before = await rows(database)
    await ingest(database, *jobs(0))
    after = await rows(database)
    more = {name: count - before[name] for name, count in after.items() if count != before[name]}
    assert more == {name: each * BATCH for name, each in ROWS_AN_EVENT.items()}


async def rows(database: Database) -> dict[str, int]:
    async with database.reading() as tx:
        return {
            table.name: await tx.scalar(select(func.count()).select_from(table)) or 0
            for table in tables.metadata.sorted_tables
        }


async def test_an_outcome_is_no_longer_than_that(database: Database) -> None:
    await activate(database, org="org-0", credits_=1_000_000)
    await ingest(database, *jobs(0, 1))
    async with database.reading() as tx:
        [record] = await outbox.pending(tx, list(range(outbox.SHARDS)))
    assert record.key is not None
    assert record.value is not None
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    assert len(record.key) + len(record.value) + headers <= OUTCOME_BYTES


class Consumer:
    """A member of the group with one full batch for it, that notes what is committed."""

    PLACE = TopicPartition("in", 0)

    def __init__(self, count: int) -> None:
        self.left = [
            ConsumerRecord("in", 0, number, 0, 0, b"key", event(number), None, 0, 812, ())
            for number in range(count)
        ]
        self.end = count
        self.commits: list[Mapping[TopicPartition, int]] = []
        self.committed = asyncio.Event()

    def assignment(self) -> set[TopicPartition]:
        return {self.PLACE}

    def paused(self) -> set[TopicPartition]:
        return set()

    async def getmany(self, *_: Any, timeout_ms: int, max_records: int | None = None) -> Any:
        taken = self.left[:max_records]
        self.left = self.left[len(taken) :]
        if not taken:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        return {self.PLACE: taken}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.commits.append(offsets)
        if offsets[self.PLACE] == self.end:
            self.committed.set()

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.end)

    async def position(self, _: TopicPartition) -> int:
        return self.end - len(self.left)


async def test_a_full_batch_costs_one_transaction_and_one_commit_of_offsets(
    counted_database: tuple[Database, Cost], dialect: str
) -> None:
    database, cost = counted_database
    await warm(database)
    limits = IngestLimits(max_event_bytes=524_288)
    batches = 3
    consumer = Consumer(batches * limits.max_batch_records)
    ingesting = Ingest(
        cast("Any", consumer),
        database,
        IngestPolicy(our_source="/q", credits_per_job=1, dependency_wait=timedelta(hours=1)),
        limits,
        offsets=OffsetsToCommit(),
        metrics=Metrics(CollectorRegistry()),
        status=IngestStatus(),
        on_applied=lambda _: None,
    )
    stop = asyncio.Event()
    cost.clear()
    running = asyncio.ensure_future(ingesting.run(stop))
    async with asyncio.timeout(60):
        await consumer.committed.wait()
    stop.set()
    await running
    assert len(consumer.commits) == batches
    assert cost.of("COMMIT") == batches
    more = (limits.max_batch_records // WRITE_AT - 1) * STATEMENTS_A_PART[dialect]
    # The database's clock is asked beside the batch's own.
    assert len(cost.statements()) <= batches * (STATEMENTS_A_BATCH[dialect] + more + 1)


async def test_a_page_of_outcomes_costs_the_relay_so_many_statements(
    counted_database: tuple[Database, Cost], kafka_address: str, topic_factory: Any
) -> None:
    database, cost = counted_database
    pages, page_rows = 4, 250
    await ingest(database, *jobs(0, pages * page_rows))
    [topic] = await topic_factory.create("outcomes", partitions=3)
    connection = KafkaConnection(bootstrap_servers=kafka_address)
    relay = Relay(
        database,
        lambda: make_producer(connection, idempotent=KAFKA.is_real),
        dict.fromkeys(Stream, topic),
        page_rows=page_rows,
    )
    stop = asyncio.Event()
    cost.clear()
    running = asyncio.ensure_future(relay.run(stop))
    async with asyncio.timeout(60):
        while relay.status().published < pages * page_rows:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    stop.set()
    await running
    in_outbox = [text for text in cost.statements() if "outbox" in text]
    # The last two find the outbox empty, when it has just become so and once more at the end.
    assert len(in_outbox) <= (pages + 2) * STATEMENTS_A_PAGE, in_outbox
