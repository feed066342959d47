"""What the relay may send next: plain functions over rows, without input or output.

A **lane** is one partition of one topic. An organization's records of a topic share a lane, because its id is
their key, so that order within lanes is order within organizations. A lane has one batch in flight at most;
after a failure it is closed for a while, and nothing later in it is planned.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from typing import Final, NamedTuple

from aiokafka.errors import (
    CorruptRecordException,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownError,
)

from producers.kafka_client import MAX_BATCH_BYTES
from schemas.dead_letters import HEADERS_OMITTED, OWN_PREFIX, VALUE_OMITTED, Header
from schemas.outcomes import Stream
from storage.outbox import PendingRecord

RECORD_OVERHEAD: Final = 64
"""Bytes a record needs at most beside key, value and headers; a header needs 12 more."""

FIRST_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 10.0

GROW_AFTER: Final = 64
"""Batches a lane must deliver before batches twice as large are tried again."""

MAX_KEPT_KEY: Final = 1024
"""Bytes of a key that no topic finds too many."""

TRIES_OF_UNKNOWN: Final = 8
"""How often a refusal without a clear name is met before the record itself is held to be the cause."""


NO_PARTITION: Final = -1
"""Stands for the partition while a topic is not there."""


class Lane(NamedTuple):
    """One partition of one topic."""

    stream: Stream
    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to be sent together, in order, to one partition."""

    lane: Lane
    records: tuple[PendingRecord, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a page of the outbox allows to be sent now.

    Attributes:
        batches: Each open lane's batches, to be sent one after another while all goes well.
        held: How many rows must wait.
    """

    batches: Mapping[Lane, tuple[Batch, ...]]
    held: int


class Verdict(Enum):
    """What a failed send says about the records sent."""

    LATER = auto()
    """Nothing: the broker cannot take anything there now."""
    SPLIT = auto()
    """One of them, or all together, cannot be taken: send fewer."""
    REFUSED = auto()
    """The one record sent can never be taken as it is."""


class Remedy(Enum):
    """What is left to do for a record that the broker refuses for good."""

    OMIT_VALUE = auto()
    OMIT_REST = auto()
    DROP = auto()


@dataclass(slots=True)
class LaneState:
    """What the relay remembers of a lane.

    Attributes:
        batch_bytes: How large its batches may be; halved when one is refused, and slowly doubled again.
        failures: Failed sends in a row.
        closed_until: Nothing is sent before this time of the monotonic clock.
        failing_since: Since when nothing was delivered, by the same clock; None while all is well.
        omit_value: Rows to be sent without their value.
        omit_rest: Rows to be sent with nothing but what we say of them.
    """

    batch_bytes: int = MAX_BATCH_BYTES
    failures: int = 0
    closed_until: float = 0.0
    failing_since: float | None = None
    omit_value: set[int] = field(default_factory=set)
    omit_rest: set[int] = field(default_factory=set)
    _delivered_since_cut: int = 0

    def is_open(self, now: float) -> bool:
        """Say whether a batch may be sent."""
        return now >= self.closed_until

    def delivered(self, batches: int) -> None:
        """Take note of batches that the broker acknowledged."""
        if not batches:
            return
        self.failures = 0
        self.failing_since = None
        self.closed_until = 0.0
        self._delivered_since_cut += batches
        if self._delivered_since_cut >= GROW_AFTER and self.batch_bytes < MAX_BATCH_BYTES:
            self.batch_bytes = min(MAX_BATCH_BYTES, self.batch_bytes * 2)
            self._delivered_since_cut = 0

    def cut(self, batch: Batch) -> None:
        """Make the next batches smaller than this one was, which was refused as a whole."""
        self.batch_bytes = max(1, min(self.batch_bytes, sum(map(size_of, batch.records))) // 2)
        self._delivered_since_cut = 0

    def failed(self, now: float, jitter: float) -> None:
        """Close the lane for a pause that grows with each failure in a row.

        Args:
            now: The monotonic clock, in seconds.
            jitter: A random number from 0 to 1: pauses are spread over half their length.
        """
        self.closed_until = now + pause_after(self.failures, jitter)
        self.failures += 1
        if self.failing_since is None:
            self.failing_since = now


def pause_after(failures: int, jitter: float, *, most_s: float = MAX_PAUSE_S) -> float:
    """Give the pause, in seconds, after so many failures before this one."""
    return min(most_s, FIRST_PAUSE_S * 2.0 ** min(failures, 16)) * (0.5 + jitter / 2)


def size_of(record: PendingRecord) -> int:
    """Say how many bytes of a batch a record takes at most."""
    return RECORD_OVERHEAD + len(record.key or b"") + len(record.value or b"") + _size_of(record.headers)


@lru_cache(maxsize=64)  # all outcomes bear the same
def _size_of(headers: tuple[Header, ...]) -> int:
    # A character takes up to four bytes.
    return sum(12 + 4 * len(name) + len(value or b"") for name, value in headers)


def plan_batches(
    rows: Iterable[PendingRecord],
    *,
    lane_of: Callable[[PendingRecord], Lane],
    closed: Collection[Lane],
    held: set[tuple[Stream, str]],
    states: Mapping[Lane, LaneState],
) -> Plan:
    """Decide which rows may be sent, and how they go together.

    For each organization and topic, what is planned is a prefix of what is waiting: once a row must wait, all
    later ones of the same organization and topic wait with it, also where the topic has got more partitions
    in between. Dead letters belong to no organization and have no order but their lane's.

    Args:
        rows: Waiting rows in outbox order.
        lane_of: Where a row goes.
        closed: Lanes with a batch in flight, or in a pause, or of a topic that is not there.
        held: Organizations (by stream) of which an earlier row must wait; added to. The same set is to be
            given for all pages of a pass.
        states: What is remembered of the lanes, as far as anything is.
    """
    taken: dict[Lane, list[PendingRecord]] = {}
    waiting = 0
    for row in rows:
        lane = lane_of(row)
        line = (row.stream, row.org_id)
        if lane in closed or line in held:
            if row.org_id:
                held.add(line)
            waiting += 1
            continue
        taken.setdefault(lane, []).append(row)
    return Plan(
        {lane: _split(lane, records, states.get(lane) or LaneState()) for lane, records in taken.items()},
        waiting,
    )


def _split(lane: Lane, records: Sequence[PendingRecord], state: LaneState) -> tuple[Batch, ...]:
    batches: list[Batch] = []
    batch: list[PendingRecord] = []
    size = 0
    for row in records:
        record = row
        if row.outbox_id in state.omit_rest:
            record = without_rest(row)
        elif row.outbox_id in state.omit_value:
            record = without_value(row)
        more = size_of(record)
        if batch and size + more > state.batch_bytes:
            batches.append(Batch(lane, tuple(batch)))
            batch, size = [], 0
        batch.append(record)
        size += more
    batches.append(Batch(lane, tuple(batch)))
    return tuple(batches)


def judge(error: BaseException, batch: Batch, failures: int) -> Verdict:
    """Say what a failed send means.

    Args:
        error: What the producer raised.
        batch: What was sent.
        failures: The lane's failures in a row before this one.
    """
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError | InvalidTimestampError):
        return Verdict.REFUSED if len(batch.records) == 1 else Verdict.SPLIT
    # A compacted topic refuses a record without a key under a number that aiokafka has no name for, just as
    # for a server's passing trouble. Only dead letters can lack a key.
    if isinstance(error, UnknownError | CorruptRecordException) and any(
        record.key is None for record in batch.records
    ):
        if len(batch.records) > 1:
            return Verdict.SPLIT
        return Verdict.REFUSED if failures >= TRIES_OF_UNKNOWN else Verdict.LATER
    return Verdict.LATER


def remedy(record: PendingRecord) -> Remedy:
    """Say what to do with a record that was sent alone and refused for good."""
    if record.stream is not Stream.DEAD_LETTER:
        return Remedy.DROP
    if record.value is not None:
        return Remedy.OMIT_VALUE
    return Remedy.DROP if HEADERS_OMITTED in record.headers else Remedy.OMIT_REST


def without_value(record: PendingRecord) -> PendingRecord:
    """Give a dead letter as it is sent where the topic cannot take its value."""
    return PendingRecord(
        outbox_id=record.outbox_id,
        stream=record.stream,
        org_id=record.org_id,
        key=record.key,
        value=None,
        headers=(*record.headers, VALUE_OMITTED),
    )


def without_rest(record: PendingRecord) -> PendingRecord:
    """Give a dead letter as it is sent where the topic cannot take its headers or its key either."""
    key = record.key
    return PendingRecord(
        outbox_id=record.outbox_id,
        stream=record.stream,
        org_id=record.org_id,
        key=key if key is None or len(key) <= MAX_KEPT_KEY else None,
        value=None,
        headers=(
            *(header for header in record.headers if header[0].startswith(OWN_PREFIX)),
            VALUE_OMITTED,
            HEADERS_OMITTED,
        ),
    )


def sendable(rows: Sequence[PendingRecord], *, after: int, horizon: int) -> Sequence[PendingRecord]:
    """Leave out what may not be judged from a page that does not begin at the outbox's beginning.

    Ids are given before commit: behind the position that reading has reached, older rows of an organization
    can become visible while newer ones stand ahead. An id not above one that was seen *before* the pass began
    cannot be such a newer one: it was given earlier, and under its organization's lock, hence after the older
    rows were committed.

    Args:
        rows: A page.
        after: The id that reading began behind; 0 at the outbox's beginning.
        horizon: The highest id seen in an earlier pass.
    """
    if after == 0:
        return rows
    return [row for row in rows if row.outbox_id <= horizon]
