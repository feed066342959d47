"""What one fetch takes: pieces, until it is a batch, weighs enough, or nothing more is there."""

from typing import Any

from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition
from prometheus_client import CollectorRegistry

from consumer.ingest.judging import IngestPolicy
from consumer.ingest.loop import FETCH_PIECE, MAX_BATCH_BYTES, Ingest, IngestLimits
from consumer.ingest.offsets import OffsetsToCommit
from consumer.ingest.status import IngestStatus
from consumer.metrics import Metrics

ONE, OTHER = TopicPartition("in", 0), TopicPartition("in", 1)


class Consumer:
    """Hands out what it was given, piece by piece; an error is raised in its turn."""

    def __init__(self, *pieces: dict[TopicPartition, list[ConsumerRecord]] | KafkaError) -> None:
        self.pieces = list(pieces)
        self.asked: list[tuple[int, int]] = []
        self.sought: list[TopicPartition] = []

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Any:
        self.asked.append((timeout_ms, max_records))
        piece = self.pieces.pop(0) if self.pieces else {}
        if isinstance(piece, KafkaError):
            raise piece
        return piece

    async def seek_to_beginning(self, partition: TopicPartition) -> None:
        self.sought.append(partition)


def records(*offsets: int, value: bytes = b"{}") -> list[ConsumerRecord]:
    return [ConsumerRecord("in", 0, offset, 0, 0, None, value, None, 0, 0, ()) for offset in offsets]


async def fetch(consumer: Consumer, **limits: int) -> dict[TopicPartition, list[int]]:
    ingest = Ingest(
        consumer,
        None,  # type: ignore[arg-type]
        IngestPolicy(our_source="/q", credits_per_job=1, dependency_wait=None),  # type: ignore[arg-type]
        IngestLimits(max_event_bytes=1000, **limits),
        offsets=OffsetsToCommit(),
        metrics=Metrics(CollectorRegistry()),
        status=IngestStatus(),
        on_applied=lambda _: None,
    )
    fetched = await ingest._fetch()
    return {partition: [record.offset for record in some] for partition, some in fetched.items()}


async def test_pieces_are_put_together_in_order_until_nothing_more_is_there() -> None:
    consumer = Consumer({ONE: records(1, 2)}, {ONE: records(3), OTHER: records(7)}, {OTHER: records(8)})
    assert await fetch(consumer) == {ONE: [1, 2, 3], OTHER: [7, 8]}
    assert [wait > 0 for wait, _ in consumer.asked] == [True, False, False, False]


async def test_no_more_than_a_batch_is_taken() -> None:
    consumer = Consumer({ONE: records(*range(FETCH_PIECE))}, {ONE: records(90, 91)}, {ONE: records(92)})
    assert (
        sum(map(len, (await fetch(consumer, max_batch_records=FETCH_PIECE + 2)).values())) == FETCH_PIECE + 2
    )
    assert [wanted for _, wanted in consumer.asked] == [FETCH_PIECE, 2]


async def test_what_weighs_enough_is_enough() -> None:
    heavy = b" " * (MAX_BATCH_BYTES // 2)
    consumer = Consumer(*({ONE: records(offset, value=heavy)} for offset in range(9)))
    assert await fetch(consumer) == {ONE: [0, 1]}


async def test_an_error_costs_nothing_of_what_was_taken_before_it() -> None:
    consumer = Consumer({ONE: records(1)}, OffsetOutOfRangeError({OTHER: 5}), {ONE: records(2)})
    assert await fetch(consumer) == {ONE: [1]}
    assert consumer.sought == [OTHER]
    assert await fetch(consumer) == {ONE: [2]}


async def test_nothing_there_is_asked_for_once() -> None:
    consumer = Consumer()
    assert await fetch(consumer) == {}
    assert len(consumer.asked) == 1
