"""A replay of what is known already, as a process of its own, against reading and checking alone.

What makes a figure count: before and after, the books hold the same ledger, outcomes and outbox.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition
from cryptography.fernet import Fernet
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks import ingest
from benchmarks.report import Measured
from benchmarks.samples import job_record, job_value, org_id
from consumer.cli.replay import NICE
from consumer.garbage import garbage_rarely
from consumer.ingest.client import make_consumer
from consumer.ingest.records import decode_all
from producers.kafka_client import KafkaConnection, partition_of
from schemas.decode import decode
from schemas.event import InboundEvent
from storage import identities
from storage.database import Database
from storage.tables import ledger_entries, outbox, outcomes

WINDOW = 20_000
"""Records on their way to the broker at once."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process of ours came to."""

    said: dict[str, Any]
    seconds: float
    peak_mb: float


async def measure(events: int) -> list[Measured]:
    """Compare reading and checking alone with replays: of what is new, and of what is known."""
    async with ingest.kafka() as address:
        topic = await filled(address, events)
        measured = [Measured("bare: getmany and decode", events, await _bare(address, topic, events))]
        for name, url in await ingest.databases():
            async with ingest.books(url) as database:
                env = environment(address, database)
                new = await replayed(env, topic, "--rate", "0")
                assert new.said["new"] == events, new.said
                before = await _counts(database)
                known = await replayed(env, topic)
                assert known.said["duplicate"] == events, known.said
                assert await _counts(database) == before
                looked = await replayed(env, topic, "--dry-run")
                assert looked.said["duplicate"] == events, looked.said
                measured += [
                    Measured(f"{name}: replay of new events{_peak(new)}", events, new.seconds),
                    Measured(f"{name}: replay of known events{_peak(known)}", events, known.seconds),
                    Measured(f"{name}: dry run over known events{_peak(looked)}", events, looked.seconds),
                ]
    return measured


async def measure_known(events: int) -> list[Measured]:
    """Compare reading and checking alone with replays of what is known, for great numbers of events."""
    async with ingest.kafka() as address:
        topic = await filled(address, events)
        measured = [Measured("bare: getmany and decode", events, await _bare(address, topic, events))]
        for name, url in await ingest.databases():
            async with ingest.books(url) as database:
                await _make_known(database, events)
                before = await _counts(database)
                known = await replayed(environment(address, database), topic)
                assert known.said["duplicate"] == events, known.said
                assert await _counts(database) == before
                measured.append(
                    Measured(f"{name}: replay of known events{_peak(known)}", events, known.seconds)
                )
    return measured


async def _make_known(database: Database, events: int) -> None:
    """Register the events without their effects, which a replay of what is known never looks at."""
    for start in range(0, events, WINDOW):
        pairs = []
        for number in range(start, min(start + WINDOW, events)):
            event = decode(job_record(number), max_bytes=524_288)
            assert isinstance(event, InboundEvent)
            pairs.append((event.identity, event.fingerprint))

        async def work(tx: AsyncConnection, pairs: list[tuple[UUID, bytes]] = pairs) -> object:
            return await identities.register(tx, pairs)

        await database.run(work)


def _peak(ended: Ended) -> str:
    return f", peak {ended.peak_mb:.0f} MB"


async def _bare(address: str, topic: str, events: int) -> float:
    """Read and check in a process as nice to others as a replay is; its start does not count."""
    command = [sys.executable, "-m", "benchmarks.replay", address, topic, str(events)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return float(out)


async def _read_and_check(address: str, topic: str, events: int) -> float:
    consumer = make_consumer([], KafkaConnection(bootstrap_servers=address), group_id=None)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(ingest.PARTITIONS)]
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, 0)
        with garbage_rarely():
            start, seen = time.perf_counter(), 0
            while seen < events:
                fetched = await consumer.getmany(timeout_ms=200, max_records=1000)
                for partition, records in fetched.items():
                    seen += len(await decode_all(partition, records, max_bytes=524_288))
            return time.perf_counter() - start
    finally:
        await consumer.stop()


async def replayed(env: dict[str, str], topic: str, *more: str) -> Ended:
    """Run `quartermaster replay` to its end: its whole time counts, its start too."""
    command = [sys.executable, "-m", "consumer", "replay", "--topic", topic, "--json", *more]

    def run() -> Ended:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        assert status == 0, (command, status, out)
        return Ended(json.loads(out), seconds, usage.ru_maxrss / 1024)

    return await asyncio.to_thread(run)


def environment(address: str, database: Database, **more: str) -> dict[str, str]:
    """Give the settings of a process; LiteLLM is nobody's address, for a replay calls nothing there."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
    return inherited | {
        "QM_KAFKA_BOOTSTRAP_SERVERS": address,
        "QM_DATABASE_URL": database.url.render_as_string(hide_password=False),
        "QM_LITELLM_URL": "http://127.0.0.1:9",
        "QM_LITELLM_MASTER_KEY": "sk-nobody",
        "QM_KEY_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        **more,
    }


async def _counts(database: Database) -> list[int]:
    async with database.reading() as tx:
        return [
            await tx.scalar(select(func.count()).select_from(table)) or 0
            for table in (ledger_entries, outcomes, outbox)
        ]


async def filled(address: str, events: int, *, first: int = 0) -> str:
    """Give a topic with so many events."""
    topic = await ingest.create(address, f"history.{os.urandom(4).hex()}")
    async with producing(address) as producer:
        for start in range(first, first + events, WINDOW):
            sent = []
            for number in range(start, min(start + WINDOW, first + events)):
                key = org_id(number).encode()
                partition = partition_of(key, ingest.PARTITIONS)
                sent.append(await producer.send(topic, job_value(number), key=key, partition=partition))
            await asyncio.gather(*sent)
    return topic


@asynccontextmanager
async def producing(address: str, *, linger_ms: int = 20) -> AsyncIterator[AIOKafkaProducer]:
    """Give a producer that gathers what it sends for `linger_ms`."""
    producer = AIOKafkaProducer(bootstrap_servers=address, linger_ms=linger_ms, max_batch_size=256 * 1024)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


if __name__ == "__main__":
    os.nice(NICE)
    print(asyncio.run(_read_and_check(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
