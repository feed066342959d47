"""Two Kafkas that a contract test runs over alike: the simulated one, and aiokafka before a broker."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.records_to_delete import RecordsToDelete

from consumer.ingest.client import make_consumer
from producers.kafka_client import KafkaConnection, discard, make_producer
from tests.parts.choice import KAFKA
from tests.simulation.kafka import MAX_BATCH_BYTES, SimBroker, SimConsumer, SimProducer, at_once

SESSION_S = 6.0
"""The shortest that a real broker takes by default."""

Headers = tuple[tuple[str, bytes | None], ...]


class Side(Protocol):
    """One Kafka."""

    session_timeout_s: float

    async def topic(self, *, partitions: int, max_batch_bytes: int = MAX_BATCH_BYTES) -> str:
        """A topic of this test alone."""

    async def produce(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> int:
        """Write a record; give its offset."""

    def consumer(
        self,
        topic: str,
        *,
        member: str = "ann",
        session_timeout_s: float | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> Any:
        """A member of this test's group, not started."""

    def producer(self) -> Any:
        """A producer as the relay's, not started."""

    async def committed(self) -> Mapping[TopicPartition, int]:
        """What this test's group has committed."""

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Forget a partition's oldest records."""

    async def is_rebalancing(self) -> bool:
        """Whether the group waits for members to join anew."""

    async def close(self) -> None:
        """Leave nothing behind."""


class SimSide:
    """The simulated Kafka, on a loop with real time."""

    session_timeout_s = 0.3

    def __init__(self) -> None:
        self._started: list[Any] = []
        self.broker = SimBroker(
            {},
            clock_ms=lambda: int(time.time() * 1000),
            loop_time=lambda: asyncio.get_running_loop().time(),
        )

    async def topic(self, *, partitions: int, max_batch_bytes: int = MAX_BATCH_BYTES) -> str:
        name = f"topic-{len(self.broker.topics)}"
        self.broker.create_topic(name, partitions=partitions, max_batch_bytes=max_batch_bytes)
        return name

    async def produce(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> int:
        return self.broker.produce(topic, value, key=key, headers=headers, partition=partition)[1]

    def consumer(
        self,
        topic: str,
        *,
        member: str = "ann",
        session_timeout_s: float | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> Any:
        consumer = SimConsumer(
            self.broker,
            group_id="group",
            topics=[topic],
            member=member,
            edge=at_once,
            session_timeout_s=session_timeout_s or self.session_timeout_s,
            listener=listener,
        )
        self._started.append(consumer)
        return consumer

    def producer(self) -> Any:
        producer = SimProducer(self.broker, edge=at_once)
        self._started.append(producer)
        return producer

    async def committed(self) -> Mapping[TopicPartition, int]:
        return self.broker.committed("group")

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        self.broker.delete_before(topic, partition, offset)

    async def is_rebalancing(self) -> bool:
        return self.broker.group("group").rebalancing

    async def close(self) -> None:
        for one in self._started:
            await one.stop()


class RealSide:
    """aiokafka before the broker that the tests run on."""

    session_timeout_s = SESSION_S

    def __init__(self, address: str) -> None:
        self._connection = KafkaConnection(bootstrap_servers=address)
        self._topics: list[str] = []
        self._group = f"simulated-{uuid.uuid4().hex[:12]}"
        self._consumers: list[Any] = []
        self._producers: list[AIOKafkaProducer] = []
        self._upstream: AIOKafkaProducer | None = None

    async def topic(self, *, partitions: int, max_batch_bytes: int = MAX_BATCH_BYTES) -> str:
        name = f"{self._group}.{len(self._topics)}"
        limits = {"max.message.bytes": str(max_batch_bytes)}
        async with self._admin() as admin:
            response = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=limits)])
            assert not any(code for _, code, *_ in response.topic_errors), response
            async with asyncio.timeout(10):
                while name not in await admin.list_topics():
                    pass  # created, and not yet told to all who ask
        self._topics.append(name)
        return name

    async def produce(
        self,
        topic: str,
        value: bytes | None,
        *,
        partition: int,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> int:
        if self._upstream is None:
            self._upstream = self.producer()
            await self._upstream.start()
        # Not `send`, which refuses a record with neither key nor value.
        batch = self._upstream.create_batch()
        batch.append(timestamp=None, key=key, value=value, headers=list(headers))
        batch.close()
        metadata = await (await self._upstream.send_batch(batch, topic, partition=partition))
        return int(metadata.offset)

    def consumer(
        self,
        topic: str,
        *,
        member: str = "ann",
        session_timeout_s: float | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> Any:
        consumer = make_consumer(
            [topic],
            self._connection,
            group_id=self._group,
            client_id=member,
            session_timeout_s=session_timeout_s or self.session_timeout_s,
            listener=listener,
        )
        self._consumers.append(consumer)
        return consumer

    def producer(self) -> Any:
        producer = make_producer(self._connection, idempotent=KAFKA.is_real)
        self._producers.append(producer)
        return producer

    async def committed(self) -> Mapping[TopicPartition, int]:
        async with self._admin() as admin:
            found = await admin.list_consumer_group_offsets(self._group)
        return {partition: one.offset for partition, one in found.items()}

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        place = TopicPartition(topic, partition)
        async with self._admin() as admin:
            await admin.delete_records({place: RecordsToDelete(before_offset=offset)})

    async def is_rebalancing(self) -> bool:
        async with self._admin() as admin:
            (response,) = await admin.describe_consumer_groups([self._group])
        (group,) = response.groups
        return "PreparingRebalance" in group

    async def close(self) -> None:
        for consumer in self._consumers:
            await consumer.stop()
        for producer in self._producers:
            await discard(producer)
        if self._topics:
            async with self._admin() as admin:
                await admin.delete_topics(self._topics)

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(**self._connection.client_options())
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()


def silence(consumer: Any) -> None:
    """Have a member of either side send no more heartbeats; everything else of it still works."""
    coordinator = consumer._coordinator

    async def nothing() -> bool:
        return True

    name = "_do_heartbeat" if hasattr(coordinator, "_do_heartbeat") else "_heartbeat"
    setattr(coordinator, name, nothing)
