"""Kafka as seen from outside: topics, how far a group has come, how much stands on a topic."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

PARTITIONS = 6


class Cluster:
    """One cluster, looked at through an admin client and a consumer without a group.

    Make it with `Cluster.connect`.
    """

    def __init__(self, address: str, admin: AIOKafkaAdminClient, reader: AIOKafkaConsumer) -> None:
        self.address = address
        self._admin = admin
        self._reader = reader
        self._topics: list[str] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, address: str) -> AsyncIterator["Cluster"]:
        """Connect; what was created is deleted at the end."""
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        reader = AIOKafkaConsumer(bootstrap_servers=address)
        await admin.start()
        await reader.start()
        cluster = cls(address, admin, reader)
        try:
            yield cluster
        finally:
            await cluster.delete(list(cluster._topics))
            await cluster._reader.stop()
            await admin.close()

    async def create(self, name: str, *, partitions: int = PARTITIONS) -> str:
        """Create a topic of its own; returns its name."""
        topic = f"bench.{name}.{uuid.uuid4().hex[:8]}"
        await self._admin.create_topics([NewTopic(topic, partitions, 1)])
        self._topics.append(topic)
        # The answer comes before the partitions have leaders; nobody's clock is to run meanwhile.
        await self.ends(topic, partitions=partitions)
        return topic

    async def delete(self, topics: Iterable[str]) -> None:
        """Delete these topics."""
        for topic in list(topics):
            self._topics.remove(topic)
            with contextlib.suppress(KafkaError):
                await self._admin.delete_topics([topic])
        # A client asks for whatever it has once looked at, again and again.
        await self._reader.stop()
        self._reader = AIOKafkaConsumer(bootstrap_servers=self.address)
        await self._reader.start()

    async def ends(self, topic: str, *, partitions: int = PARTITIONS) -> dict[TopicPartition, int]:
        """Return where each partition ends."""
        wanted = [TopicPartition(topic, number) for number in range(partitions)]
        ends: dict[TopicPartition, int] = await self._reader.end_offsets(wanted)
        return ends

    async def count(self, topic: str) -> int:
        """Count the records on a topic that nothing was deleted from, and no transaction wrote to."""
        return sum((await self.ends(topic)).values())

    async def committed(self, group: str, topic: str) -> dict[TopicPartition, int]:
        """Return the offsets that a group has committed on a topic."""
        offsets = await self._admin.list_consumer_group_offsets(group)
        return {partition: found.offset for partition, found in offsets.items() if partition.topic == topic}

    async def members(self, group: str) -> int:
        """Count the members of a group that all have their partitions; 0 while it is still finding itself."""
        try:
            [answer] = await self._admin.describe_consumer_groups([group])
        except KafkaError:
            return 0  # its coordinator is not found yet
        [described] = answer.groups
        return len(described[5]) if described[2] == "Stable" else 0

    async def assignments(self, group: str) -> dict[str, list[int]]:
        """Return each member's partitions, of all topics together, by its client id."""
        [answer] = await self._admin.describe_consumer_groups([group])
        [described] = answer.groups
        return {member[1]: _partitions(member[4]) for member in described[5]}


def _partitions(assignment: bytes) -> list[int]:
    from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment  # noqa: PLC0415 - internal

    decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    return [partition for _, partitions in decoded.assignment for partition in partitions]


async def eventually(
    happens: Callable[[], Awaitable[bool]], *, within_s: float, every_s: float = 0.05, what: str
) -> None:
    """Wait until `happens()` is true.

    Raises:
        TimeoutError: It was not, in time.
    """
    try:
        async with asyncio.timeout(within_s):
            while not await happens():  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(every_s)
    except TimeoutError:
        raise TimeoutError(f"not within {within_s:g} s: {what}") from None
