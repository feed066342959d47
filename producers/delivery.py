"""Batches into Kafka: one producer at a time, replaced whenever a send has failed."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, LeaderNotAvailableError

from producers.completion import to_its_end
from producers.kafka_client import discard, look_up, partition_of, start_producer
from producers.relay_plan import NO_PARTITION, Batch, Lane
from schemas.outcomes import Stream
from storage.outbox import PendingRecord

ProducerFactory = Callable[[], AIOKafkaProducer]


@dataclass(frozen=True, slots=True)
class Delivered:
    """How far the sending of a lane's batches came.

    Attributes:
        lane: The lane.
        batches: Those the broker acknowledged, in order.
        failed: The first that it did not; none later was sent.
        error: Why not.
    """

    lane: Lane
    batches: Sequence[Batch]
    failed: Batch | None = None
    error: Exception | None = None


class Delivery:
    """Sends batches, each acknowledged before the lane's next is handed over.

    A failed batch leaves a gap in the numbers by which a broker recognizes an idempotent producer's repeats:
    it would refuse all that follows. And a batch without an answer would be tried for ever. So a producer is
    **spent** after any failure, and `renew` replaces it once nothing of it is in flight.

    Args:
        producer_factory: Makes a producer that is not started.
        ack_timeout_s: When a batch without an acknowledgement counts as failed, in seconds.
    """

    def __init__(self, producer_factory: ProducerFactory, *, ack_timeout_s: float) -> None:
        self._make = producer_factory
        self._ack_timeout_s = ack_timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._closed = False
        self.spent = False

    async def ready(self) -> None:
        """See to it that there is a producer.

        Raises:
            KafkaUnreachable: No broker answers.
        """
        if self._producer is None:
            await to_its_end(self._start())
            self.spent = False

    async def _start(self) -> None:
        producer = self._make()
        await start_producer(producer)
        if self._closed:
            await discard(producer)
        else:
            self._producer = producer

    async def look_up(self, topic: str) -> int:
        """Ask the broker for a topic, and say how many partitions it has; 0 where it is not there."""
        return await look_up(self._started, topic)

    def partitions(self, topic: str) -> int:
        """Say how many partitions a topic has as far as is known; 0 where it is not there."""
        return len(self._started.client.cluster.partitions_for_topic(topic) or ())

    async def send(self, batches: Sequence[Batch]) -> Delivered:
        """Send a lane's batches one after another, up to the first that fails."""
        for index, batch in enumerate(batches):
            try:
                await self._send(batch)
            except (KafkaError, OSError, TimeoutError) as error:
                return Delivered(batch.lane, batches[:index], batch, error)
            except asyncio.CancelledError:
                self.spent = True
                raise
        return Delivered(batches[0].lane, batches)

    async def _send(self, batch: Batch) -> None:
        producer = self._started
        _, topic, partition = batch.lane
        if producer.client.cluster.leader_for_partition(TopicPartition(topic, partition)) in {None, -1}:
            # Such a batch would stay with the producer until its time is up, and spend it.
            producer.client.force_metadata_update()
            raise LeaderNotAvailableError
        builder = producer.create_batch()
        for record in batch.records:
            added = builder.append(
                timestamp=None, key=record.key, value=record.value, headers=list(record.headers)
            )
            assert added is not None, "the plan makes no batch that a builder cannot hold"
        builder.close()
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                await (await producer.send_batch(builder, topic, partition=partition))
        except BaseException:
            self.spent = True
            raise

    async def renew(self) -> None:
        """Throw a spent producer away; what it still has in flight is given up."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await discard(producer)

    async def close(self) -> None:
        """Close the producer for good; nothing is to be in flight any more."""
        self._closed = True
        producer, self._producer = self._producer, None
        if producer is None:
            return
        # Whatever was sent is acknowledged or given up: there is nothing to wait for.
        await discard(producer)

    @property
    def _started(self) -> AIOKafkaProducer:
        assert self._producer is not None, "ready() comes first"
        return self._producer


def lane_of(record: PendingRecord, topic: str, partitions: int) -> Lane:
    """Say where a record goes: by its key, as with every Kafka client.

    Args:
        record: What is to be sent.
        topic: Its stream's topic.
        partitions: How many the topic has; 0 where it is not there.
    """
    if not partitions:
        return no_lane(record.stream, topic)
    if record.key is None:
        return Lane(record.stream, topic, record.outbox_id % partitions)
    return _lane_of_key(record.stream, topic, record.key, partitions)


@lru_cache(maxsize=65536)
def _lane_of_key(stream: Stream, topic: str, key: bytes, partitions: int) -> Lane:
    # An organization's records come in great numbers, and the hash is plain Python.
    return Lane(stream, topic, partition_of(key, partitions))


def no_lane(stream: Stream, topic: str) -> Lane:
    """Give what stands for the lanes of a topic that is not there."""
    return Lane(stream, topic, NO_PARTITION)
