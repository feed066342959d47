"""Kafka as seen from outside: topics, how far a group has come, how much stands on a topic."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import orjson
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
            await cluster._close_reader()
            await admin.close()

    async def create(self, name: str, *, partitions: int = PARTITIONS) -> str:
        """Create a topic of its own; returns its name."""
        topic = f"bench.{name}.{uuid.uuid4().hex[:8]}"
        await self._admin.create_topics([NewTopic(topic, partitions, 1)])
        self._topics.append(topic)
        # The answer comes before the partitions have leaders; nobody's clock is to run meanwhile.
        await self.ends(topic, partitions=partitions)
        return topic

    @contextlib.asynccontextmanager
    async def borrowed(self) -> AsyncIterator[None]:
        """Delete at the end of the block what was created in it."""
        before = set(self._topics)
        try:
            yield
        finally:
            await self.delete([topic for topic in self._topics if topic not in before])

    async def delete(self, topics: Iterable[str]) -> None:
        """Delete these topics."""
        for topic in list(topics):
            self._topics.remove(topic)
            with contextlib.suppress(KafkaError):
                await self._admin.delete_topics([topic])
        # A client asks for whatever it has once looked at, again and again.
        await self._close_reader()
        self._reader = AIOKafkaConsumer(bootstrap_servers=self.address)
        await self._reader.start()

    async def _close_reader(self) -> None:
        # Closed soon after its start, a consumer without a group awaits a task that it has cancelled itself.
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader.stop()

    async def ends(self, topic: str, *, partitions: int = PARTITIONS) -> dict[TopicPartition, int]:
        """Return where each partition ends."""
        wanted = [TopicPartition(topic, number) for number in range(partitions)]
        ends: dict[TopicPartition, int] = await self._reader.end_offsets(wanted)
        return ends

    async def count(self, topic: str) -> int:
        """Count the records on a topic that nothing was deleted from, and no transaction wrote to."""
        return sum((await self.ends(topic)).values())

    async def types(self, topic: str, *, partitions: int = PARTITIONS) -> list[str]:
        """Return the types of the events on a topic."""
        ends = await self.ends(topic, partitions=partitions)
        found: list[str] = []
        async with AIOKafkaConsumer(bootstrap_servers=self.address, auto_offset_reset="earliest") as reader:
            reader.assign(list(ends))
            while len(found) < sum(ends.values()):
                for records in (await reader.getmany(timeout_ms=200)).values():
                    found += [orjson.loads(record.value)["type"] for record in records]
        return found

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

    async def joining(self, group: str) -> bool:
        """Whether somebody has joined a group, ready or not."""
        try:
            [answer] = await self._admin.describe_consumer_groups([group])
        except KafkaError:
            return False
        [described] = answer.groups
        return bool(described[5])

    async def assignments(self, group: str, topic: str) -> dict[str, list[int]]:
        """Return each member's partitions of a topic."""
        [answer] = await self._admin.describe_consumer_groups([group])
        [described] = answer.groups
        return {member[1] + member[0]: _partitions(member[4], topic) for member in described[5]}


def _partitions(assignment: bytes, topic: str) -> list[int]:
    from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment  # noqa: PLC0415 - internal

    decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    return [partition for name, partitions in decoded.assignment if name == topic for partition in partitions]


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
