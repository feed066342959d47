"""From Kafka's records to decoded ones, in pieces that leave the event loop room to breathe."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka.structs import ConsumerRecord, TopicPartition

from consumer.ingest.batch import EVENTS_PER_TURN
from schemas.decode import IncomingRecord, PassedOver, Rejected, decode
from schemas.event import InboundEvent


@dataclass(frozen=True, slots=True)
class Decoded:
    """A record beside what it was found to be."""

    partition: TopicPartition
    record: IncomingRecord
    meaning: InboundEvent | PassedOver | Rejected

    @property
    def bad(self) -> bool:
        """Whether this record counts against its topic's breaker."""
        return isinstance(self.meaning, Rejected)


def incoming(record: ConsumerRecord) -> IncomingRecord:
    """Return the record as a plain value, its bytes untouched."""
    return IncomingRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
    )


async def decode_all(
    partition: TopicPartition, records: Sequence[ConsumerRecord], *, max_bytes: int
) -> list[Decoded]:
    """Decode the records of one partition in their order, giving way every 50 of them."""
    decoded = []
    for number, raw in enumerate(records, start=1):
        record = incoming(raw)
        decoded.append(Decoded(partition, record, decode(record, max_bytes=max_bytes)))
        if number % EVENTS_PER_TURN == 0:
            await asyncio.sleep(0)
    return decoded
