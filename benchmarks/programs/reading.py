"""What every program that is compared does with a record first: the same checks that ours makes."""

from aiokafka.structs import ConsumerRecord

from schemas.decode import IncomingRecord, decode
from schemas.event import InboundEvent

MAX_BYTES = 524_288


def validated(record: ConsumerRecord) -> InboundEvent:
    """Check a record as ours does; the backlog has good ones alone."""
    event = decode(
        IncomingRecord(
            record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, ()
        ),
        max_bytes=MAX_BYTES,
    )
    assert isinstance(event, InboundEvent), event
    return event
