"""The main job at speed: jobs of a hundred organizations, from the topic into the books and out again."""

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from benchmarks.report import Measured
from benchmarks.samples import ORGANIZATIONS, job_value, org_id
from consumer.demo.broker import EmbeddedBroker
from consumer.ingest.batch import Applied, Received, apply_batch
from consumer.ingest.client import make_consumer
from consumer.ingest.judging import IngestPolicy
from consumer.ingest.loop import Ingest, IngestLimits
from consumer.ingest.records import decode_all, incoming
from consumer.ingest.status import IngestStatus
from consumer.metrics import Metrics
from producers.kafka_client import KafkaConnection, make_producer, partition_of
from producers.relay import Relay
from schemas.decode import decode
from schemas.event import InboundEvent
from schemas.outcomes import Origin, Stream
from schemas.transactions import grant_id
from storage import ledger, organizations, outbox
from storage.database import Database, database_now
from storage.ledger import EntryKind, LedgerEntry
from storage.migrations import migrate
from storage.organizations import OrgProfile

PARTITIONS = 6
CREDITS = 10**9
POLICY = IngestPolicy(our_source="/benchmark", credits_per_job=1, dependency_wait=timedelta(hours=1))
ONE_AT_A_TIME = 1_000
"""The naive program is so slow that fewer events tell."""


async def measure(events: int) -> list[Measured]:
    """Compare reading alone, our books, our books with outcomes out, and one event a transaction."""
    async with kafka() as address:
        measured = [Measured("bare: fetch, decode, commit the offsets", events, await _bare(address, events))]
        for name, url in await databases():
            measured += [
                Measured(f"{name}: into the books", events, await _ours(address, url, events, relay=False)),
                Measured(
                    f"{name}: into the books, outcomes out",
                    events,
                    await _ours(address, url, events, relay=True),
                ),
                Measured(
                    f"{name}: one event a transaction",
                    ONE_AT_A_TIME,
                    await _one_at_a_time(address, url, ONE_AT_A_TIME),
                ),
            ]
    return measured


async def _bare(address: str, events: int) -> float:
    topic = await _filled(address, events)
    async with _consumer(address, topic) as consumer:
        start, seen = time.perf_counter(), 0
        while seen < events:
            fetched = await consumer.getmany(timeout_ms=200, max_records=1000)
            for partition, records in fetched.items():
                seen += len(await decode_all(partition, records, max_bytes=524_288))
            if fetched:
                await consumer.commit()
        return time.perf_counter() - start


async def _ours(address: str, url: str, events: int, *, relay: bool) -> float:
    topic = await _filled(address, events)
    outcomes = await create(address, f"outcomes.{uuid.uuid4().hex[:8]}")
    async with books(url) as database, _consumer(address, topic) as consumer:
        stop, applied_all = asyncio.Event(), asyncio.Event()
        seen = 0
        out = Relay(
            database,
            lambda: make_producer(KafkaConnection(bootstrap_servers=address), idempotent=_is_real()),
            dict.fromkeys(Stream, outcomes),
        )

        def applied(one: Applied) -> None:
            nonlocal seen
            seen += sum(one.accepted.values())
            if relay:
                out.wake()
            if seen >= events:
                applied_all.set()

        ingest = Ingest(
            consumer,
            database,
            POLICY,
            IngestLimits(max_event_bytes=524_288),
            metrics=Metrics(CollectorRegistry()),
            status=IngestStatus(),
            on_applied=applied,
        )
        tasks = [asyncio.ensure_future(ingest.run(stop))]
        start = time.perf_counter()
        if relay:
            tasks.append(asyncio.ensure_future(out.run(stop)))
        await applied_all.wait()
        while relay and await _pending(database):  # noqa: ASYNC110 - the relay is another's, as for a user
            await asyncio.sleep(0.01)
        seconds = time.perf_counter() - start
        stop.set()
        await asyncio.gather(*tasks)
        await _check(database, events)
        return seconds


async def _one_at_a_time(address: str, url: str, events: int) -> float:
    topic = await _filled(address, events)
    async with books(url) as database, _consumer(address, topic) as consumer:
        start, seen = time.perf_counter(), 0
        while seen < events:
            for partition, records in (await consumer.getmany(timeout_ms=200, max_records=1000)).items():
                for raw in records:
                    record = incoming(raw)
                    event = decode(record, max_bytes=524_288)
                    assert isinstance(event, InboundEvent)
                    received = [Received(event, record)]

                    async def work(tx: AsyncConnection, received: list[Received] = received) -> Applied:
                        return await apply_batch(
                            tx, received, [], policy=POLICY, origin=Origin.LIVE, now=await database_now(tx)
                        )

                    await database.run(work)
                    await consumer.commit({partition: raw.offset + 1})
                    seen += 1
        return time.perf_counter() - start


# -- parts ------------------------------------------------------------------------------------------------


def _is_real() -> bool:
    return "QM_TEST_KAFKA" in os.environ


@asynccontextmanager
async def kafka() -> AsyncIterator[str]:
    if _is_real():
        yield os.environ["QM_TEST_KAFKA"]
        return
    async with EmbeddedBroker() as broker:
        yield broker.connection.bootstrap_servers


async def databases() -> list[tuple[str, str]]:
    found = [("SQLite", "sqlite")]
    if server := os.environ.get("QM_TEST_POSTGRES"):
        found.append(("PostgreSQL", server))
    return found


@asynccontextmanager
async def books(url: str) -> AsyncIterator[Database]:
    """Give a database of its own in which every organization is active."""
    async with _fresh(url) as fresh:
        database = await Database.connect(fresh)
        try:
            await migrate(database)
            for number in range(ORGANIZATIONS):
                await database.run(_activation(org_id(number)))
            yield database
        finally:
            await database.close()


@asynccontextmanager
async def _fresh(url: str) -> AsyncIterator[str]:
    if url == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite+aiosqlite:///{Path(folder) / 'books.db'}"
        return
    server = make_url(url).set(drivername="postgresql+asyncpg")
    name = f"bench_{uuid.uuid4().hex[:8]}"
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
        yield server.set(database=name).render_as_string(hide_password=False)
        async with engine.connect() as connection:
            await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        await engine.dispose()


def _activation(org: str) -> Callable[[AsyncConnection], Awaitable[None]]:
    now = datetime.now(UTC)

    async def work(tx: AsyncConnection) -> None:
        state = (await organizations.lock(tx, [org]))[org]
        state = await organizations.activate(
            tx,
            state,
            OrgProfile(
                org_id=org,
                name=org,
                owner_user_id="owner",
                team_id=org,
                adopted=False,
                max_budget_usd=None,
                models=(),
                metadata=None,
                provisioned_at=now,
            ),
        )
        await ledger.append(
            tx,
            [
                LedgerEntry(
                    transaction_id=grant_id(org),
                    org_id=org,
                    entry=1,
                    kind=EntryKind.GRANT,
                    credits=CREDITS,
                    balance_after=CREDITS,
                    sequence=None,
                    job_id=None,
                    reason=None,
                    corrects=None,
                    created_at=now,
                )
            ],
        )
        await organizations.save(tx, [replace(state, balance=CREDITS, entries=1)])

    return work


async def _check(database: Database, events: int) -> None:
    """A figure counts only where the books are right."""
    async with database.reading() as tx:
        verification = await ledger.verify(tx)
    assert verification.ok, verification.problems
    assert verification.entries == events + ORGANIZATIONS


async def _pending(database: Database) -> int:
    async with database.reading() as tx:
        return await outbox.count_pending(tx)


async def create(address: str, topic: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    finally:
        await admin.close()
    return topic


async def _filled(address: str, events: int) -> str:
    topic = await create(address, f"jobs.{uuid.uuid4().hex[:8]}")
    producer = AIOKafkaProducer(bootstrap_servers=address, linger_ms=20, max_batch_size=256 * 1024)
    await producer.start()
    try:
        sent = []
        for number in range(events):
            key = org_id(number).encode()
            sent.append(
                await producer.send(
                    topic, job_value(number), key=key, partition=partition_of(key, PARTITIONS)
                )
            )
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    return topic


@asynccontextmanager
async def _consumer(address: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = make_consumer(
        [topic],
        KafkaConnection(bootstrap_servers=address),
        group_id=f"bench-{uuid.uuid4().hex[:8]}",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()
