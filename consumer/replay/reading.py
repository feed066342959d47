"""Parts of topics, read by assignment: no group, no committed offset, an end that was fixed beforehand."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from consumer.ingest.expansion import weight_beside_value
from consumer.replay.selection import Selection, WrongSelection
from producers.kafka_client import KafkaConnection, KafkaUnreachable, describe_error
from producers.publisher import LOOK_UP_S

log = structlog.get_logger(__name__)

ANSWER_WITHIN_S: Final = 10.0
FETCH_WAIT_MS: Final = 200
FETCH_PIECE: Final = 100
"""Records taken from the client at once: what they unpack to is known only afterwards."""
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
ASK_AFTER_S: Final = 5.0
"""After how long without a record the broker is asked whether it is still there."""
GIVE_UP_AFTER_S: Final = 60.0
_LOOK_AGAIN_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a partition: from `start` up to, not including, `end`. Empty where `end` is not beyond."""

    start: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.start)


@dataclass(slots=True)
class Piece:
    """What was read at once, and the place behind it in each partition that moved on."""

    records: dict[TopicPartition, list[ConsumerRecord]] = field(default_factory=dict)
    places: dict[TopicPartition, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many records it has."""
        return sum(map(len, self.records.values()))


async def partitions_of(connection: KafkaConnection, topics: Iterable[str]) -> dict[str, frozenset[int]]:
    """Say which partitions these topics have; no topic is created by being asked about.

    Raises:
        KafkaUnreachable: No broker answers, or one of the topics is not there.
    """
    wanted = list(topics)
    admin = AIOKafkaAdminClient(**connection.client_options(), request_timeout_ms=int(ANSWER_WITHIN_S * 1000))
    try:
        async with asyncio.timeout(LOOK_UP_S + ANSWER_WITHIN_S):
            await admin.start()
            if missing := await _missing(admin, wanted):
                raise KafkaUnreachable(f"topic {', '.join(missing)}: not there, or may not be seen")
            described = await admin.describe_topics(wanted)
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaUnreachable(f"no Kafka broker answers: {describe_error(error)}") from error
    finally:
        await admin.close()
    return {one["topic"]: frozenset(each["partition"] for each in one["partitions"]) for one in described}


async def _missing(admin: AIOKafkaAdminClient, wanted: Sequence[str]) -> list[str]:
    """Say which topics are not there; one just created is not known to every broker at once."""
    give_up_at = time.monotonic() + LOOK_UP_S
    while True:
        there = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic not in there]
        if not missing or time.monotonic() >= give_up_at:
            return missing
        await asyncio.sleep(_LOOK_AGAIN_S)


def partitions_to_read(selection: Selection, there: Mapping[str, frozenset[int]]) -> list[TopicPartition]:
    """Give the partitions that a selection reads, sorted.

    Raises:
        WrongSelection: An offset names a partition that is not there.
    """
    named = selection.partitions
    for topic, partition in sorted(named or ()):
        if partition not in there[topic]:
            raise WrongSelection(f"topic {topic} has no partition {partition}, only 0 to {max(there[topic])}")
    return sorted(
        TopicPartition(topic, partition)
        for topic in selection.topics
        for partition in there[topic]
        if named is None or (topic, partition) in named
    )


async def find_spans(
    consumer: AIOKafkaConsumer, selection: Selection, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, Span]:
    """Fix what is to be read of each partition: what stands there now, within the selection.

    The end is where the last record stands that is committed now: whatever comes later is the live
    consumer's, and a transaction that is still open is not waited for.

    Raises:
        KafkaUnreachable: A broker does not answer.
    """
    wanted = list(partitions)
    if not wanted:
        return {}
    try:
        async with asyncio.timeout(3 * ANSWER_WITHIN_S):
            first: Mapping[TopicPartition, int] = await consumer.beginning_offsets(wanted)
            last = await _ends(consumer, first)
            begin = selection.begin
            at_time: Mapping[TopicPartition, Any] = {}
            # Kafka gives times below 0 another meaning.
            if begin.ms is not None and begin.ms > 0:
                at_time = await consumer.offsets_for_times(dict.fromkeys(wanted, begin.ms))
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaUnreachable(
            f"Kafka does not say where the topics begin and end: {describe_error(error)}"
        ) from error
    spans = {}
    for one in wanted:
        start, end = first[one], last[one]
        if one in at_time:
            # No record is as late as this; or, where a broker can't tell, all of them are looked at.
            start = end if at_time[one] is None else max(start, at_time[one].offset)
        place = (one.topic, one.partition)
        start = max(start, begin.offsets.get(place, start))
        end = min(end, selection.end.offsets.get(place, end))
        spans[one] = Span(start, max(start, end))
    return spans


async def _ends(consumer: AIOKafkaConsumer, first: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Ask for the ends by fetching: not every broker answers the question for them right."""
    consumer.assign(list(first))
    for one, offset in first.items():
        consumer.seek(one, offset)
    while any(consumer.highwater(one) is None for one in first):
        await consumer.getmany(timeout_ms=FETCH_WAIT_MS, max_records=1)
    ends = {}
    for one in first:
        end: int = consumer.highwater(one)
        stable = consumer.last_stable_offset(one)
        ends[one] = end if stable is None or stable < 0 else min(end, stable)
    return ends


class Reader:
    """Reads the spans of an assigned consumer's partitions to their end, in pieces.

    It ends by place, not by record: the last offsets of a span may belong to transactions' markers, to
    records that were compacted away, or to aborted ones.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        spans: Mapping[TopicPartition, Span],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to read with a started consumer that has no group (`auto_offset_reset="none"`)."""
        self._consumer = consumer
        self._ends = {one: span.end for one, span in spans.items() if len(span)}
        self._last = dict(self._ends)
        self._places = {one: spans[one].start for one in self._ends}
        self._monotonic = monotonic
        self._moved_at = monotonic()
        if self._ends:
            consumer.assign(list(self._ends))
        for one, place in self._places.items():
            consumer.seek(one, place)

    @property
    def places(self) -> Mapping[TopicPartition, int]:
        """How far it has read."""
        return self._places

    @property
    def done(self) -> bool:
        """Whether everything has been read."""
        return not self._ends

    async def next(self, max_records: int) -> Piece:
        """Read on: up to `max_records`, fewer of large ones; none after a short wait for nothing.

        Raises:
            KafkaUnreachable: The broker has not answered for a minute, or refuses to be read.
        """
        piece = Piece()
        room, size, wait_ms = max_records, 0, FETCH_WAIT_MS
        while room > 0 and size < MAX_BATCH_BYTES and self._ends:
            taken = await self._take(min(room, FETCH_PIECE), wait_ms)
            # Where no record came, markers and gaps may have been passed all the same.
            moved = await self._note_places(piece, taken or list(self._ends))
            for partition, records in taken.items():
                records = self._within(partition, records)  # noqa: PLW2901
                if not records:
                    continue
                piece.records.setdefault(partition, []).extend(records)
                room -= len(records)
                size += sum(len(record.value or b"") + weight_beside_value(record) for record in records)
            if not taken and not moved:
                break
            wait_ms = 0
        if piece.places:
            self._moved_at = self._monotonic()
        elif self._ends and self._monotonic() - self._moved_at > ASK_AFTER_S:
            await self._ask()
        return piece

    async def _take(self, max_records: int, wait_ms: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        try:
            fetched: Mapping[TopicPartition, list[ConsumerRecord]] = await self._consumer.getmany(
                timeout_ms=wait_ms, max_records=max_records
            )
        except OffsetOutOfRangeError as error:
            for partition in error.args[0]:
                log.warning(
                    "offset_out_of_range",
                    topic=partition.topic,
                    partition=partition.partition,
                    action="reading what is left",
                )
                await self._consumer.seek_to_beginning(partition)
            return {}
        except KafkaError as error:
            raise KafkaUnreachable(f"Kafka can't be read: {describe_error(error)}") from error
        return {partition: records for partition, records in fetched.items() if records}

    def _within(self, partition: TopicPartition, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        end = self._last[partition]
        if records[-1].offset < end:
            return records
        return [record for record in records if record.offset < end]

    async def _note_places(self, piece: Piece, partitions: Iterable[TopicPartition]) -> bool:
        moved = False
        for partition in partitions:
            end = self._ends.get(partition)
            if end is None:
                continue
            place = min(end, await self._position(partition))
            if place != self._places[partition]:
                self._places[partition] = piece.places[partition] = place
                moved = True
            if place >= end:
                del self._ends[partition]
                self._consumer.pause(partition)
        return moved

    async def _position(self, partition: TopicPartition) -> int:
        # At once, but where the beginning is being looked for.
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                position: int = await self._consumer.position(partition)
        except TimeoutError:
            raise KafkaUnreachable("Kafka does not say where a topic begins") from None
        return position

    async def _ask(self) -> None:
        """Find out whether the broker is there: the client itself tries without end, and says nothing."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._consumer.beginning_offsets(list(self._ends))
        except (KafkaError, OSError, TimeoutError) as error:
            if self._monotonic() - self._moved_at > GIVE_UP_AFTER_S:
                raise KafkaUnreachable(f"no Kafka broker answers: {describe_error(error)}") from error
