"""What was written a moment ago is published without being read back, and as it would have been read."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import outbox, tables
from storage.database import Database
from storage.outbox import SHARDS
from storage.written_outcomes import WrittenOutcomes
from tests.integration.storage.rows import letter, outcome

Statements = Callable[[AsyncConnection], AbstractContextManager[list[str]]]
ALL = range(SHARDS)


def written(values: Mapping[int, bytes]) -> WrittenOutcomes:
    some = WrittenOutcomes()
    some.add(values)
    return some


def test_each_is_given_out_once() -> None:
    some = written({1: b"one", 2: b""})
    assert (some.take(1), some.take(2), some.take(3)) == (b"one", b"", None)
    assert (some.take(1), len(some)) == (None, 0)


def test_the_oldest_are_forgotten_where_there_is_no_room() -> None:
    some = WrittenOutcomes(max_bytes=10)
    some.add({1: b"1234", 2: b"1234"})
    some.add({3: b"123"})
    assert [some.take(number) for number in (1, 2, 3)] == [None, b"1234", b"123"]
    some.add({4: b"1234567890"})
    assert some.take(4) == b"1234567890"
    some.add({5: b"12345678901", 6: b"1"})
    assert [some.take(number) for number in (5, 6)] == [None, b"1"]


def test_a_number_given_again_stands_for_the_last_value() -> None:
    some = WrittenOutcomes(max_bytes=10)
    some.add({1: b"12345678"})
    some.add({1: b"1234"})
    some.add({2: b"123456"})
    assert [some.take(number) for number in (1, 2)] == [b"1234", b"123456"]


def test_all_can_be_forgotten() -> None:
    some = WrittenOutcomes(max_bytes=4)
    some.add({1: b"1234"})
    some.forget()
    assert (some.take(1), len(some)) == (None, 0)
    some.add({2: b"1234"})
    assert some.take(2) == b"1234"


@pytest.mark.parametrize("count", [1, 3, 60])
async def test_an_outcome_has_the_number_told(database: Database, count: int) -> None:
    decided = [outcome(f"org-{number % 7}", value=b"%d" % number) for number in range(count)]
    async with database.transaction() as tx:
        first = await outbox.append_outcomes(tx, decided)
        second = await outbox.append_outcomes(tx, decided[::-1])
        assert await outbox.append_outcomes(tx, []) == []
    async with database.reading() as tx:
        columns = tables.outcomes.c
        rows = await tx.execute(select(columns.outcome_seq, columns.value).order_by(columns.outcome_seq))
        kept = [(number, value) for number, value in rows]
    told = zip([*first, *second], [one.value for one in (*decided, *decided[::-1])], strict=True)
    assert kept == list(told)


async def test_what_is_at_hand_is_not_read(database: Database, statements: Statements) -> None:
    decided = [outcome(f"org-{number}", value=b"%d" % number) for number in range(5)]
    async with database.transaction() as tx:
        numbers = await outbox.append_outcomes(tx, decided)
    values = {number: one.value for number, one in zip(numbers, decided, strict=True)}
    async with database.reading() as tx:
        read = await outbox.pending(tx, ALL)
        with statements(tx) as sent:
            assert await outbox.pending(tx, ALL, written=written(values)) == read
        assert len(sent) == 1
        assert "value" not in sent[0]


async def test_what_is_not_at_hand_is_read_and_nothing_else(
    database: Database, statements: Statements
) -> None:
    decided = [outcome(value=b"%d" % number) for number in range(3)]
    async with database.transaction() as tx:
        first, *_ = await outbox.append_outcomes(tx, decided)
    async with database.reading() as tx:
        with statements(tx) as sent:
            page = await outbox.pending(tx, ALL, limit=2, written=written({first: b"0"}))
    assert [record.value for record in page] == [b"0", b"1"]
    assert [sent[1].count("outcomes.value"), sent[1].count("WHERE outcomes.outcome_seq")] == [1, 1]


@given(
    at_hand=st.sets(st.integers(min_value=0, max_value=11)),
    shards=st.sets(st.sampled_from(ALL)),
    limit=st.integers(min_value=1, max_value=15),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_page_is_the_same_whatever_is_at_hand(
    database: Database, at_hand: set[int], shards: set[int], limit: int
) -> None:
    async with database.transaction() as tx:
        await outbox.empty(tx)
        decided = [outcome(f"org-{number % 5}", value=b"%d" % number) for number in range(12)]
        numbers = await outbox.append_outcomes(tx, decided[:6])
        await outbox.append_dead_letters(tx, [letter(1), letter(2)])
        numbers += await outbox.append_outcomes(tx, decided[6:])
        some = written({numbers[place]: decided[place].value for place in sorted(at_hand)})

        read = await outbox.pending(tx, sorted(shards), limit=limit)
        assert await outbox.pending(tx, sorted(shards), limit=limit, written=some) == read
        # A dead letter may have an outcome's number.
        assert await outbox.pending(tx, sorted(shards), limit=limit, written=some) == read
