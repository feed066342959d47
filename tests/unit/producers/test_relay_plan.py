from collections.abc import Mapping, Sequence

import pytest
from aiokafka.errors import (
    CorruptRecordException,
    InvalidTimestampError,
    KafkaConnectionError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownError,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder
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
    without_rest,
    without_value,
)
from schemas.dead_letters import HEADERS_OMITTED, VALUE_OMITTED
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


def test_what_must_wait_is_counted() -> None:
    rows = [outcome(1, "a"), outcome(2, "b"), outcome(3, "a"), letter(4)]
    planned = plan_batches(
        rows, lane_of=lane_of, closed={lane_of(rows[0])}, held={(Stream.CREDITS, "b")}, states={}
    )

    assert planned.held == 3
    assert plan_batches(rows, lane_of=lane_of, closed=set(), held=set(), states={}).held == 0


def test_a_batch_goes_where_its_records_belong() -> None:
    rows = [outcome(n, org) for n, org in enumerate("abcabc", 1)] + [letter(7, key=b"b")]
    small = dict.fromkeys(map(lane_of, rows), LaneState(batch_bytes=1))
    planned = plan_batches(rows, lane_of=lane_of, closed=set(), held=set(), states=small)

    for lane, batches in planned.batches.items():
        for one in batches:
            assert one.lane == lane
            assert {lane_of(record) for record in one.records} == {lane}
    assert sum(map(len, planned.batches.values())) == len(rows)


def test_an_organization_held_on_one_topic_is_not_held_on_another() -> None:
    held: set[tuple[Stream, str]] = set()
    other = PendingRecord(2, Stream.PROVISIONING, "a", b"a", b"v", ())
    plan([outcome(1, "a")], closed={lane_of(outcome(1, "a"))}, held=held)

    assert plan([other, outcome(3, "a")], held=held) == [(2,)]


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


@pytest.mark.parametrize(
    "error", [MessageSizeTooLargeError(), RecordListTooLargeError(), InvalidTimestampError()]
)
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
    assert judge(UnknownError(), batch(keyless), TRIES_OF_UNKNOWN - 1) is Verdict.LATER
    assert judge(UnknownError(), batch(keyless), TRIES_OF_UNKNOWN) is Verdict.REFUSED
    assert judge(CorruptRecordException(), batch(keyless), TRIES_OF_UNKNOWN) is Verdict.REFUSED
    assert judge(KafkaConnectionError(), batch(keyless), TRIES_OF_UNKNOWN) is Verdict.LATER


def test_a_refused_dead_letter_loses_its_value_then_the_rest_and_then_its_place() -> None:
    assert remedy(letter(1)) is Remedy.OMIT_VALUE
    assert remedy(without_value(letter(1))) is Remedy.OMIT_REST
    assert remedy(letter(1, value=None)) is Remedy.OMIT_REST
    assert remedy(without_rest(letter(1))) is Remedy.DROP
    assert remedy(outcome(1)) is Remedy.DROP


def test_without_the_rest_a_dead_letter_still_says_all_that_we_say_of_it() -> None:
    row = letter(7)._replace(headers=(("x-large", b"x" * 9), *letter(7).headers))
    state = LaneState(omit_value={7}, omit_rest={7})
    planned = plan_batches([row], lane_of=lane_of, closed=set(), held=set(), states={lane_of(row): state})
    ((record,),) = [batch.records for batch in planned.batches[lane_of(row)]]

    assert (record.key, record.value) == (b"k", None)
    assert record.headers == (*letter(7).headers, VALUE_OMITTED, ("qm-headers-omitted", b"true"))
    assert without_rest(letter(7, key=b"k" * 1024)).key == b"k" * 1024
    assert without_rest(letter(7, key=b"k" * 1025)).key is None
    assert without_rest(letter(7, key=None)).key is None


def test_a_dead_letter_without_its_value_says_so_after_its_other_headers() -> None:
    row = letter(7)
    state = LaneState(omit_value={7})
    planned = plan_batches([row], lane_of=lane_of, closed=set(), held=set(), states={lane_of(row): state})
    (only,) = planned.batches[lane_of(row)]
    (record,) = only.records

    assert (record.key, record.value) == (row.key, None)
    assert record.headers == (*row.headers, ("qm-value-omitted", b"true"))


def test_without_its_value_a_dead_letter_is_the_same_in_all_else() -> None:
    row = letter(7, key=None)

    assert without_value(row) == row._replace(value=None, headers=(*row.headers, VALUE_OMITTED))


def test_with_nothing_but_what_we_say_of_it_a_dead_letter_keeps_its_place_and_stream() -> None:
    row = letter(7)._replace(headers=(("a", b"1"), ("qm-reason", b"invalid_json"), ("b", None)))

    assert without_rest(row) == row._replace(
        value=None, headers=(("qm-reason", b"invalid_json"), VALUE_OMITTED, HEADERS_OMITTED)
    )


def test_the_size_of_a_record_is_what_it_takes_at_most() -> None:
    record = PendingRecord(
        1, Stream.DEAD_LETTER, "", b"key", b"value", (("na", b"1234"), ("n", None), ("", b""))
    )

    assert size_of(record) == 64 + 3 + 5 + (12 + 8 + 4) + (12 + 4) + 12
    assert size_of(record._replace(key=None, value=None, headers=())) == 64


@given(
    key=st.none() | st.binary(max_size=300),
    value=st.none() | st.binary(max_size=300),
    headers=st.lists(st.tuples(st.text(max_size=200), st.none() | st.binary(max_size=200)), max_size=5),
    before=st.integers(0, 3),
)
def test_no_record_takes_more_of_a_batch_than_its_size(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], before: int
) -> None:
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 10**6)
    for offset in range(before):
        builder.append(offset, 0, b"k", b"v", [])
    empty = builder.size()
    builder.append(before, 1_770_000_000_000, key, value, headers)

    assert builder.size() - empty <= size_of(
        PendingRecord(1, Stream.CREDITS, "a", key, value, tuple(headers))
    )


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


def test_batches_grow_again_only_after_so_many_deliveries_since_they_were_cut_or_grew() -> None:
    state = LaneState(batch_bytes=1000)
    state.delivered(GROW_AFTER - 1)
    state.cut(batch(outcome(1, value=b"x" * 5000)))
    assert state.batch_bytes == 500

    state.delivered(GROW_AFTER - 1)
    assert state.batch_bytes == 500
    state.delivered(1)
    assert state.batch_bytes == 1000

    state.delivered(GROW_AFTER - 1)
    assert state.batch_bytes == 1000
    state.delivered(1)
    assert state.batch_bytes == 2000


def test_batches_never_grow_beyond_what_the_producer_takes() -> None:
    state = LaneState(batch_bytes=MAX_BATCH_BYTES - 1)
    for _ in range(3):
        state.delivered(GROW_AFTER)
        assert state.batch_bytes == MAX_BATCH_BYTES


def test_what_was_delivered_at_full_size_counts_for_no_growth_after_a_cut() -> None:
    state = LaneState()
    state.delivered(10 * GROW_AFTER)
    state.cut(batch(outcome(1)))
    small = state.batch_bytes

    state.delivered(GROW_AFTER - 1)

    assert state.batch_bytes == small


def test_batches_are_cut_to_whole_bytes_and_never_to_none() -> None:
    state = LaneState(batch_bytes=3)
    sizes = []
    for _ in range(3):
        state.cut(batch(outcome(1)))
        sizes.append(state.batch_bytes)

    assert sizes == [1, 1, 1]
    assert all(type(size) is int for size in sizes)


def test_no_delivery_is_no_news() -> None:
    state = LaneState()
    state.failed(100.0, 1.0)

    state.delivered(0)

    assert (state.failures, state.failing_since, state.is_open(100.0)) == (1, 100.0, False)


def test_after_a_delivery_pauses_begin_anew() -> None:
    state = LaneState()
    for _ in range(5):
        state.failed(100.0, 1.0)
    state.delivered(1)
    assert state.is_open(0.0)

    state.failed(200.0, 1.0)

    assert (state.failures, state.failing_since) == (1, 200.0)
    assert state.closed_until == pytest.approx(200.1)


def test_a_pause_is_over_when_its_time_has_come() -> None:
    state = LaneState(closed_until=100.0)

    assert not state.is_open(99.9)
    assert state.is_open(100.0)


def test_each_failure_in_a_row_doubles_the_pause() -> None:
    state = LaneState()
    pauses = []
    for _ in range(9):
        state.failed(0.0, 1.0)
        pauses.append(state.closed_until)

    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0])
    assert state.failures == 9


def test_a_pause_has_an_end_however_many_failures_there_were() -> None:
    assert pause_after(10**6, 1.0, most_s=1e9) == pytest.approx(6553.6)
    assert pause_after(16, 1.0, most_s=1e9) == pytest.approx(6553.6)


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
