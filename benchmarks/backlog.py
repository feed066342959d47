"""A backlog: a topic full of reproducible events, read by one program after another."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder

from benchmarks.cluster import PARTITIONS, Cluster
from benchmarks.samples import ORGANIZATIONS, Event, identities, jobs
from producers.kafka_client import partition_of

BATCH_BYTES = 64 * 1024
"""What a busy upstream sends at once."""
HELD_AT_MOST_MS = 300_000


@dataclass(frozen=True, slots=True)
class Backlog:
    """A loaded topic.

    Attributes:
        topic: Its name.
        records: How many records stand on it.
        identities: How many different events.
        ends: Behind each partition's last record.
    """

    topic: str
    records: int
    identities: int
    ends: dict[TopicPartition, int]


async def load(
    cluster: Cluster, records: int, *, organizations: int = ORGANIZATIONS, first: int = 0
) -> Backlog:
    """Fill a new topic with so many jobs, of so many organizations, numbered from `first` on."""
    topic = await cluster.create("jobs")
    producer = AIOKafkaProducer(bootstrap_servers=cluster.address, max_batch_size=BATCH_BYTES, acks="all")
    async with producer:
        await _publish(producer, topic, jobs(records, organizations, first=first))
    return Backlog(topic, records, identities(records), await cluster.ends(topic))


@asynccontextmanager
async def held(cluster: Cluster, records: int) -> AsyncIterator[tuple[Backlog, AIOKafkaProducer]]:
    """Fill a new topic within a transaction: nobody sees it before `commit_transaction` of the producer.

    So that several processes can all be there before the first event is.
    """
    topic = await cluster.create("jobs")
    producer = AIOKafkaProducer(
        bootstrap_servers=cluster.address,
        max_batch_size=BATCH_BYTES,
        acks="all",
        transactional_id=topic,
        transaction_timeout_ms=HELD_AT_MOST_MS,
    )
    async with producer:
        await producer.begin_transaction()
        await _publish(producer, topic, jobs(records))
        yield Backlog(topic, records, identities(records), await cluster.ends(topic)), producer


async def _publish(producer: AIOKafkaProducer, topic: str, events: Iterable[Event]) -> None:
    """Write events in record batches, each acknowledged."""
    builders: dict[int, BatchBuilder] = {}
    sent: list[asyncio.Future[object]] = []

    async def send(partition: int) -> None:
        builder = builders.pop(partition)
        builder.close()
        sent.append(await producer.send_batch(builder, topic, partition=partition))

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
