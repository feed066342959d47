from collections.abc import Mapping, Sequence

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownError,
)
from hypothesis import given
from hypothesis import strategies as st

from producers.kafka_client import MAX_BATCH_BYTES
from producers.relay_plan import (
    GROW_AFTER,
    MAX_PAUSE_S,
    TRIES_OF_UNKNOWN,
    Batch,
    Lane,
    LaneState,
    Remedy,
    Verdict,
    judge,
    pause_after,
    plan_batches,
    remedy,
    sendable,
    size_of,
)
from schemas.outcomes import Stream
from storage.outbox import PendingRecord

LANES = 3


def outcome(outbox_id: int, org: str = "a", *, value: bytes = b"v") -> PendingRecord:
    return PendingRecord(outbox_id, Stream.CREDITS, org, org.encode(), value, (("content-type", b"x"),))


def letter(outbox_id: int, *, key: bytes | None = b"k", value: bytes | None = b"v") -> PendingRecord:
    return PendingRecord(outbox_id, Stream.DEAD_LETTER, "", key, value, (("qm-reason", b"invalid_json"),))


def lane_of(record: PendingRecord) -> Lane:
    return Lane(record.stream, record.stream.value, sum(record.key or b"") % LANES)


def plan(
    rows: Sequence[PendingRecord],
    *,
    closed: set[Lane] | None = None,
    held: set[tuple[Stream, str]] | None = None,
    states: Mapping[Lane, LaneState] | None = None,
) -> list[tuple[int, ...]]:
    planned = plan_batches(
        rows,
        lane_of=lane_of,
        closed=closed or set(),
        held=set() if held is None else held,
        states=states or {},
    )
    return [
        tuple(record.outbox_id for record in batch.records)
        for batches in planned.batches.values()
        for batch in batches
    ]


def test_an_organizations_rows_go_together_in_order() -> None:
    rows = [outcome(1, "a"), outcome(2, "b"), outcome(3, "a"), outcome(4, "b")]

    assert plan(rows) == [(1, 3), (2, 4)]


def test_a_batch_ends_before_it_is_too_large() -> None:
    state = LaneState(batch_bytes=2 * size_of(outcome(1)))

    assert plan([outcome(n) for n in range(1, 6)], states={lane_of(outcome(1)): state}) == [
        (1, 2),
        (3, 4),
        (5,),
    ]


def test_a_record_larger_than_a_batch_goes_alone() -> None:
    rows = [outcome(1), outcome(2, value=b"x" * MAX_BATCH_BYTES), outcome(3)]

    assert plan(rows) == [(1,), (2,), (3,)]


def test_a_closed_lane_holds_back_its_rows_and_no_others() -> None:
    rows = [outcome(1, "a"), outcome(2, "b"), outcome(3, "a")]

    assert plan(rows, closed={lane_of(outcome(1, "a"))}) == [(2,)]


def test_what_is_held_on_one_page_is_held_on_the_next_even_where_its_lane_has_changed() -> None:
    held: set[tuple[Stream, str]] = set()
    plan([outcome(1, "a")], closed={lane_of(outcome(1, "a"))}, held=held)

    assert plan([outcome(2, "a"), outcome(3, "b")], held=held) == [(3,)]


def test_a_held_dead_letter_holds_back_only_its_lane() -> None:
    held: set[tuple[Stream, str]] = set()
    plan([letter(1, key=b"a")], closed={lane_of(letter(1, key=b"a"))}, held=held)

    assert plan([letter(2, key=b"b")], held=held) == [(2,)]


@given(
    orgs=st.lists(st.sampled_from("abcdef"), max_size=40),
    closed=st.sets(st.integers(0, LANES - 1)),
    size=st.integers(1, 500),
)
def test_what_is_planned_of_an_organization_is_a_prefix_of_what_waits(
    orgs: list[str], closed: set[int], size: int
) -> None:
    rows = [outcome(n, org) for n, org in enumerate(orgs, 1)]
    lanes = {lane_of(row) for row in rows}
    ids = plan(
        rows,
        closed={lane for lane in lanes if lane.partition in closed},
        states={lane: LaneState(batch_bytes=size) for lane in lanes},
    )
    sent = [outbox_id for batch in ids for outbox_id in batch]

    for org in set(orgs):
        waiting = [row.outbox_id for row in rows if row.org_id == org]
        planned = [outbox_id for outbox_id in sent if outbox_id in waiting]
        assert planned in ([], waiting)


def test_of_a_later_page_only_what_older_rows_cannot_follow_is_judged() -> None:
    page = [outcome(5), outcome(6), outcome(7)]

    assert [row.outbox_id for row in sendable(page, after=4, horizon=6)] == [5, 6]
    assert sendable(page, after=0, horizon=0) == page


def batch(*records: PendingRecord) -> Batch:
    return Batch(lane_of(records[0]), records)


@pytest.mark.parametrize("error", [MessageSizeTooLargeError(), RecordListTooLargeError()])
def test_too_large_is_final_only_for_a_record_alone(error: Exception) -> None:
    assert judge(error, batch(outcome(1), outcome(2)), 0) is Verdict.SPLIT
    assert judge(error, batch(outcome(1)), 0) is Verdict.REFUSED


@pytest.mark.parametrize(
    "error", [KafkaConnectionError(), TimeoutError(), TopicAuthorizationFailedError(), UnknownError()]
)
def test_what_may_pass_is_never_final_for_an_outcome(error: Exception) -> None:
    assert judge(error, batch(outcome(1)), 1000) is Verdict.LATER


def test_an_unnamed_refusal_of_a_record_without_key_is_believed_after_some_tries() -> None:
    keyless = letter(1, key=None)

    assert judge(UnknownError(), batch(keyless, letter(2)), 0) is Verdict.SPLIT
    assert judge(UnknownError(), batch(keyless), 0) is Verdict.LATER
    assert judge(UnknownError(), batch(keyless), TRIES_OF_UNKNOWN) is Verdict.REFUSED


def test_a_refused_dead_letter_loses_its_value_and_then_its_place() -> None:
    assert remedy(letter(1)) is Remedy.OMIT_VALUE
    assert remedy(letter(1, value=None)) is Remedy.DROP
    assert remedy(outcome(1)) is Remedy.DROP


def test_a_dead_letter_without_its_value_says_so_after_its_other_headers() -> None:
    row = letter(7)
    state = LaneState(omit_value={7})
    planned = plan_batches([row], lane_of=lane_of, closed=set(), held=set(), states={lane_of(row): state})
    (only,) = planned.batches[lane_of(row)]
    (record,) = only.records

    assert (record.key, record.value) == (row.key, None)
    assert record.headers == (*row.headers, ("qm-value-omitted", b"true"))


def test_batches_halve_until_the_culprit_stands_alone_and_grow_again() -> None:
    rows = tuple(outcome(n, value=b"x" * 900) for n in range(8))
    state = LaneState()
    for _ in range(3):
        held_together = [b for b in plan(rows, states={lane_of(rows[0]): state}) if len(b) > 1]
        assert held_together
        state.cut(batch(*rows[: len(held_together[0])]))

    assert plan(rows, states={lane_of(rows[0]): state}) == [(n,) for n in range(8)]
    small = state.batch_bytes
    state.delivered(GROW_AFTER)
    assert state.batch_bytes == 2 * small


def test_a_lane_is_closed_for_growing_pauses_and_opened_by_a_delivery() -> None:
    state = LaneState()
    pauses = []
    for _ in range(12):
        state.failed(100.0, 1.0)
        pauses.append(state.closed_until - 100.0)

    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(0.1)
    assert pauses[-1] == MAX_PAUSE_S
    assert state.failing_since == 100.0
    assert not state.is_open(100.0)

    state.delivered(1)
    assert state.is_open(100.0)
    assert state.failing_since is None


def test_jitter_spreads_a_pause_over_its_second_half() -> None:
    assert pause_after(100, 0.0) == MAX_PAUSE_S / 2
    assert pause_after(100, 1.0) == MAX_PAUSE_S
