"""The simulated broker: topics, groups, and what is wrong with it at the moment."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from aiokafka.errors import (
    CorruptRecordException,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    UnknownError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import ConsumerRecord, TopicPartition

from producers.kafka_client import partition_of
from tests.simulation.kafka_group import Group
from tests.simulation.kafka_link import Bell, Fault, Line, Link, Reach, Request
from tests.simulation.kafka_log import Content, Headers, PartitionLog, Stamp

MAX_BATCH_BYTES = 1_048_588
"""What a topic takes at once by default (`max.message.bytes`)."""


class SimBroker:
    """One broker, of which nothing outlives the world.

    Args:
        topics: How many partitions each topic has.
        clock_ms: The world's wall clock.
        loop_time: The world's monotonic clock, in seconds.
    """

    def __init__(
        self, topics: Mapping[str, int], *, clock_ms: Callable[[], int], loop_time: Callable[[], float]
    ) -> None:
        self.clock_ms = clock_ms
        self.loop_time = loop_time
        self.line = Line()
        self.changes = 0
        """How often anything durable has changed: records appended by producers, offsets committed."""
        self._topics: dict[str, list[PartitionLog]] = {}
        self._groups: dict[str, Group] = {}
        self._bells: list[Bell] = []
        self._links: dict[str, list[Link]] = {}
        self._max_batch_bytes: dict[str, int] = {}
        self._compacted: set[str] = set()
        self._producer_ids = 0
        self._keyless = 0
        for topic, partitions in topics.items():
            self.create_topic(topic, partitions=partitions)

    # -- topics -------------------------------------------------------------------------------------------

    def create_topic(
        self,
        topic: str,
        *,
        partitions: int,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        compacted: bool = False,
    ) -> None:
        """Create a topic, or give one that is there more partitions and other limits."""
        logs = self._topics.setdefault(topic, [])
        logs += [PartitionLog(TopicPartition(topic, number)) for number in range(len(logs), partitions)]
        self._max_batch_bytes[topic] = max_batch_bytes
        (self._compacted.add if compacted else self._compacted.discard)(topic)

    def delete_topic(self, topic: str) -> None:
        """Delete a topic with all its records."""
        del self._topics[topic]
        self._ring()

    @property
    def topics(self) -> list[str]:
        return sorted(self._topics)

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0: it is not there."""
        return len(self._topics.get(topic, ()))

    def partition(self, place: TopicPartition) -> PartitionLog | None:
        """One partition's log, if it is there."""
        logs = self._topics.get(place.topic, [])
        return logs[place.partition] if 0 <= place.partition < len(logs) else None

    def log(self, topic: str) -> list[ConsumerRecord]:
        """All that stands on a topic, partition by partition, in order of the offsets."""
        return [record for log in self._topics.get(topic, ()) for record in log.records]

    def produce(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> tuple[int, int]:
        """Write a record as upstream does, whatever is wrong with the broker; give partition and offset."""
        if partition is None and key is not None:
            partition = partition_of(key, self.partitions(topic))
        if partition is None:
            partition = self._keyless % self.partitions(topic)
            self._keyless += 1
        log = self._topics[topic][partition]
        stamp = self.clock_ms() if timestamp_ms is None else timestamp_ms
        offset = log.append([Content(key, value, headers, stamp)])
        self._ring()
        return partition, offset

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Forget a partition's oldest records, as retention does."""
        self._topics[topic][partition].delete_before(offset)
        self._ring()

    def cut_off(self, topic: str, partition: int, offset: int) -> None:
        """Lose a partition's newest records, as an election of a replica that was behind does."""
        self._topics[topic][partition].cut_off(offset)
        self._ring()

    def lead(self, topic: str, partition: int, *, has_leader: bool) -> None:
        """Take a partition's leader away, or give it one again."""
        self._topics[topic][partition].has_leader = has_leader
        self._ring()

    # -- groups -------------------------------------------------------------------------------------------

    def group(self, group_id: str) -> Group:
        """A group's coordinator; groups come into being when they are asked for."""
        group = self._groups.get(group_id)
        if group is None:
            group = Group(self.partitions, now=self.loop_time, on_change=self._changed)
            self._groups[group_id] = group
        return group

    def committed(self, group_id: str) -> dict[TopicPartition, int]:
        """A group's committed offsets."""
        return dict(sorted(self.group(group_id).committed.items()))

    def expire(self, member: str) -> None:
        """End a member's session now: its heartbeats came too late."""
        for group in self._groups.values():
            group.expire(member)

    def rebalance(self, group_id: str) -> None:
        """Have a group's members join anew."""
        self.group(group_id).rebalance()

    def abandon(self, member: str) -> None:
        """Hear no more of what has this name now: its process is dead. Its session runs out by itself."""
        for link in self._links.pop(member, []):
            link.gone = True

    # -- faults -------------------------------------------------------------------------------------------

    def down(self, *, silent: bool = False) -> None:
        """Be away: connections are refused, or (silent) requests are lost on their way."""
        self.line.reach = Reach.SILENT if silent else Reach.DOWN
        if not silent:
            for group in self._groups.values():
                group.lose_connections()
        self._ring()

    def up(self) -> None:
        """Be back."""
        self.line.reach = Reach.UP
        self._ring()

    def fail(
        self,
        request: Request,
        *,
        after: bool = False,
        error: KafkaError | None = None,
        times: int = 1,
        member: str | None = None,
        partition: TopicPartition | None = None,
    ) -> None:
        """Have the next requests of a kind fail, as `Fault` says."""
        self.line.faults.append(
            Fault(request, after=after, error=error, times=times, member=member, partition=partition)
        )

    def fail_commit(self, *, after: bool) -> None:
        """Break the connection of the next commit, before or after it takes effect."""
        self.fail(Request.COMMIT, after=after, error=KafkaConnectionError("Connection closed"))

    def fail_produce(self, *, after: bool) -> None:
        """Break the connection of the next batch, before or after it is appended."""
        self.fail(Request.PRODUCE, after=after, error=KafkaConnectionError("Connection closed"))

    def mend(self) -> None:
        """Forget all faults that still lie in wait, and be back."""
        self.line.faults.clear()
        self.up()

    # -- for the clients ----------------------------------------------------------------------------------

    def connect(self, link: Link, *, member: str, bell: Bell | None = None) -> None:
        """Take note of a client, and of the bell by which it is told that anything happens here."""
        self._links.setdefault(member, []).append(link)
        if bell is not None:
            self._bells.append(bell)

    def disconnect(self, bell: Bell) -> None:
        """Tell a client no more."""
        if bell in self._bells:
            self._bells.remove(bell)

    def new_producer_id(self) -> int:
        """An id by which an idempotent producer's batches are told."""
        self._producer_ids += 1
        return self._producer_ids

    def append(
        self, place: TopicPartition, contents: Sequence[Content], *, size: int, stamp: Stamp | None
    ) -> int:
        """Append a producer's batch, once; give the offset of its first record.

        Raises:
            KafkaError: As the broker refuses it.
        """
        log = self.partition(place)
        if log is None:
            raise UnknownTopicOrPartitionError
        if not log.has_leader:
            raise NotLeaderForPartitionError
        if size > self._max_batch_bytes[place.topic]:
            raise MessageSizeTooLargeError
        if place.topic in self._compacted and any(content.key is None for content in contents):
            raise UnknownError  # INVALID_RECORD, for which aiokafka has no name
        if not contents:
            raise CorruptRecordException
        if stamp is None:
            offset, is_new = log.append(contents), True
        else:
            offset, is_new = log.append_once(stamp, contents)
        if is_new:
            self._changed()
            self._ring()
        return offset

    def leaders(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        """What a request for metadata tells of topics: each partition's leader, -1 where it has none."""
        return {
            topic: {log.place.partition: 0 if log.has_leader else -1 for log in self._topics[topic]}
            for topic in topics
            if topic in self._topics
        }

    def _changed(self) -> None:
        self.changes += 1

    def _ring(self) -> None:
        for bell in list(self._bells):
            bell.ring()
