"""From Kafka's records to decoded ones, in pieces that leave the event loop room to breathe."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka.structs import ConsumerRecord, TopicPartition

from consumer.ingest.expansion import Unread
from schemas.dead_letters import DeadLetterReason
from schemas.decode import IncomingRecord, PassedOver, Rejected, decode
from schemas.event import InboundEvent

EVENTS_PER_TURN = 20
"""After how many decoded events the event loop gets its turn."""
BYTES_AS_ONE_EVENT = 4096
"""So many bytes of a value count as one more event: numbers without end take a microsecond a byte."""
NO_TIMESTAMP = -1
LARGE = 128 * 1024
"""Bytes from which a value is decoded on a thread, beside which heartbeats go on."""


class Decoded(NamedTuple):
    """A record beside what it was found to be."""

    partition: TopicPartition
    record: IncomingRecord
    meaning: InboundEvent | PassedOver | Rejected

    @property
    def bad(self) -> bool:
        """Whether this record counts against its topic's breaker."""
        return isinstance(self.meaning, Rejected)


def incoming(record: ConsumerRecord) -> IncomingRecord:
    """Return the record as a plain value, its bytes untouched; one that was not read has none."""
    return IncomingRecord(
        record.topic,
        record.partition,
        record.offset,
        # Records of Kafka's first format have no time.
        NO_TIMESTAMP if record.timestamp is None else record.timestamp,
        record.key,
        None if isinstance(record.value, Unread) else record.value,
        tuple(record.headers),
    )


async def decode_all(
    partition: TopicPartition, records: Sequence[ConsumerRecord], *, max_bytes: int
) -> list[Decoded]:
    """Decode the records of one partition in order, giving way every 20 of them, or fewer large ones."""
    decoded = []
    since_turn = 0
    for raw in records:
        record = incoming(raw)
        size = len(record.value or b"")
        meaning: InboundEvent | PassedOver | Rejected
        if isinstance(raw.value, Unread):
            meaning = Rejected(DeadLetterReason.TOO_LARGE, raw.value.why)
        elif LARGE <= size <= max_bytes:
            meaning = await asyncio.to_thread(decode, record, max_bytes=max_bytes)
        else:
            meaning = decode(record, max_bytes=max_bytes)
        decoded.append(Decoded(partition, record, meaning))
        since_turn += 1 + size // BYTES_AS_ONE_EVENT
        if since_turn >= EVENTS_PER_TURN:
            since_turn = 0
            await asyncio.sleep(0)
    return decoded
