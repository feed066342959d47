"""The bare pipe, the limit: fetch, validate, produce one outcome an event, commit. No database, no promise.

It checks events exactly as we do and keeps nothing of them: a repeat is answered again, a crash loses or
repeats. `--outcomes none` only fetches and validates; `send` awaits one `send` an event; `batches` builds
record batches by hand.
"""

import argparse
import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import ConsumerRecord, TopicPartition

from benchmarks.programs.ending import until_told
from benchmarks.programs.reading import validated
from producers.kafka_client import partition_of
from schemas.event import InboundEvent

BATCH_RECORDS = 1_000
BATCH_BYTES = 512 * 1024
PARTITIONS = 6
HEADERS = [("content-type", b"application/cloudevents+json")]

#: As long as the outcome that we write of such an event.
OUTCOME = (
    b'{"specversion":"1.0","id":"%b","source":"/bare-pipe","type":"job.seen","subject":"%b","data":{"job_id":"%b",'
    b'"padding":"' + b"x" * 953 + b'"}}'
)

Events = Sequence[InboundEvent]


async def run(
    consumer: AIOKafkaConsumer, write: Callable[[Events], Awaitable[None]], commit_at: int | None
) -> None:
    """Read until ended; with `commit_at` offsets are committed only once so many records were read."""
    seen = 0
    while True:
        fetched = await consumer.getmany(timeout_ms=200, max_records=BATCH_RECORDS)
        if not fetched:
            continue
        events = validate(fetched)
        await write(events)
        seen += len(events)
        if commit_at is None or seen >= commit_at:
            await consumer.commit()


def validate(fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> list[InboundEvent]:
    """Check every record as ours does."""
    return [validated(record) for records in fetched.values() for record in records]


def outcome(event: InboundEvent) -> bytes:
    """Write an outcome about as long as ours."""
    return OUTCOME % (event.id.encode(), event.org_id.encode(), event.subject.encode())


async def write_nothing(events: Events) -> None:
    """Leave it at validation."""


def sender(producer: AIOKafkaProducer, topic: str) -> Callable[[Events], Awaitable[None]]:
    """One `send` an event; all are acknowledged before the offsets are committed."""

    async def write(events: Events) -> None:
        sent = [
            await producer.send(topic, outcome(event), key=event.org_id.encode(), headers=HEADERS)
            for event in events
        ]
        await producer.flush()
        for one in sent:
            one.result()

    return write


def batch_sender(producer: AIOKafkaProducer, topic: str) -> Callable[[Events], Awaitable[None]]:
    """Record batches, one a partition at a time."""

    async def write(events: Events) -> None:
        by_partition: dict[int, list[InboundEvent]] = {}
        for event in events:
            by_partition.setdefault(partition_of(event.org_id.encode(), PARTITIONS), []).append(event)
        sent = []
        for partition, ours in by_partition.items():
            builder = producer.create_batch()
            for event in ours:
                key, value = event.org_id.encode(), outcome(event)
                if builder.append(timestamp=None, key=key, value=value, headers=HEADERS) is None:
                    builder.close()
                    sent.append(await producer.send_batch(builder, topic, partition=partition))
                    builder = producer.create_batch()
                    builder.append(timestamp=None, key=key, value=value, headers=HEADERS)
            builder.close()
            sent.append(await producer.send_batch(builder, topic, partition=partition))
        await asyncio.gather(*sent)

    return write


async def main() -> None:
    """Run as the arguments say, until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--outcomes", required=True, choices=("none", "send", "batches"))
    parser.add_argument("--to", help="the topic for outcomes")
    parser.add_argument("--commit-at", type=int, help="commit only once so many records were read")
    arguments = parser.parse_args()

    consumer = AIOKafkaConsumer(
        arguments.topic,
        bootstrap_servers=arguments.kafka,
        group_id=arguments.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=arguments.kafka, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES
    )
    write: Callable[[Events], Awaitable[None]] = write_nothing
    if arguments.outcomes == "send":
        write = sender(producer, arguments.to)
    elif arguments.outcomes == "batches":
        write = batch_sender(producer, arguments.to)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
    async with consumer, producer:
        await run(consumer, write, arguments.commit_at)


if __name__ == "__main__":
    until_told(main())
