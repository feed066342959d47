"""A producer that behaves as aiokafka's, over the simulated broker: what `make_producer` gives in production.

Besides the public methods it has those privates that `producers.kafka_client.discard` needs.
"""

import asyncio
import copy
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    NotLeaderForPartitionError,
    ProducerClosed,
    UnknownTopicOrPartitionError,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import RecordMetadata, TopicPartition

from producers.completion import look_at
from producers.kafka_client import MAX_BATCH_BYTES, REQUEST_TIMEOUT_S
from tests.simulation.edges import Edge
from tests.simulation.kafka_broker import SimBroker
from tests.simulation.kafka_link import RETRY_BACKOFF_S, Bell, Link, Request
from tests.simulation.kafka_log import Content, Stamp

METADATA_MAX_AGE_S = 60.0


class SimBatchBuilder(BatchBuilder):  # type: ignore[misc]  # aiokafka is not typed
    """aiokafka's own, with the world's clock."""

    def __init__(self, clock_ms: Callable[[], int], *, batch_size: int) -> None:
        super().__init__(batch_size, 0)
        self._clock_ms = clock_ms

    def append(
        self,
        *,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> Any:
        """Add a record; None where it does not fit any more."""
        stamp = self._clock_ms() if timestamp is None else timestamp
        return super().append(timestamp=stamp, key=key, value=value, headers=list(headers))


class _Batch:
    """A batch on its way; the names are aiokafka's."""

    def __init__(self, builder: BatchBuilder, *, ttl_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.buffer = bytes(builder._build())
        self.contents = _contents(self.buffer)
        self.future: asyncio.Future[RecordMetadata] = loop.create_future()
        self.stamp: Stamp | None = None
        self.tried = False
        self._ttl = ttl_s
        self._made_at = loop.time()

    def expired(self) -> bool:
        return asyncio.get_running_loop().time() - self._made_at > self._ttl

    def done(self, place: TopicPartition, offset: int) -> None:
        if not self.future.done():
            self.future.set_result(RecordMetadata(*place, place, offset, -1, 0, 0))

    def failure(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(copy.copy(error))


def _contents(buffer: bytes) -> list[Content]:
    contents = []
    batches = MemoryRecords(buffer)
    while (batch := batches.next_batch()) is not None:
        contents += [Content(one.key, one.value, tuple(one.headers), one.timestamp) for one in batch]
    return contents


class _Cluster:
    """What the client knows of topics: as old as its last question."""

    def __init__(self, broker: SimBroker, link: Link) -> None:
        self._broker = broker
        self._link = link
        self.tracked: dict[str, None] = {}
        self._leaders: dict[str, dict[int, int]] = {}
        self._asked_at = broker.loop_time()

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Numbers of a topic's partitions; None: no such topic is known."""
        if self._broker.loop_time() - self._asked_at >= METADATA_MAX_AGE_S:
            self.update()
        leaders = self._leaders.get(topic)
        return None if leaders is None else set(leaders)

    def leader_for_partition(self, place: TopicPartition) -> int | None:
        """The leader's number; -1: it has none; None: the partition is not known."""
        return self._leaders.get(place.topic, {}).get(place.partition)

    def update(self) -> bool:
        """Ask the broker; say whether it answered."""
        if not self._link.is_up:
            return False
        self._leaders = self._broker.leaders(self.tracked)
        self._asked_at = self._broker.loop_time()
        return True


class _Client:
    """The part of aiokafka's client that production reaches through a producer."""

    def __init__(self, broker: SimBroker, link: Link) -> None:
        self.cluster = _Cluster(broker, link)
        self.closed = False
        self._md_update_fut: asyncio.Future[bool] | None = None

    def add_topic(self, topic: str) -> "asyncio.Future[bool]":
        """Keep track of a topic from now on."""
        if topic in self.cluster.tracked:
            known: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            known.set_result(True)
            return known
        self.cluster.tracked[topic] = None
        return self.force_metadata_update()

    def force_metadata_update(self) -> "asyncio.Future[bool]":
        """Ask about the topics once more, soon; the future says whether the broker answered."""
        if self._md_update_fut is None:
            loop = asyncio.get_running_loop()
            self._md_update_fut = loop.create_future()
            loop.call_soon(self._update)
        return asyncio.shield(self._md_update_fut)

    def _update(self) -> None:
        waiting, self._md_update_fut = self._md_update_fut, None
        if waiting is not None and not waiting.done():
            waiting.set_result(not self.closed and self.cluster.update())

    async def close(self) -> None:
        """Disconnect."""
        self.closed = True


class _Accumulator:
    """Batches that wait, and those that have been taken; the names are aiokafka's."""

    def __init__(self) -> None:
        self._batches: defaultdict[TopicPartition, deque[_Batch]] = defaultdict(deque)
        self._pending_batches: dict[_Batch, None] = {}
        self._exception: BaseException | None = None
        self.closed = False
        self.news = Bell()

    def add(self, batch: _Batch, place: TopicPartition) -> None:
        self._batches[place].append(batch)
        batch.future.add_done_callback(lambda _: self._pending_batches.pop(batch, None))
        self.news.ring()

    def check(self) -> None:
        if self.closed:
            raise ProducerClosed
        if self._exception is not None:
            raise copy.copy(self._exception)

    def take(self, place: TopicPartition) -> _Batch:
        batch = self._batches[place].popleft()
        if not self._batches[place]:
            del self._batches[place]
        if not batch.future.done():
            self._pending_batches[batch] = None
        return batch

    def put_back(self, place: TopicPartition, batch: _Batch) -> None:
        self._pending_batches.pop(batch, None)
        self._batches[place].appendleft(batch)

    def waiting(self) -> list[TopicPartition]:
        return sorted(place for place, batches in self._batches.items() if batches)

    def outstanding(self) -> list[_Batch]:
        queued = [batch for place in self.waiting() for batch in self._batches[place]]
        return [*queued, *self._pending_batches]

    def fail_all(self, error: BaseException) -> None:
        """End all batches with an error, and take no more."""
        for batch in self.outstanding():
            batch.failure(error)
        self._exception = error


class _Sender:
    """Takes batches to the broker, one at a time for each partition.

    An idempotent producer's batch is tried for as long as the error allows another try; another one's until
    its time is up.
    """

    def __init__(
        self, broker: SimBroker, client: _Client, link: Link, accumulator: _Accumulator, *, idempotent: bool
    ) -> None:
        self._broker = broker
        self._client = client
        self._link = link
        self._accumulator = accumulator
        self._idempotent = idempotent
        self._txn_manager: object | None = None
        self._producer_id = -1
        self._sequences: defaultdict[TopicPartition, int] = defaultdict(int)
        self._deliveries: dict[TopicPartition, asyncio.Task[None]] = {}
        self.sender_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._idempotent:
            self._producer_id = await self._link.ask(Request.PRODUCER_ID, self._broker.new_producer_id)
            self._txn_manager = object()
        self.sender_task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self.sender_task is not None and not self.sender_task.done():
            self.sender_task.cancel()
            await asyncio.wait([self.sender_task])

    async def _run(self) -> None:
        try:
            while True:
                leaderless = self._begin()
                if leaderless:
                    self._client.force_metadata_update()
                await self._accumulator.news.wait(RETRY_BACKOFF_S if leaderless else None)
        except asyncio.CancelledError:
            deliveries = list(self._deliveries.values())
            for delivery in deliveries:
                delivery.cancel()
            if deliveries:
                await asyncio.wait(deliveries)

    def _begin(self) -> bool:
        """Begin what can be begun; say whether anything waits for a leader."""
        leaderless = False
        for place in self._accumulator.waiting():
            if place in self._deliveries:
                continue
            leader = self._client.cluster.leader_for_partition(place)
            if leader in {None, -1}:
                leaderless = True
                if self._accumulator._batches[place][0].expired():
                    error = NotLeaderForPartitionError() if leader is None else LeaderNotAvailableError()
                    self._take(place).failure(error)
                continue
            batch = self._take(place)
            delivery = asyncio.get_running_loop().create_task(self._deliver(place, batch))
            self._deliveries[place] = delivery
            delivery.add_done_callback(look_at)
        return leaderless

    def _take(self, place: TopicPartition) -> _Batch:
        batch = self._accumulator.take(place)
        if self._txn_manager is not None and not batch.tried:
            batch.stamp = Stamp(self._producer_id, self._sequences[place])
            self._sequences[place] += len(batch.contents)
        batch.tried = True
        return batch

    async def _deliver(self, place: TopicPartition, batch: _Batch) -> None:
        # What has been sent may still be written, even if nobody waits for its answer any more.
        sent = asyncio.ensure_future(
            self._link.ask(
                Request.PRODUCE,
                lambda: self._broker.append(place, batch.contents, size=len(batch.buffer), stamp=batch.stamp),
                about=[place],
            )
        )
        sent.add_done_callback(look_at)
        try:
            try:
                offset = await asyncio.shield(sent)
                await self._link.moment("kafka.produce.answer")
                batch.done(place, offset)
            except KafkaError as error:
                await self._failed(place, batch, error)
        except asyncio.CancelledError:
            batch.failure(KafkaConnectionError("Connection closed"))
            raise
        finally:
            del self._deliveries[place]
            self._accumulator.news.ring()

    async def _failed(self, place: TopicPartition, batch: _Batch, error: KafkaError) -> None:
        if error.invalid_metadata:
            self._client.force_metadata_update()
        if not error.retriable or (self._txn_manager is None and batch.expired()):
            batch.failure(error)
            return
        await asyncio.sleep(RETRY_BACKOFF_S)
        self._accumulator.put_back(place, batch)


class SimProducer:
    """Of aiokafka's producer, what production uses.

    Args:
        broker: The broker.
        edge: Where requests happen.
        idempotent: Whether the broker can tell a repeated request.
        request_timeout_s: How long one request may take.
        member: The name that faults know the process by.
    """

    def __init__(
        self,
        broker: SimBroker,
        *,
        edge: Edge,
        idempotent: bool = True,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        member: str = "",
    ) -> None:
        self._broker = broker
        self._member = member
        self._request_timeout_s = request_timeout_s
        self._link = Link(broker.line, edge, member=member, timeout_s=request_timeout_s)
        self.client = _Client(broker, self._link)
        self._message_accumulator = _Accumulator()
        self._sender = _Sender(
            broker, self.client, self._link, self._message_accumulator, idempotent=idempotent
        )
        self._stopped = False

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError: No broker answers.
        """
        self._broker.connect(self._link, member=self._member)
        await self._link.ask(Request.METADATA, lambda: None)
        await self._sender.start()

    async def stop(self) -> None:
        """Deliver what is left, and disconnect."""
        if self._stopped:
            return
        self._stopped = True
        if self._sender.sender_task is not None:
            self._message_accumulator.closed = True
            flushed = asyncio.ensure_future(self._flush())
            await asyncio.wait([flushed, self._sender.sender_task], return_when=asyncio.FIRST_COMPLETED)
            flushed.cancel()
            await self._sender.close()
        await self.client.close()

    async def _flush(self) -> None:
        waiting = [batch.future for batch in self._message_accumulator.outstanding()]
        if waiting:
            await asyncio.wait(waiting)

    def create_batch(self) -> SimBatchBuilder:
        """Begin a batch, as large as production makes them."""
        return SimBatchBuilder(self._broker.clock_ms, batch_size=MAX_BATCH_BYTES + 1024)

    async def send_batch(
        self, batch: BatchBuilder, topic: str, *, partition: int
    ) -> "asyncio.Future[RecordMetadata]":
        """Hand a batch over; the future tells of its acknowledgement.

        Raises:
            UnknownTopicOrPartitionError: The topic is not there.
            ProducerClosed: The producer is stopped.
        """
        await self._wait_on_metadata(topic)
        known = self.client.cluster.partitions_for_topic(topic)
        assert known is not None
        assert partition in known, "Unrecognized partition"
        self._message_accumulator.check()
        one = _Batch(batch, ttl_s=self._request_timeout_s)
        self._message_accumulator.add(one, TopicPartition(topic, partition))
        return asyncio.shield(one.future)

    async def _wait_on_metadata(self, topic: str) -> None:
        if self.client.cluster.partitions_for_topic(topic) is not None:
            return
        self.client.add_topic(topic)
        deadline = self._broker.loop_time() + self._request_timeout_s
        while True:
            await self.client.force_metadata_update()
            if self.client.cluster.partitions_for_topic(topic) is not None:
                return
            if self._broker.loop_time() > deadline:
                raise UnknownTopicOrPartitionError
            await asyncio.sleep(RETRY_BACKOFF_S)
