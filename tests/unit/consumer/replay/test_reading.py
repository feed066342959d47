"""A reader whose broker says little: places decide, and silence does not last for ever."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError
from aiokafka.structs import ConsumerRecord, TopicPartition

from consumer.replay.reading import GIVE_UP_AFTER_S, Reader, Span, partitions_to_read
from consumer.replay.selection import Bound, Selection, WrongSelection
from producers.kafka_client import KafkaUnreachable

ONE, TWO = TopicPartition("t", 0), TopicPartition("t", 1)


def record(partition: TopicPartition, offset: int) -> ConsumerRecord:
    return ConsumerRecord(partition.topic, partition.partition, offset, 0, 0, None, b"v", None, 0, 1, ())


@dataclass
class Consumer:
    """Gives the answers it was made with, one a call, then none; a place moves to what is said with it."""

    answers: list[tuple[Mapping[TopicPartition, Iterable[int]], Mapping[TopicPartition, int]] | Exception]
    places: dict[TopicPartition, int] = field(default_factory=dict)
    paused: set[TopicPartition] = field(default_factory=set)
    asked: int = 0

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        self.places = dict.fromkeys(partitions, -1)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.places[partition] = offset

    def pause(self, partition: TopicPartition) -> None:
        self.paused.add(partition)

    async def position(self, partition: TopicPartition) -> int:
        return self.places[partition]

    async def getmany(self, **_: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        if not self.answers:
            return {}
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        records, places = answer
        self.places |= places
        return {one: [record(one, offset) for offset in offsets] for one, offsets in records.items()}

    async def beginning_offsets(self, _: Any) -> None:
        self.asked += 1
        raise KafkaConnectionError


def reader(consumer: Consumer, spans: Mapping[TopicPartition, Span], **more: Any) -> Reader:
    return Reader(cast("Any", consumer), spans, **more)


async def test_it_ends_by_place_where_the_last_offsets_hold_no_record() -> None:
    consumer = Consumer([({ONE: [3, 5]}, {ONE: 6}), ({}, {ONE: 9})])
    one = reader(consumer, {ONE: Span(3, 9), TWO: Span(4, 4)})
    piece = await one.next(1000)
    assert [each.offset for each in piece.records[ONE]] == [3, 5]
    assert piece.places == {ONE: 9}
    assert one.done
    assert consumer.paused == {ONE}
    assert (await one.next(1000)).places == {}


async def test_nothing_beyond_the_end_is_taken() -> None:
    consumer = Consumer([({ONE: range(3, 12)}, {ONE: 12})])
    one = reader(consumer, {ONE: Span(3, 9)})
    piece = await one.next(1000)
    assert [each.offset for each in piece.records[ONE]] == list(range(3, 9))
    assert piece.places == {ONE: 9}


async def test_a_broker_that_is_silent_is_asked_and_given_up_after_a_minute() -> None:
    now = [0.0]
    consumer = Consumer([])
    one = reader(consumer, {ONE: Span(0, 9)}, monotonic=lambda: now[0])
    assert (await one.next(1000)).count == 0
    assert consumer.asked == 0
    now[0] = GIVE_UP_AFTER_S
    await one.next(1000)
    assert consumer.asked == 1
    now[0] += 1
    with pytest.raises(KafkaUnreachable, match="no Kafka broker answers"):
        await one.next(1000)


async def test_a_topic_that_may_not_be_read_ends_it() -> None:
    one = reader(Consumer([TopicAuthorizationFailedError("t")]), {ONE: Span(0, 9)})
    with pytest.raises(KafkaUnreachable, match="TopicAuthorizationFailedError"):
        await one.next(1000)


def test_a_partition_that_is_not_there_is_named() -> None:
    there = {"t": frozenset({0, 1})}
    every = Selection(topics=("t",))
    assert partitions_to_read(every, there) == [ONE, TWO]
    assert partitions_to_read(Selection(topics=("t",), begin=Bound(offsets={("t", 1): 0})), there) == [TWO]
    with pytest.raises(WrongSelection, match="no partition 7, only 0 to 1"):
        partitions_to_read(Selection(topics=("t",), end=Bound(offsets={("t", 7): 5})), there)
