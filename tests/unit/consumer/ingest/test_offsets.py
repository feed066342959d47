"""What may be committed: only what is decided, only forward, and nothing from before a rebalance."""

from collections.abc import Sequence
from typing import Any

from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from consumer.ingest.offsets import OffsetsToCommit

ONE, OTHER = TopicPartition("in", 0), TopicPartition("in", 1)


class Record:
    """As much of a record as counts here."""

    def __init__(self, offset: int) -> None:
        self.offset = offset


def records(*offsets: int) -> Sequence[Any]:
    return [Record(offset) for offset in offsets]


def reading() -> OffsetsToCommit:
    offsets = OffsetsToCommit()
    offsets.fetched({ONE: records(10, 11, 12), OTHER: records(5)})
    return offsets


def test_what_is_decided_is_left_until_it_is_committed() -> None:
    offsets = reading()
    offsets.decided({ONE: 12})
    offsets.decided({ONE: 13, OTHER: 6})
    assert offsets.left == {ONE: 13, OTHER: 6}
    offsets.committed({ONE: 12})
    assert offsets.left == {ONE: 13, OTHER: 6}, "that was an earlier one"
    offsets.committed({ONE: 13, OTHER: 6})
    assert offsets.left == {}


def test_a_batch_from_before_a_rebalance_is_not_committed_after_it() -> None:
    offsets = reading()
    offsets.decided({OTHER: 6})
    offsets.on_partitions_revoked({ONE, OTHER})
    offsets.on_partitions_assigned({ONE, OTHER})
    offsets.decided({ONE: 13})
    assert offsets.left == {}


def test_nor_where_the_group_has_come_further_meanwhile() -> None:
    offsets = reading()
    offsets.on_partitions_revoked({ONE, OTHER})
    offsets.fetched({ONE: records(50)})
    offsets.decided({ONE: 13})
    assert offsets.left == {}
    offsets.decided({ONE: 51})
    assert offsets.left == {ONE: 51}


def test_but_where_it_has_not_it_may_be() -> None:
    offsets = reading()
    offsets.on_partitions_revoked({ONE, OTHER})
    offsets.fetched({ONE: records(10)})
    offsets.decided({ONE: 13})
    assert offsets.left == {ONE: 13}


def test_a_partition_that_is_read_from_elsewhere_begins_anew() -> None:
    offsets = reading()
    offsets.decided({ONE: 13, OTHER: 6})
    offsets.forget(ONE)
    assert offsets.left == {OTHER: 6}
    offsets.fetched({ONE: records(0)})
    offsets.decided({ONE: 1})
    assert offsets.left == {ONE: 1, OTHER: 6}


@given(st.data())
def test_what_is_committed_in_one_assignment_only_grows(data: st.DataObject) -> None:
    offsets, stood = OffsetsToCommit(), 0
    stale: list[int] = []
    for _ in range(data.draw(st.integers(1, 4))):
        offsets.on_partitions_revoked({ONE})
        stood = at = data.draw(st.integers(stood, stood + 5))  # others may have come further
        for _ in range(data.draw(st.integers(0, 4))):
            count = data.draw(st.integers(1, 3))
            offsets.fetched({ONE: records(*range(at, at + count))})
            at += count
            stale.append(at)
            offsets.decided({ONE: data.draw(st.sampled_from(stale))})
            wanted = offsets.left.get(ONE)
            assert wanted is None or wanted > stood
            if wanted is not None and data.draw(st.booleans()):
                offsets.committed({ONE: wanted})
                stood = wanted
