"""Offsets that can't be committed: the loop goes on, and says so once."""

from collections.abc import Mapping
from typing import Any, cast

from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.structs import TopicPartition
from structlog.testing import capture_logs

from consumer.ingest.loop import Ingest, IngestLimits
from consumer.ingest.status import IngestStatus

PLACE = TopicPartition("t", 0)


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


async def test_a_coordinator_that_is_away_is_said_once_and_so_is_its_return() -> None:
    consumer = Consumer(failures=3)
    ingest = Ingest(
        cast("Any", consumer),
        cast("Any", None),
        cast("Any", None),
        IngestLimits(max_event_bytes=1024),
        metrics=cast("Any", None),
        status=IngestStatus(),
        on_applied=lambda _applied: None,
    )
    with capture_logs() as logs:
        for offset in range(6):
            await ingest._commit({PLACE: offset, TopicPartition("t", 1): offset})
    assert [one["event"] for one in logs] == ["offsets_not_committed", "offsets_committed_again"]
    assert consumer.committed == [{PLACE: offset} for offset in (3, 4, 5)]
