"""Offsets that can't be committed: the loop goes on, says so once, and tries again."""

from collections.abc import Mapping
from typing import Any, cast

from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.structs import ConsumerRecord, TopicPartition
from structlog.testing import capture_logs

from consumer.ingest.loop import Ingest, IngestLimits
from consumer.ingest.offsets import OffsetsToCommit
from consumer.ingest.status import IngestStatus

PLACE, NOT_OURS = TopicPartition("t", 0), TopicPartition("t", 1)


class Consumer:
    """A member of the group whose coordinator is away for the first commits."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.committed: list[Mapping[TopicPartition, int]] = []

    def assignment(self) -> set[TopicPartition]:
        return {PLACE}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self.failures:
            self.failures -= 1
            raise GroupCoordinatorNotAvailableError
        self.committed.append(offsets)


def ingest_with(consumer: Consumer, offsets: OffsetsToCommit) -> Ingest:
    first = ConsumerRecord("t", 0, 0, 0, 0, None, b"", None, 0, 0, ())
    offsets.fetched({PLACE: [first], NOT_OURS: [first]})
    return Ingest(
        cast("Any", consumer),
        cast("Any", None),
        cast("Any", None),
        IngestLimits(max_event_bytes=1024),
        offsets=offsets,
        metrics=cast("Any", None),
        status=IngestStatus(),
        on_applied=lambda _applied: None,
    )


async def test_a_coordinator_that_is_away_is_said_once_and_so_is_its_return() -> None:
    consumer, offsets = Consumer(failures=3), OffsetsToCommit()
    ingest = ingest_with(consumer, offsets)
    with capture_logs() as logs:
        for offset in range(1, 7):
            offsets.decided({PLACE: offset, NOT_OURS: offset})
            await ingest._commit()
    assert [one["event"] for one in logs] == ["offsets_not_committed", "offsets_committed_again"]
    assert consumer.committed == [{PLACE: offset} for offset in (4, 5, 6)]


async def test_what_was_not_committed_is_tried_again_as_it_is() -> None:
    consumer, offsets = Consumer(failures=1), OffsetsToCommit()
    ingest = ingest_with(consumer, offsets)
    offsets.decided({PLACE: 5})
    await ingest._commit()
    assert consumer.committed == []
    await ingest._commit()
    await ingest._commit()
    assert consumer.committed == [{PLACE: 5}]
