"""Topics of the simulated broker: partitions with their records, and what tells a producer's repeats."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka.errors import DuplicateSequenceNumber, OutOfOrderSequenceNumber
from aiokafka.structs import ConsumerRecord, TopicPartition

Headers = Sequence[tuple[str, bytes | None]]

REMEMBERED_BATCHES = 5
"""How many of a producer's last batches a broker can tell from new ones."""


class Content(NamedTuple):
    """What a producer gives of a record."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


class Stamp(NamedTuple):
    """How an idempotent producer numbers a batch."""

    producer_id: int
    sequence: int


class _Batch(NamedTuple):
    first: int
    last: int
    offset: int


@dataclass(slots=True)
class PartitionLog:
    """One partition: the records from `start` on, in order of their offsets."""

    place: TopicPartition
    records: list[ConsumerRecord] = field(default_factory=list)
    start: int = 0
    has_leader: bool = True
    _producers: dict[int, deque[_Batch]] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.start + len(self.records)

    def append(self, contents: Sequence[Content]) -> int:
        """Write records; give the offset of the first."""
        first = self.end
        for content in contents:
            self.records.append(_record(self.place, self.end, content))
        return first

    def append_once(self, stamp: Stamp, contents: Sequence[Content]) -> tuple[int, bool]:
        """Write a batch unless it stands here already; give its offset, and whether it is new.

        Raises:
            OutOfOrderSequenceNumber: A batch before it is missing.
            DuplicateSequenceNumber: It is older than what is remembered.
        """
        batches = self._producers.setdefault(stamp.producer_id, deque(maxlen=REMEMBERED_BATCHES))
        last = stamp.sequence + len(contents) - 1
        for batch in batches:
            if (batch.first, batch.last) == (stamp.sequence, last):
                return batch.offset, False
        # A producer not heard of before may begin anywhere: what it numbered first may have been refused.
        if batches and stamp.sequence != batches[-1].last + 1:
            raise DuplicateSequenceNumber if stamp.sequence <= batches[-1].last else OutOfOrderSequenceNumber
        offset = self.append(contents)
        batches.append(_Batch(stamp.sequence, last, offset))
        return offset, True

    def read(self, position: int, *, max_bytes: int) -> list[ConsumerRecord]:
        """The records from a position on that fit, one at least."""
        found: list[ConsumerRecord] = []
        size = 0
        for record in self.records[max(0, position - self.start) :]:
            size += max(0, record.serialized_key_size) + max(0, record.serialized_value_size)
            if found and size > max_bytes:
                break
            found.append(record)
        return found

    def delete_before(self, offset: int) -> None:
        """Forget the oldest records, as retention does."""
        gone = max(0, min(offset, self.end) - self.start)
        del self.records[:gone]
        self.start += gone

    def cut_off(self, offset: int) -> None:
        """Lose the newest records, as an election of a replica behind the leader does."""
        del self.records[max(0, offset - self.start) :]


def _record(place: TopicPartition, offset: int, content: Content) -> ConsumerRecord:
    key, value = content.key, content.value
    return ConsumerRecord(
        place.topic,
        place.partition,
        offset,
        content.timestamp_ms,
        0,
        key,
        value,
        None,
        -1 if key is None else len(key),
        -1 if value is None else len(value),
        tuple((name, content_of) for name, content_of in content.headers),
    )
