"""A backlog: a topic full of reproducible events, loaded once and read by every program."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder

from benchmarks.cluster import PARTITIONS, Cluster
from benchmarks.samples import Event, identities, jobs
from producers.kafka_client import partition_of

BATCH_BYTES = 64 * 1024
"""What a busy upstream sends at once."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """A loaded topic.

    Attributes:
        topic: Its name.
        records: How many records stand on it.
        identities: How many different events.
        ends: Where each partition ends.
    """

    topic: str
    records: int
    identities: int
    ends: dict[TopicPartition, int]


async def load(cluster: Cluster, records: int) -> Backlog:
    """Fill a new topic with so many jobs."""
    topic = await cluster.create("jobs")
    await publish(cluster.address, topic, jobs(records))
    return Backlog(topic, records, identities(records), await cluster.ends(topic))


async def publish(address: str, topic: str, events: Iterable[Event]) -> None:
    """Write events in record batches, each acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=address, max_batch_size=BATCH_BYTES, acks="all")
    await producer.start()
    builders: dict[int, BatchBuilder] = {}
    sent: list[asyncio.Future[object]] = []

    async def send(partition: int) -> None:
        builder = builders.pop(partition)
        builder.close()
        sent.append(await producer.send_batch(builder, topic, partition=partition))

    try:
        for event in events:
            partition = partition_of(event.key, PARTITIONS)
            builder = builders.get(partition) or builders.setdefault(partition, producer.create_batch())
            if builder.append(timestamp=None, key=event.key, value=event.value) is None:
                await send(partition)
                builder = builders.setdefault(partition, producer.create_batch())
                builder.append(timestamp=None, key=event.key, value=event.value)
        for partition in list(builders):
            await send(partition)
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
