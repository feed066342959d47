import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.dead_letters import DeadLetterReason, dead_letter_headers
from schemas.outcomes import OUTCOME_CONTENT_TYPE, OutcomeType, Stream
from schemas.transactions import charge_id
from storage import dead_letters, organizations, outbox, outcomes
from storage.database import Database
from storage.dead_letters import Wanted
from storage.outbox import SHARDS, shard_of
from storage.tables import dead_letters as letters_table
from storage.tables import outbox as outbox_table
from storage.tables import outcomes as outcomes_table
from tests.integration.storage.rows import NOON, after, first_column, letter, outcome

Statements = Callable[[AsyncConnection], AbstractContextManager[list[str]]]
Explain = Callable[[AsyncConnection, Callable[[], Awaitable[object]]], Awaitable[str]]
ALL = range(SHARDS)


async def test_outcomes_are_pending_in_the_order_decided(database: Database) -> None:
    decided = [outcome(f"org-{number % 3}", value=bytes([number])) for number in range(50)]
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, decided[:30])
        await outbox.append_outcomes(tx, decided[30:])
        await outbox.append_outcomes(tx, [])
    async with database.reading() as tx:
        records = await outbox.pending(tx, ALL)
        assert await outbox.count_pending(tx) == 50
        assert await outbox.oldest_pending_at(tx) == NOON
    assert [record.value for record in records] == [one.value for one in decided]
    assert [record.key for record in records] == [one.org_id.encode() for one in decided]
    assert records == sorted(records, key=lambda record: record.outbox_id)
    assert {record.headers for record in records} == {(OUTCOME_CONTENT_TYPE,)}
    assert {record.stream for record in records} == {Stream.CREDITS}


async def test_a_rolled_back_outcome_is_never_pending(database: Database) -> None:
    async def fail(tx: AsyncConnection) -> None:
        await outbox.append_outcomes(tx, [outcome(value=b"lost")])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.run(fail)
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, [outcome(value=b"kept")])
    async with database.reading() as tx:
        assert [record.value for record in await outbox.pending(tx, ALL)] == [b"kept"]


async def test_what_is_gone_although_its_place_was_seen_is_left_out(database: Database) -> None:
    async with database.transaction() as tx:
        gone, _ = await outbox.append_outcomes(tx, [outcome(value=b"1"), outcome(value=b"2")])
        await outbox.append_dead_letters(tx, [letter(1), letter(2)])
        # As another relay and a retention run do between the places and the values.
        await tx.execute(delete(outcomes_table).where(outcomes_table.c.outcome_seq == gone))
        await tx.execute(delete(letters_table).where(letters_table.c.offset == 1))
        found = await outbox.pending(tx, ALL)
    assert [record.value for record in found] == [b"2", letter(2).value]
    assert dict(found[1].headers)["qm-original-offset"] == b"2"


async def test_each_part_is_read_by_itself_and_in_pages(database: Database) -> None:
    decided = [outcome(f"org-{number}") for number in range(40)]
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, decided)
    some = [1, 4, 6]
    async with database.reading() as tx:
        expected = [one.org_id for one in decided if shard_of(one.org_id) in some]
        found: list[str] = []
        last = 0
        while page := await outbox.pending(tx, some, after=last, limit=3):
            found += [record.org_id for record in page]
            last = page[-1].outbox_id
        assert found == expected
        assert await outbox.pending(tx, []) == []
        assert await outbox.pending(tx, ALL, limit=0) == []


async def test_what_is_acknowledged_goes_and_its_place_is_not_given_again(database: Database) -> None:
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, [outcome(value=b"1"), outcome(value=b"2")])
    async with database.transaction() as tx:
        records = await outbox.pending(tx, ALL)
        await outbox.acknowledge(tx, [record.outbox_id for record in records])
        await outbox.acknowledge(tx, [])
        assert await outbox.count_pending(tx) == 0
        assert await outbox.oldest_pending_at(tx) is None
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, [outcome(value=b"3")])
        (third,) = await outbox.pending(tx, ALL)
    assert third.outbox_id > records[-1].outbox_id


async def test_places_follow_the_order_of_the_organizations_lock(database: Database) -> None:
    async def decide(tx: AsyncConnection, number: int) -> None:
        state = (await organizations.lock(tx, ["acme"]))["acme"]
        await asyncio.sleep(0)
        value = str(state.balance).encode()
        await outbox.append_outcomes(tx, [outcome(f"org-{number}"), outcome("acme", value=value)])
        await organizations.save(tx, [type(state)("acme", balance=state.balance + 1)])

    await asyncio.gather(*(database.run(lambda tx, n=n: decide(tx, n)) for n in range(20)))  # type: ignore[misc]
    async with database.reading() as tx:
        records = await outbox.pending(tx, ALL)
    assert [int(record.value or b"") for record in records if record.org_id == "acme"] == list(range(20))


async def test_the_numbers_of_outcomes_follow_one_another(database: Database) -> None:
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [letter(1), letter(2)])
        await outbox.append_outcomes(tx, [outcome(), outcome("beta")])
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, [outcome()])
        assert [one.outcome_seq for one in await outcomes.page(tx)] == [1, 2, 3]


async def test_one_record_can_be_asked_for(database: Database) -> None:
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, [outcome(value=b"1"), outcome(value=b"2")])
        assert [record.value for record in await outbox.pending(tx, ALL, limit=1)] == [b"1"]


async def test_what_is_told_of_the_oldest_is_when_the_first_in_the_outbox_was_decided(
    database: Database,
) -> None:
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, [outcome("a", decided_at=after(5))])
        await outbox.append_outcomes(tx, [outcome("b", decided_at=after(3)), outcome("c")])
        await outbox.append_dead_letters(tx, [letter(1, dead_lettered_at=after(7)), letter(2)])
        told = []
        for record in await outbox.pending(tx, ALL):
            told.append(await outbox.oldest_pending_at(tx))
            await outbox.acknowledge(tx, [record.outbox_id])
        assert told == [after(5), after(3), NOON, after(7), NOON]
        assert await outbox.oldest_pending_at(tx) is None


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("decide"), st.lists(st.sampled_from("abcdefgh"), max_size=6)),
        st.tuples(st.just("reject"), st.lists(st.sampled_from([None, b"a", b"b", b"c"]), max_size=3)),
        st.tuples(st.just("publish"), st.sets(st.integers(0, SHARDS - 1)), st.integers(0, 9)),
    ),
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_STEPS, st.sets(st.integers(0, SHARDS - 1)), st.integers(0, 5), st.integers(0, 12))
async def test_guarantee_3_like_a_list_in_the_order_decided(
    database: Database, steps: list[Any], shards: set[int], skipped: int, limit: int
) -> None:
    """The reference: one list; a part of the outbox is what of it has a key of that part."""
    model: list[tuple[int, bytes | None, bytes | None]] = []  # part, key, value
    made = 0
    async with database.transaction() as tx:
        await outbox.acknowledge(tx, [record.outbox_id for record in await outbox.pending(tx, ALL)])
        for what, *given_ in steps:
            if what == "publish":
                taken = (await outbox.pending(tx, given_[0], limit=1000))[: given_[1]]
                await outbox.acknowledge(tx, [record.outbox_id for record in taken])
                for record in taken:
                    model.remove((shard_of(record.key or b""), record.key, record.value))
                continue
            keys = [key.encode() for key in given_[0]] if what == "decide" else given_[0]
            values = [f"{uuid4()}".encode() for _ in keys]
            model += [(shard_of(key or b""), key, value) for key, value in zip(keys, values, strict=True)]
            made += len(keys)
            if what == "decide":
                await outbox.append_outcomes(
                    tx, [outcome(key.decode(), value) for key, value in zip(keys, values, strict=True)]
                )
            else:
                await outbox.append_dead_letters(
                    tx, [letter(made, key=key, value=value) for key, value in zip(keys, values, strict=True)]
                )

        everything = await outbox.pending(tx, ALL)
        assert [(record.key, record.value) for record in everything] == [one[1:] for one in model]
        assert await outbox.count_pending(tx) == len(model)
        after_ = everything[skipped - 1].outbox_id if 0 < skipped <= len(everything) else 0
        rest = model[skipped if after_ else 0 :]
        page = await outbox.pending(tx, sorted(shards), after=after_, limit=limit)
    expected = [one[1:] for one in rest if one[0] in shards][:limit]
    assert [(record.key, record.value) for record in page] == expected
    assert all(record.outbox_id > after_ for record in page)


async def test_a_batch_costs_one_statement_on_postgresql(
    tx: AsyncConnection, dialect: str, statements: Statements
) -> None:
    with statements(tx) as sent:
        await outbox.append_outcomes(tx, [outcome(f"org-{number}") for number in range(1000)])
    assert len(sent) == (1 if dialect == "postgresql" else 3)


@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_pending_reads_a_range_of_the_index_for_each_part(database: Database, explain: Explain) -> None:
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, [outcome(f"org-{number % 100}") for number in range(5000)])
    async with database.transaction() as tx:
        await tx.execute(text("ANALYZE"))
    async with database.reading() as tx:
        plan = await explain(tx, lambda: outbox.pending(tx, [1, 4], limit=50))
        plan_of_all = await explain(tx, lambda: outbox.pending(tx, ALL, limit=50))
    assert "Seq Scan on outbox" not in plan
    assert plan.count("ix_outbox_shard") == 2
    assert "Seq Scan on outbox" not in plan_of_all
    assert plan_of_all.count("pk_outbox") == 1


# -- dead letters --


async def test_an_emptied_outbox_holds_nothing(database: Database) -> None:
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, [outcome()])
        await outbox.append_dead_letters(tx, [letter(1)])
    await database.run(outbox.empty)
    async with database.reading() as tx:
        assert await outbox.count_pending(tx) == 0
        assert await dead_letters.page(tx, Wanted()) == []
        assert await outcomes.page(tx) == []


async def test_a_dead_letter_stands_under_no_organization(database: Database) -> None:
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [letter(1)])
    async with database.reading() as tx:
        assert (await tx.scalars(select(outbox_table.c.org_id))).all() == [""]


async def test_a_record_is_dead_lettered_once(database: Database) -> None:
    async with database.transaction() as tx:
        first = await outbox.append_dead_letters(tx, [letter(2), letter(1), letter(2)])
    async with database.transaction() as tx:
        again = await outbox.append_dead_letters(tx, [letter(2, error="said otherwise"), letter(3)])
    async with database.reading() as tx:
        records = await outbox.pending(tx, ALL)
        listed = await dead_letters.page(tx, Wanted())
    assert (first, again) == ([True, True, False], [False, True])
    assert len(records) == 3
    assert {record.org_id for record in records} == {""}
    assert {one.error for one in listed} == {"not UTF-8"}
    assert await _empty(database, []) == []


async def _empty(database: Database, letters: list[dead_letters.DeadLetter]) -> list[bool]:
    async with database.transaction() as tx:
        return await outbox.append_dead_letters(tx, letters)


async def test_of_several_readers_of_one_record_one_writes_it(database: Database) -> None:
    results = await asyncio.gather(
        *(database.run(lambda tx: outbox.append_dead_letters(tx, [letter(1), letter(2)])) for _ in range(6))
    )
    assert [sum(told) for told in zip(*results, strict=True)] == [1, 1]


async def test_a_dead_letter_goes_out_with_its_own_bytes_and_the_reason(database: Database) -> None:
    found = letter(7, key=None, value=None, event_id="e-1")
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [found])
    async with database.reading() as tx:
        (record,) = await outbox.pending(tx, ALL)
        assert await outbox.oldest_pending_at(tx) == NOON
    assert (record.stream, record.org_id, record.key, record.value) == (Stream.DEAD_LETTER, "", None, None)
    assert record.headers[:3] == found.headers
    added = dict(record.headers[3:])
    assert added["qm-reason"] == b"invalid_json"
    assert added["qm-event-id"] == b"e-1"
    assert added["qm-original-offset"] == b"7"
    assert "qm-event-source" not in added


async def test_a_dead_letter_is_published_whole(database: Database) -> None:
    found = letter(
        7,
        key=b"\xff",
        partition=3,
        error="data.status: odd",
        reason=DeadLetterReason.INVALID_DATA,
        event_id="e-1",
        event_source="/platform",
        event_type="job.completed",
    )
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [found])
        [record] = await outbox.pending(tx, [shard_of(b"\xff")])
        await outbox.acknowledge(tx, [record.outbox_id])
        assert await outbox.count_pending(tx) == 0
    assert (record.stream, record.org_id) == (Stream.DEAD_LETTER, "")
    assert (record.key, record.value) == (b"\xff", found.value)
    assert record.headers == tuple(
        dead_letter_headers(
            found.headers,
            reason=found.reason,
            error="data.status: odd",
            event_id="e-1",
            event_source="/platform",
            event_type="job.completed",
            topic="job.completed",
            partition=3,
            offset=7,
            timestamp_ms=found.timestamp_ms,
            dead_lettered_at=NOON,
        )
    )


async def test_dead_letters_are_kept_in_the_order_of_their_digests(tx: AsyncConnection, dialect: str) -> None:
    """So that two transactions that keep the same ones wait for each other, and never in a circle."""
    kept: list[list[str]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith('INSERT INTO "dead_letters"'):
            kept.append([UUID(digest).hex for digest in first_column(parameters)])

    event.listen(tx.sync_connection, "before_cursor_execute", note)
    await outbox.append_dead_letters(tx, [letter(number) for number in range(20)])
    event.remove(tx.sync_connection, "before_cursor_execute", note)

    [digests] = kept
    assert digests == sorted(letter(number).digest.hex for number in range(20))


async def test_dead_letters_without_a_key_stand_in_one_part(database: Database) -> None:
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [letter(number, key=None) for number in range(5)])
        assert len(await outbox.pending(tx, [shard_of(b"")])) == 5


async def test_of_a_dead_letter_given_twice_one_is_new(database: Database) -> None:
    one, other = letter(1), letter(2)
    async with database.transaction() as tx:
        assert await outbox.append_dead_letters(tx, [one, other, one]) == [True, True, False]
        assert await outbox.append_dead_letters(tx, [letter(3), other]) == [True, False]
        assert [dict(record.headers)["qm-original-offset"] for record in await outbox.pending(tx, ALL)] == [
            b"1",
            b"2",
            b"3",
        ]
        assert await outbox.append_dead_letters(tx, []) == []


# -- outcomes kept --


async def test_outcomes_are_found_by_job_by_event_and_by_when(database: Database) -> None:
    job, event = charge_id("acme", "j-1"), uuid4()
    decided = [
        outcome(job_key=job, value=b"first"),
        outcome(job_key=job, value=b"second", cause_identity=event, decided_at=after(1)),
        outcome("beta", cause_identity=event, round=2, decided_at=after(2), type=OutcomeType.CREDITS_GRANTED),
        outcome("beta", type=OutcomeType.ORG_PROVISIONED, stream=Stream.PROVISIONING, decided_at=after(3)),
    ]
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, decided)
    async with database.reading() as tx:
        everything = await outcomes.page(tx)
        assert [one.value for one in await outcomes.of_job(tx, "acme", job)] == [b"first", b"second"]
        assert await outcomes.of_job(tx, "beta", job) == []
        assert [one.round for one in await outcomes.of_event(tx, event)] == [1, 2]
        assert (await outcomes.latest_of_events(tx, [event, uuid4()]))[event].round == 2
        assert await outcomes.latest_of_events(tx, []) == {}
        assert await outcomes.page(tx, org_id="beta", limit=1) == [everything[2]]
        assert await outcomes.page(tx, identities=[event], after=everything[1].outcome_seq) == [everything[2]]
        assert await outcomes.page(tx, decided_from=after(1), decided_to=after(3)) == everything[1:3]
    assert [one.outcome_id for one in everything] == [one.id for one in decided]
    assert everything[3].type is OutcomeType.ORG_PROVISIONED
    assert everything[1].decided_at == after(1)


async def test_a_stored_outcome_is_published_again_byte_for_byte(database: Database) -> None:
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, [outcome(value=b"1"), outcome(value=b"2")])
        records = await outbox.pending(tx, ALL)
        await outbox.acknowledge(tx, [record.outbox_id for record in records])
        stored = await outcomes.page(tx)
    async with database.transaction() as tx:
        assert await outbox.append_again(tx, [one.outcome_seq for one in reversed(stored)] + [10**6]) == 2
        assert await outbox.append_again(tx, []) == 0
        records_again = await outbox.pending(tx, ALL)
        await outbox.acknowledge(tx, [record.outbox_id for record in records_again])
        assert await outbox.append_again(tx, [stored[1].outcome_seq]) == 1
        assert [record.value for record in await outbox.pending(tx, ALL)] == [b"2"]
        await outbox.acknowledge(tx, [record.outbox_id for record in await outbox.pending(tx, ALL)])
        assert await outbox.append_again(tx, [one.outcome_seq for one in stored]) == 2
    async with database.reading() as tx:
        again = await outbox.pending(tx, ALL)
    assert [(one.key, one.value, one.headers) for one in again] == [
        (one.key, one.value, one.headers) for one in records
    ]
