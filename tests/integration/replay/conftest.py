"""Topics with a history, and replays of them into a database, in this process."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from consumer.ingest.applying import Applier
from consumer.ingest.client import make_consumer
from consumer.replay.opening import Opened, open_replay
from consumer.replay.reading import Reader
from consumer.replay.running import Replay, ReplayLimits
from consumer.replay.selection import NO_BOUND, Bound, Selection
from consumer.replay.tally import Tally
from producers.kafka_client import KafkaConnection
from schemas.json_codec import dump_json
from schemas.outcomes import Origin
from storage.database import Database
from tests.integration.consumer.ingest.events import POLICY
from tests.parts.kafka import TopicFactory

FAR = 1_767_225_600_000
"""Where the times of records begin: 2026-01-01, in milliseconds."""

LIMITS = ReplayLimits(max_event_bytes=100_000)


def value(type_: str, data: dict[str, Any], id_: str) -> bytes:
    return dump_json({"specversion": "1.0", "id": id_, "source": "/platform", "type": type_, "data": data})


def job(number: int, *, org: str = "acme", status: str = "completed", id_: str | None = None) -> bytes:
    data = {"org_id": org, "job_id": f"job-{number}", "status": status}
    return value("job.completed", data, id_ or f"e-{org}-{number}")


def founded(org: str, **more: Any) -> bytes:
    return value("org.created", {"org_id": org, "name": org, "owner_user_id": "ann", **more}, f"o-{org}")


@dataclass(slots=True)
class Ran:
    """What a run of a replay came to."""

    opened: Opened
    finished: bool
    tally: Tally


class Replays:
    """A topic of a test's own, and replays of it."""

    def __init__(self, address: str, database: Database, topic: str) -> None:
        self.connection = KafkaConnection(bootstrap_servers=address)
        self.database = database
        self.topic = topic

    async def produce(
        self,
        values: Sequence[bytes | None],
        *,
        partition: int = 0,
        times: Sequence[int] | None = None,
        topic: str | None = None,
    ) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.connection.bootstrap_servers, linger_ms=20)
        await producer.start()
        try:
            sent = [
                await producer.send(
                    topic or self.topic,
                    one,
                    key=b"key",
                    partition=partition,
                    timestamp_ms=None if times is None else FAR + times[number],
                )
                for number, one in enumerate(values)
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    def selection(self, *, begin: Bound = NO_BOUND, end: Bound = NO_BOUND, **more: Any) -> Selection:
        return Selection(topics=(self.topic,), begin=begin, end=end, **more)

    async def run(
        self,
        selection: Selection | None = None,
        *,
        limits: ReplayLimits = LIMITS,
        restart: bool = False,
        stop_after: int | None = None,
        database: Database | None = None,
    ) -> Ran:
        """Run a replay; `stop_after` so many records it is asked to stop."""
        chosen = selection or self.selection()
        into = database or self.database
        stop = asyncio.Event()

        def on_progress(passed: int, _tally: Tally) -> None:
            if stop_after is not None and passed >= stop_after:
                stop.set()

        consumer = make_consumer([], self.connection, group_id=None)
        await consumer.start()
        try:
            opened = await open_replay(into, consumer, self.connection, chosen, restart=restart)
            replay = Replay(
                Reader(consumer, opened.spans),
                Applier(database=into, policy=POLICY, origin=Origin.REPLAY),
                chosen,
                opened.run,
                limits,
                on_progress=on_progress,
            )
            finished = await replay.run(stop)
        finally:
            await consumer.stop()
        return Ran(opened, finished, replay.tally)


@pytest.fixture
async def replays(kafka_address: str, database: Database, topic_factory: TopicFactory) -> Replays:
    (topic,) = await topic_factory.create(f"in-{uuid.uuid4().hex[:6]}", partitions=3)
    return Replays(kafka_address, database, topic)
