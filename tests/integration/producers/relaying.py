"""Outboxes with something in them, relays on them, and what then stands on a topic."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from producers.kafka_client import KafkaConnection, make_producer
from producers.relay import Relay
from schemas.dead_letters import DeadLetterReason, dead_letter_digest
from schemas.outcomes import EncodedOutcome, Origin, OutcomeType, Stream, encode_outcome, operator_cause
from storage import organizations, outbox
from storage.database import Database
from storage.dead_letters import DeadLetter
from tests.parts.choice import KAFKA

DECIDED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def outcome(org_id: str, number: int, *, pad: int = 0) -> EncodedOutcome:
    return encode_outcome(
        OutcomeType.CREDITS_DEDUCTED,
        {"org_id": org_id, "number": number, "pad": "x" * pad},
        org_id=org_id,
        cause=operator_cause("/test", f"{org_id}-{number}"),
        decided_at=DECIDED,
        origin=Origin.LIVE,
        round=1,
        our_source="/quartermaster",
    )


def letter(number: int, *, key: bytes | None = b"k", value: bytes | None = b"{") -> DeadLetter:
    return DeadLetter(
        digest=dead_letter_digest("in", 0, number, value),
        topic="in",
        partition=0,
        offset=number,
        timestamp_ms=1_767_322_445_000,
        key=key,
        value=value,
        headers=(("a", b"1"), ("a", None), ("b", b"")),
        reason=DeadLetterReason.INVALID_JSON,
        error="EOF",
        event_id=None,
        event_source=None,
        event_type=None,
        dead_lettered_at=DECIDED,
        origin=Origin.LIVE,
    )


async def decide(database: Database, outcomes: Sequence[EncodedOutcome]) -> None:
    """Enter outcomes in the outbox as the consumer does: under the locks of their organizations."""
    async with database.transaction() as tx:
        await organizations.lock(tx, sorted({each.org_id for each in outcomes}))
        await outbox.append_outcomes(tx, outcomes)


async def pending(database: Database) -> int:
    async with database.reading() as tx:
        return await outbox.count_pending(tx)


def numbers(records: Iterable[ConsumerRecord]) -> dict[str, list[int]]:
    """Each organization's outcomes, in the order in which they first stand on the topic."""
    found: dict[str, dict[int, None]] = {}
    for record in records:
        data = json.loads(record.value)["data"]
        found.setdefault(data["org_id"], {})[data["number"]] = None
    return {org_id: list(of_org) for org_id, of_org in found.items()}


class Bench:
    """A broker's address, and what tests do with it."""

    def __init__(self, address: str) -> None:
        self.connection = KafkaConnection(bootstrap_servers=address)
        self.address = address
        self.idempotent = KAFKA.is_real

    def relay(self, database: Database, topic: str | dict[Stream, str], **options: Any) -> Relay:
        topics = dict.fromkeys(Stream, topic) if isinstance(topic, str) else topic
        return Relay(
            database, lambda: make_producer(self.connection, idempotent=self.idempotent), topics, **options
        )

    async def read(self, topic: str, *, partitions: int, count: int) -> list[ConsumerRecord]:
        """Everything on a topic, once at least `count` records stand there."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address, fetch_max_wait_ms=50)
        await consumer.start()
        try:
            places = [TopicPartition(topic, number) for number in range(partitions)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            found: list[ConsumerRecord] = []
            async with asyncio.timeout(30):
                while len(found) < count or not await _at_end(consumer, places):
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        found += records
            return found
        finally:
            await consumer.stop()


async def _at_end(consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]) -> bool:
    for place in places:
        if await consumer.position(place) < (consumer.highwater(place) or 0):
            return False
    return True


@contextlib.asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    task = asyncio.ensure_future(relay.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await task


async def emptied(database: Database, *, within_s: float = 30) -> None:
    """Wait until nothing is left to publish."""
    async with asyncio.timeout(within_s):
        while await pending(database):  # noqa: ASYNC110 - only the database knows
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], object], *, within_s: float = 20) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is looked at tells nobody
            await asyncio.sleep(0.01)
