"""A consumer that behaves as aiokafka's, over the simulated broker: what `make_consumer` gives elsewhere."""

import asyncio
import random
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from aiokafka import ConsumerRebalanceListener
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import ConsumerRecord, TopicPartition

from tests.simulation.edges import Edge
from tests.simulation.kafka_broker import SimBroker
from tests.simulation.kafka_link import RETRY_BACKOFF_S, Bell, Link, Request
from tests.simulation.kafka_membership import Membership

REQUEST_TIMEOUT_S = 40.0
MAX_PARTITION_BYTES = 1024 * 1024

Fetched = dict[TopicPartition, list[ConsumerRecord]]


@dataclass(slots=True)
class _Place:
    """How far a partition has been read. A position is unknown until it is needed."""

    position: int | None = None
    to_beginning: bool = False
    paused: bool = False


class SimConsumer:
    """A member of a consumer group; of aiokafka's consumer, what production uses.

    A fetch reads ahead into a buffer at an edge of its own; `getmany` gives from the buffer. So a cancelled
    `getmany` loses nothing, and what was read before a rebalance, a seek or a pause is never given after it.

    Args:
        broker: The broker.
        group_id: The group.
        topics: What to read.
        member: The name that the broker knows the process by.
        edge: Where requests happen.
        session_timeout_s: Seconds without a heartbeat until the group gives our partitions away.
        auto_offset_reset: "none": positions that nobody knows or that are out of range are told by an error.
        max_partition_bytes: What one fetch brings of a partition at most, if it is more than one record.
        chance: Shuffles the partitions of a fetch; None: those served longest ago come first.
        listener: Is told of rebalances, as aiokafka tells it.
    """

    def __init__(
        self,
        broker: SimBroker,
        *,
        group_id: str,
        topics: Iterable[str],
        member: str,
        edge: Edge,
        session_timeout_s: float = 10.0,
        auto_offset_reset: str = "none",
        max_partition_bytes: int = MAX_PARTITION_BYTES,
        chance: random.Random | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> None:
        self._broker = broker
        self._group_id = group_id
        self._topics = tuple(sorted(set(topics)))
        self._member = member
        self._resets = auto_offset_reset == "earliest"
        self._max_partition_bytes = max_partition_bytes
        self._chance = chance
        self._listener = listener
        self._bell = Bell()
        self._link = Link(broker.line, edge, member=member, timeout_s=REQUEST_TIMEOUT_S)
        self._coordinator = Membership(
            lambda: broker.group(group_id),
            self._link,
            name=member,
            topics=self._topics,
            session_timeout_s=session_timeout_s,
            on_revoked=self._on_revoked,
            on_assigned=self._on_assigned,
            bell=self._bell,
        )
        self._places: dict[TopicPartition, _Place] = {}
        self._turns: list[TopicPartition] = []
        self._buffer: Fetched = {}
        self._reassigning = True
        self._assigned_before = False
        self._closed = False

    # -- life ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, and join the group.

        Raises:
            KafkaError: No broker answers, or a topic is not there.
        """
        self._broker.connect(self._link, member=self._member, bell=self._bell)
        await self._link.ask(Request.METADATA, lambda: None)
        deadline = self._now() + REQUEST_TIMEOUT_S
        while missing := [topic for topic in self._topics if not self._broker.partitions(topic)]:
            if self._now() > deadline:
                raise UnknownTopicOrPartitionError(*missing)
            await self._bell.wait(RETRY_BACKOFF_S)
        self._coordinator.start()
        while not self._assigned_before:
            self._coordinator.check_errors()
            await self._bell.wait()

    async def stop(self) -> None:
        """Leave the group and disconnect."""
        if self._closed:
            return
        self._closed = True
        self._bell.ring()
        await self._coordinator.close()
        self._broker.disconnect(self._bell)

    def _on_revoked(self) -> None:
        self._reassigning = True
        if self._listener is not None:
            self._listener.on_partitions_revoked(set(self._places))

    def _on_assigned(self, partitions: tuple[TopicPartition, ...]) -> None:
        self._places = {partition: _Place() for partition in partitions}
        self._turns = list(partitions)
        self._buffer.clear()
        self._reassigning = False
        self._assigned_before = True
        if self._listener is not None:
            self._listener.on_partitions_assigned(set(partitions))

    # -- what is ours -------------------------------------------------------------------------------------

    def assignment(self) -> AbstractSet[TopicPartition]:
        """The partitions that are ours as far as we know, in an order that is always the same."""
        return dict.fromkeys(self._places).keys()

    def paused(self) -> AbstractSet[TopicPartition]:
        """Those of them that are paused."""
        return dict.fromkeys(one for one, place in self._places.items() if place.paused).keys()

    def pause(self, *partitions: TopicPartition) -> None:
        """Give nothing of these partitions.

        Raises:
            IllegalStateError: One of them is not ours.
        """
        for partition in partitions:
            self._place(partition).paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        """Give of these partitions again.

        Raises:
            IllegalStateError: One of them is not ours.
        """
        for partition in partitions:
            self._place(partition).paused = False
        self._bell.ring()

    def _place(self, partition: TopicPartition) -> _Place:
        place = self._places.get(partition)
        if place is None:
            raise IllegalStateError(f"No current assignment for partition {partition}")
        return place

    # -- positions ----------------------------------------------------------------------------------------

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on from an offset.

        Raises:
            IllegalStateError: The partition is not ours.
        """
        if offset < 0:
            raise ValueError("Offset must be a positive integer")
        place = self._place(partition)
        place.position, place.to_beginning = offset, False
        self._buffer.pop(partition, None)
        self._bell.ring()

    async def seek_to_beginning(self, *partitions: TopicPartition) -> bool:
        """Go on from the oldest record; False where that could not be found out.

        Raises:
            IllegalStateError: One of the partitions is not ours.
        """
        places = [self._assigned(one) for one in partitions or self._places]
        for partition in partitions or list(self._places):
            self._buffer.pop(partition, None)
        for place in places:
            place.position, place.to_beginning = None, True
        deadline = self._now() + REQUEST_TIMEOUT_S
        current = self._places
        rung = True
        while self._places is current and rung:
            self._locate()
            if all(place.position is not None for place in places):
                break
            rung = await self._bell.wait(max(0.0, deadline - self._now()))
        self._coordinator.check_errors()
        return all(place.position is not None for place in places)

    async def position(self, partition: TopicPartition) -> int:
        """The offset of the next record that `getmany` gives; waits until it is known.

        Raises:
            IllegalStateError: The partition is not ours.
        """
        while True:
            place = self._assigned(partition)
            self._locate()
            if place.position is not None:
                return place.position
            self._coordinator.check_errors()
            await self._bell.wait(REQUEST_TIMEOUT_S)

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset behind each partition's last record.

        Raises:
            KafkaTimeoutError: The broker does not tell.
        """
        wanted = tuple(partitions)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                while True:
                    try:
                        return await self._link.ask(Request.OFFSETS, lambda: self._ends(wanted), about=wanted)
                    except KafkaError as error:
                        if not error.retriable:
                            raise
                    await asyncio.sleep(RETRY_BACKOFF_S)
        except TimeoutError as error:
            raise KafkaTimeoutError("Failed to get offsets") from error

    def _ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        ends = {}
        for partition in partitions:
            log = self._broker.partition(partition)
            if log is None:
                raise UnknownTopicOrPartitionError(partition)
            if not log.has_leader:
                raise LeaderNotAvailableError(partition)
            ends[partition] = log.end
        return ends

    async def topics(self) -> set[str]:
        """All topics of the cluster.

        Raises:
            KafkaError: No broker tells.
        """
        return set(await self._link.ask(Request.METADATA, lambda: self._broker.topics))

    def _assigned(self, partition: TopicPartition) -> _Place:
        place = self._places.get(partition)
        if place is None:
            raise IllegalStateError(f"Partition {partition} is not assigned")
        return place

    def _locate(self) -> KafkaError | None:
        """Find out what positions can be found out; give the first error on the way."""
        if not self._link.is_up:
            return None
        committed = self._broker.group(self._group_id).committed
        unknown = [partition for partition, place in self._places.items() if place.position is None]
        if not unknown:
            return None
        found: KafkaError | None = None
        for partition in unknown:
            place, log = self._places[partition], self._broker.partition(partition)
            if log is None or not log.has_leader:
                continue
            if not place.to_beginning:
                place.position = committed.get(partition)
                if place.position is None and not self._resets:
                    found = found or NoOffsetForPartitionError(partition)
                place.to_beginning = place.position is None and self._resets
            if place.to_beginning:
                place.position, place.to_beginning = log.start, False
        if any(self._places[partition].position is not None for partition in unknown):
            self._bell.ring()
        return found

    # -- reading ------------------------------------------------------------------------------------------

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Fetched:
        """Give what is there, and wait for it so long; also longer, while the group rebalances.

        Raises:
            ConsumerStoppedError: The consumer is stopped.
            NoOffsetForPartitionError: Nothing is committed for a partition.
            OffsetOutOfRangeError: A position is none of the partition's.
            KafkaError: The group refuses us for good.
        """
        if self._closed:
            raise ConsumerStoppedError
        if max_records is not None and max_records < 1:
            raise ValueError("`max_records` must be a positive Integer")
        self._coordinator.check_errors()
        left_s = timeout_ms / 1000
        while True:
            while self._reassigning and not self._closed:
                await self._bell.wait()
                self._coordinator.check_errors()
            started = self._now()
            given = await self._take(partitions, max_records)
            left_s -= self._now() - started
            if given or left_s <= 0 or self._closed:
                return given
            started = self._now()
            # Not told by what is left: of a sum of times a hair may be left for ever.
            rung = await self._bell.wait(left_s)
            left_s -= self._now() - started
            if not rung or self._closed:
                return {}

    async def _take(self, partitions: Collection[TopicPartition], max_records: int | None) -> Fetched:
        given = self._drain(partitions, max_records)
        if given:
            return given
        error = self._locate() or self._out_of_range()
        if error is not None and (not partitions or _partition_of(error) in partitions):
            raise error
        if not self._to_fetch():
            return {}
        try:
            # Read ahead in the background by aiokafka: nobody waits for an answer that does not come.
            await self._link.ask(
                Request.FETCH, self._fetch, about=self._to_fetch(), timeout_s=RETRY_BACKOFF_S
            )
        except TopicAuthorizationFailedError:
            raise
        except KafkaError:
            # Logged and tried again by aiokafka, without a word to its user.
            await asyncio.sleep(RETRY_BACKOFF_S)
        if self._reassigning:
            return {}
        return self._drain(partitions, max_records)

    def _out_of_range(self) -> KafkaError | None:
        if not self._link.is_up:
            return None
        for partition, place in self._places.items():
            log = self._broker.partition(partition)
            if log is None or not log.has_leader or place.paused or place.position is None:
                continue
            if not log.start <= place.position <= log.end:
                if not self._resets:
                    return OffsetOutOfRangeError({partition: place.position})
                place.position = log.start
        return None

    def _to_fetch(self) -> list[TopicPartition]:
        """The partitions of which there is more than we have."""
        if not self._link.is_up:
            return []
        found = []
        for partition in self._turns:
            place, log = self._places[partition], self._broker.partition(partition)
            if place.paused or place.position is None or partition in self._buffer:
                continue
            if log is not None and log.has_leader and log.start <= place.position < log.end:
                found.append(partition)
        return found

    def _fetch(self) -> None:
        """Read ahead: the effect of a fetch."""
        partitions = self._to_fetch()
        if self._chance is not None:
            self._chance.shuffle(partitions)
        for partition in partitions:
            log, position = self._broker.partition(partition), self._places[partition].position
            assert log is not None
            assert position is not None
            self._buffer[partition] = log.read(position, max_bytes=self._max_partition_bytes)

    def _drain(self, partitions: Collection[TopicPartition], max_records: int | None) -> Fetched:
        """Give from what was read ahead, and move the positions."""
        given: Fetched = {}
        left = max_records
        for partition in list(self._buffer):
            if partitions and partition not in partitions:
                continue
            records, place = self._buffer.pop(partition), self._places[partition]
            if place.paused or place.position != records[0].offset:
                continue
            taken = records[:left]
            if len(taken) < len(records):
                self._buffer = {partition: records[len(taken) :], **self._buffer}
            given[partition] = taken
            place.position = taken[-1].offset + 1
            self._turns.remove(partition)
            self._turns.append(partition)
            if left is not None:
                left -= len(taken)
                if left == 0:
                    break
        return given

    # -- commits ------------------------------------------------------------------------------------------

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit offsets.

        Raises:
            IllegalStateError: A partition is not ours.
            CommitFailedError: The group has gone on without us.
            KafkaError: The broker refuses it.
        """
        if not self._assigned_before:
            raise IllegalStateError("No partitions assigned")
        for partition in offsets:
            self._assigned(partition)
        await self._coordinator.commit(dict(offsets))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _partition_of(error: KafkaError) -> TopicPartition:
    about = error.args[0]
    return next(iter(about)) if isinstance(about, dict) else about
