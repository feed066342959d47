"""FastStream handlers over the same books: one message at a time, or a batch (`--batch`)."""

import argparse
import asyncio
import logging
from typing import Any

from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.programs.ending import until_told
from benchmarks.programs.reading import validated
from benchmarks.programs.store import Relay, charge_batch, charge_one
from schemas.event import InboundEvent

BATCH_RECORDS = 1_000


async def one_event(message: KafkaMessage) -> InboundEvent:
    """Decode a message."""
    return validated(message.raw_message)


async def many_events(message: KafkaMessage) -> list[InboundEvent]:
    """Decode a batch of messages."""
    return [validated(record) for record in message.raw_message]


async def main() -> None:
    """Run as the arguments say, until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--kafka", "--topic", "--group", "--database", "--to"):
        parser.add_argument(name, required=True)
    parser.add_argument("--batch", action="store_true")
    arguments = parser.parse_args()

    engine = create_async_engine(arguments.database)
    # Without its own conversion of arguments and its line a message in the log, which would cost more.
    broker = KafkaBroker(arguments.kafka, apply_types=False, log_level=logging.DEBUG)
    how: dict[str, Any] = {
        "group_id": arguments.group,
        "auto_offset_reset": "earliest",
        "ack_policy": AckPolicy.NACK_ON_ERROR,  # the offset is committed after the handler
        "isolation_level": "read_committed",
        "fetch_max_wait_ms": 50,
    }

    async def handle_one(event: InboundEvent) -> None:
        async with engine.begin() as tx:
            await charge_one(tx, event)

    async def handle_batch(events: list[InboundEvent]) -> None:
        async with engine.begin() as tx:
            await charge_batch(tx, events)

    if arguments.batch:
        how |= {"batch": True, "max_records": BATCH_RECORDS, "decoder": many_events}
        broker.subscriber(arguments.topic, **how)(handle_batch)
    else:
        broker.subscriber(arguments.topic, decoder=one_event, **how)(handle_one)

    async with broker, Relay(engine, arguments.kafka, arguments.to).running():
        await broker.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    until_told(main())
