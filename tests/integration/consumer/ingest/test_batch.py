"""One batch, one transaction, over every database: what ingest guarantees."""

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest import batch
from consumer.ingest.batch import Applied, RejectedRecord
from consumer.ingest.drain import drain_organization
from schemas.decode import Rejected, decode
from schemas.outcomes import OutcomeType
from schemas.transactions import charge_id
from storage import judgements, ledger, outbox, outcomes
from storage.database import Database
from storage.organizations import OrgStatus
from tests.integration.consumer.ingest.events import (
    NOW,
    POLICY,
    activate,
    founded,
    inbox_rows,
    ingest,
    job,
    joined,
    letters_of,
    outcomes_of,
    received,
    record,
    rejected_of,
    state_of,
)
from tests.integration.storage.rows import first_column


async def test_jobs_of_an_active_organization_are_charged_in_order(database: Database) -> None:
    await activate(database, credits_=2)
    applied = await ingest(database, job("a"), job("b", status="failed"), job("c"), job("d"))
    assert applied.outcomes == Counter(
        {"credits.deducted": 2, "credits.deduction_skipped": 1, "credits.deduction_failed": 1}
    )
    outcomes = await outcomes_of(database)
    assert [one["data"]["job_id"] for one in outcomes] == ["a", "b", "c", "d"]
    assert [one["data"].get("balance_after") for one in outcomes] == [1, None, 0, None]
    state = await state_of(database)
    assert (state.balance, state.charges, state.entries) == (0, 2, 3)


@pytest.mark.parametrize("count", [1, 1300])
async def test_a_batch_tells_what_it_wrote_as_it_stands_in_the_database(
    database: Database, count: int
) -> None:
    await activate(database, credits_=count)
    applied = await ingest(database, *(job(f"j-{number}") for number in range(count)), joined())
    async with database.reading() as tx:
        kept = await outcomes.page(tx, limit=2 * count)
    assert applied.written == {one.outcome_seq: one.value for one in kept}
    assert len(kept) == count
    assert (await ingest(database, job("j-0"))).written == {}


async def test_guarantee_2_a_redelivered_batch_has_no_effect(database: Database) -> None:
    await activate(database)
    batch = [job("a"), job("b"), joined(), founded(org="other")]
    await ingest(database, *batch)
    before = (await outcomes_of(database), await state_of(database), await inbox_rows(database))
    again = await ingest(database, *reversed(batch))
    assert sum(again.duplicates.values()) == 4
    assert not again.outcomes
    assert (await outcomes_of(database), await state_of(database), await inbox_rows(database)) == before


async def test_repeats_within_a_batch_are_resolved_in_order(database: Database) -> None:
    await activate(database)
    conflicting = received(
        record("job.completed", {"org_id": "acme", "job_id": "z", "status": "completed"}, id_="e-acme-a")
    )
    applied = await ingest(database, job("a"), job("a"), conflicting, job("a", id_="another"))
    assert applied.accepted["job.completed"] == 2
    assert applied.duplicates["job.completed"] == 1
    assert applied.conflicts["job.completed"] == 1
    assert applied.dead_letters == Counter({"id_conflict": 1})
    outcomes = await outcomes_of(database)
    assert [one["type"] for one in outcomes] == ["credits.deducted", "credits.deduction_skipped"]
    assert outcomes[1]["data"]["transaction_id"] == outcomes[0]["data"]["transaction_id"]


async def test_a_conflict_that_is_read_again_counts_once(database: Database) -> None:
    conflicting = received(
        record("job.completed", {"org_id": "acme", "job_id": "z", "status": "completed"}, id_="e-acme-a")
    )
    first = await ingest(database, job("a"), conflicting)
    again = await ingest(database, job("a"), conflicting)
    assert (first.conflicts["job.completed"], again.conflicts["job.completed"]) == (1, 0)
    assert again.duplicates["job.completed"] == 1


async def test_a_job_is_charged_once_whatever_event_names_it(database: Database) -> None:
    await activate(database, credits_=1)
    await ingest(database, job("a", status="failed", id_="1"))
    await ingest(database, job("a", id_="2"))
    await ingest(database, job("a", id_="3"), job("b", id_="4"))
    reasons = [one["data"].get("reason") for one in await outcomes_of(database)]
    assert reasons == ["job_failed", None, "job_already_charged", "insufficient_credits"]


async def test_an_outcome_is_of_the_first_round_names_us_and_is_found_by_its_job(database: Database) -> None:
    await activate(database)
    await ingest(database, job("a"))
    [outcome] = await outcomes_of(database)
    assert (outcome["source"], outcome["round"], outcome["origin"]) == ("/quartermaster", 1, "live")
    assert (outcome["causationsource"], outcome["causationid"]) == ("/platform", "e-acme-a")
    async with database.reading() as tx:
        [stored] = await outcomes.of_job(tx, "acme", charge_id("acme", "a"))
    assert str(stored.outcome_id) == outcome["id"]


async def test_a_refused_charge_is_kept_until_it_is_tried_again(database: Database) -> None:
    await activate(database, credits_=0)
    applied = await ingest(database, job("a"), job("b", status="failed"))
    assert not applied.needs_draining
    assert [(row.state, row.subject) for row in await inbox_rows(database)] == [("failed", "a")]
    assert (await state_of(database)).waiting_jobs == 0

    await ingest(database, job("c", org="unknown"))

    async def drain(tx: AsyncConnection) -> Counter[OutcomeType]:
        return await drain_organization(tx, "unknown", policy=POLICY, now=NOW + timedelta(seconds=60))

    await database.run(drain)
    kept = [(row.state, row.subject, row.failure) for row in await inbox_rows(database)]
    assert kept[1] == ("failed", "c", '{"step":"charge","error_code":"org_not_found"}')


async def test_guarantee_8_a_dead_letter_is_decided_once(database: Database) -> None:
    bad = record("", {}, id_="", raw=b"{")
    rejected = decode(bad, max_bytes=1000)
    assert isinstance(rejected, Rejected)
    letters = [RejectedRecord(rejected, bad)]
    first = await ingest(database, rejected=letters)
    again = await ingest(database, rejected=letters, now=NOW + timedelta(seconds=5))
    assert first.dead_letters == Counter({"invalid_json": 1})
    assert not again.dead_letters
    async with database.reading() as tx:
        [row] = await outbox.pending(tx, list(range(outbox.SHARDS)), after=0, limit=10)
    assert row.value == b"{"


async def test_guarantee_2_other_data_under_a_known_id_is_a_conflict_however_much_later(
    database: Database,
) -> None:
    await activate(database)
    await ingest(database, job("a"), job("b"))
    before = (await outcomes_of(database), await state_of(database))

    contradictions = [job("z", id_="e-acme-a"), job("y", id_="e-acme-b")]
    applied = await ingest(database, *contradictions, job("a"))

    assert applied.conflicts == Counter({"job.completed": 2})
    assert applied.duplicates == Counter({"job.completed": 1})
    assert applied.dead_letters == Counter({"id_conflict": 2})
    assert applied.rejected == Counter()
    assert not applied.accepted
    assert (await outcomes_of(database), await state_of(database)) == before
    letters = await letters_of(database)
    assert [(one.value, one.key) for one in letters] == [
        (one.record.value, one.record.key) for one in contradictions
    ]
    assert {dict(one.headers)["qm-error"] for one in letters} == {
        b"id: an event with this source and id but other data was accepted before"
    }
    again = await ingest(database, *contradictions)
    assert again.conflicts == again.dead_letters == Counter()


async def test_bad_records_are_counted_by_reason_and_by_the_type_that_could_be_read(
    database: Database,
) -> None:
    odd = {"org_id": "acme", "job_id": "a", "status": "odd"}
    bad = [
        record("", {}, id_="", raw=b"{", offset=1),
        record("", {}, id_="", raw=b"[", offset=2),
        record("job.completed", odd, id_="1", offset=3),
        record("job.completed", odd, id_="2", offset=4),
        record("job.completed", odd, id_="2", offset=4),
    ]
    applied = await ingest(database, rejected=[rejected_of(one) for one in bad])

    assert applied.dead_letters == Counter({"invalid_json": 2, "invalid_data": 2})
    assert applied.rejected == Counter({"": 2, "job.completed": 2})


async def test_who_has_to_go_on_with_a_batch_is_told(database: Database) -> None:
    def needs(applied: Applied) -> tuple[bool, bool]:
        return applied.needs_provisioning, applied.needs_draining

    assert needs(await ingest(database)) == (False, False)
    assert needs(await ingest(database, job("a"))) == (False, False), "there is no organization yet"
    assert needs(await ingest(database, joined(), job("b"))) == (True, False)
    assert needs(await ingest(database, founded())) == (True, False)
    await activate(database)
    assert needs(await ingest(database, job("c"))) == (False, True), "behind those that wait"
    assert needs(await ingest(database, joined("v"))) == (True, False)
    await activate(database, org="other")
    assert needs(await ingest(database, job("c", org="other"))) == (False, False)


async def test_the_event_loop_gets_its_turn_in_the_middle_of_a_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await activate(database)
    turns: list[float] = []

    async def turn(seconds: float) -> None:
        turns.append(seconds)

    monkeypatch.setattr(batch, "JUDGED_PER_TURN", 50)
    monkeypatch.setattr(batch.asyncio, "sleep", turn)
    await ingest(database, *(job(f"{n}") for n in range(149)))
    assert turns == [0, 0]
    await ingest(database, *(job(f"{n}") for n in range(200, 250)))
    assert turns == [0, 0, 0]


async def test_a_batch_takes_its_locks_in_one_order(database: Database) -> None:
    """Two batches that share organizations, jobs or events wait for each other, and never in a circle."""
    orgs = [f"org{n}" for n in (3, 1, 2)]
    for org in orgs:
        await activate(database, org=org)
    batch_ = [job(f"j{n}", org=org) for n in range(4) for org in orgs]
    written: dict[str, list[list[Any]]] = {}

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        for table in ("identities", "ledger_entries"):
            if "INSERT INTO" in statement and table in statement:
                written.setdefault(table, []).append(first_column(parameters))

    sqlalchemy_event.listen(Engine, "before_cursor_execute", note)
    try:
        await ingest(database, *batch_)
    finally:
        sqlalchemy_event.remove(Engine, "before_cursor_execute", note)

    assert {table: len(keys[0]) for table, keys in written.items()} == {
        "identities": 12,
        "ledger_entries": 12,
    }
    for [keys] in written.values():
        assert keys == sorted(keys)


async def test_guarantee_8_a_mended_event_may_use_the_same_id(database: Database) -> None:
    await activate(database)
    bad = record("job.completed", {"org_id": "acme", "job_id": "a", "status": "odd"}, id_="e-acme-a")
    rejected = decode(bad, max_bytes=1000)
    assert isinstance(rejected, Rejected)
    await ingest(database, rejected=[RejectedRecord(rejected, bad)])
    applied = await ingest(database, job("a"))
    assert applied.outcomes == Counter({"credits.deducted": 1})


async def test_guarantee_4_jobs_wait_without_a_deadline_while_their_organization_is_provisioned(
    database: Database,
) -> None:
    await ingest(database, job("a"), joined())
    assert {row.due_at for row in await inbox_rows(database)} == {NOW + timedelta(seconds=60)}
    await ingest(database, founded())
    due = {row.type: row.due_at for row in await inbox_rows(database)}
    assert due == {"job.completed": None, "user.joined": None, "org.created": NOW}
    assert (await state_of(database)).status is OrgStatus.PROVISIONING


async def test_guarantee_4_jobs_that_waited_are_charged_before_those_that_come_after(
    database: Database,
) -> None:
    await ingest(database, job("a"), job("b"))
    await ingest(database, founded())
    await activate(database, credits_=3)
    later = await ingest(database, job("c"), job("d"))
    assert later.needs_draining
    assert not later.outcomes

    async def drain(tx: AsyncConnection) -> Counter[OutcomeType]:
        return await drain_organization(tx, "acme", policy=POLICY, now=NOW, limit=3)

    await database.run(drain)
    await ingest(database, job("e"))
    await database.run(drain)
    outcomes = await outcomes_of(database)
    assert [one["data"]["job_id"] for one in outcomes] == ["a", "b", "c", "d", "e"]
    assert [one["data"].get("sequence") for one in outcomes] == [1, 2, 3, None, None]
    state = await state_of(database)
    assert (state.waiting_jobs, state.balance) == (0, 0)


async def test_jobs_of_an_unknown_organization_end_when_their_wait_is_over(database: Database) -> None:
    await ingest(database, job("a", status="failed"))
    await ingest(database, job("b"), now=NOW + timedelta(seconds=30))

    async def drain(tx: AsyncConnection) -> Counter[OutcomeType]:
        return await drain_organization(tx, "acme", policy=POLICY, now=NOW + timedelta(seconds=60))

    await database.run(drain)
    [outcome] = await outcomes_of(database)
    assert outcome["data"]["job_id"] == "a"
    assert outcome["data"]["reason"] == "org_not_found"
    assert (await state_of(database)).waiting_jobs == 1


@pytest.mark.parametrize("seed", range(5))
async def test_any_delivery_agrees_with_the_reference(database: Database, seed: int) -> None:
    """The reference: each identity once, each job charged once, in the order of first delivery."""
    chance = random.Random(seed)
    orgs = ["a", "b", "c"]
    for org in orgs:
        await activate(database, org=org, credits_=8)
    events = [
        job(
            f"j{chance.randrange(12)}",
            org=chance.choice(orgs),
            status=chance.choice(["completed", "failed"]),
            id_=f"{n}",
        )
        for n in range(60)
    ]
    deliveries = [chance.choice(events) for _ in range(150)]

    balance = dict.fromkeys(orgs, 8)
    seen: set[str] = set()
    charged: set[tuple[str, str]] = set()
    expected = []
    for one in deliveries:
        event = one.event
        if event.id in seen:
            continue
        seen.add(event.id)
        key = (event.org_id, event.subject)
        if getattr(event.data, "status", "") == "failed" or key in charged:
            result = "credits.deduction_skipped"
        elif balance[event.org_id] == 0:
            result = "credits.deduction_failed"
        else:
            result = "credits.deducted"
            charged.add(key)
            balance[event.org_id] -= 1
        expected.append((event.id, result))

    while deliveries:
        size = chance.randint(1, 25)
        await ingest(database, *deliveries[:size])
        deliveries = deliveries[size:]
    outcomes = await outcomes_of(database)
    for org in orgs:
        of_org = [(one["causationid"], one["type"]) for one in outcomes if one["subject"] == org]
        ids = {one.event.id for one in events if one.event.org_id == org}
        assert of_org == [pair for pair in expected if pair[0] in ids]
    async with database.reading() as tx:
        verification = await ledger.verify(tx)
    assert verification.ok, verification.problems
    assert {org: (await state_of(database, org)).balance for org in orgs} == balance


@pytest.mark.parametrize("size", [1, 200])
async def test_the_statements_of_a_batch_do_not_grow_with_it(database: Database, size: int) -> None:
    for n in range(5):
        await activate(database, org=f"org{n}", credits_=100)
    batch = [job(f"j{n}", org=f"org{n % 5}") for n in range(size)]
    statements: list[str] = []

    def count(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.split(None, 1)[0].upper() in {"SELECT", "INSERT", "UPDATE", "WITH", "DELETE"}:
            statements.append(statement)

    sqlalchemy_event.listen(Engine, "before_cursor_execute", count)
    try:
        await ingest(database, *batch)
    finally:
        sqlalchemy_event.remove(Engine, "before_cursor_execute", count)
    most = 7 if database.dialect == "postgresql" else 9
    assert len(statements) <= most, statements


async def test_a_long_batch_is_written_in_parts_and_stands_whole(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "JUDGED_PER_TURN", 50)
    monkeypatch.setattr(batch, "WRITE_AT", 100)
    await activate(database, org="acme", credits_=10_000)
    await activate(database, org="other", credits_=10_000)

    applied = await ingest(database, *(job(f"j{n}", org=["acme", "other"][n % 2]) for n in range(1_030)))

    assert applied.outcomes == {OutcomeType.CREDITS_DEDUCTED: 1_030}
    told = await outcomes_of(database)
    for org in ("acme", "other"):
        sequences = [one["data"]["sequence"] for one in told if one["subject"] == org]
        assert sequences == list(range(1, 516))
    async with database.reading() as tx:
        assert (await ledger.verify(tx)).ok


@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_write_of_a_part_that_fails_leaves_nothing_of_the_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    await activate(database, org="acme", credits_=10_000)
    monkeypatch.setattr(batch, "JUDGED_PER_TURN", 50)
    monkeypatch.setattr(batch, "WRITE_AT", 50)
    write, calls = judgements.write, 0

    async def failing(tx: AsyncConnection, **judged: Any) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == at:
            raise ZeroDivisionError
        return await write(tx, **judged)

    monkeypatch.setattr(judgements, "write", failing)
    with pytest.raises(ZeroDivisionError):
        await ingest(database, *(job(f"j{n}") for n in range(130)))
    monkeypatch.setattr(judgements, "write", write)

    assert await outcomes_of(database) == []
    assert (await state_of(database, "acme")).charges == 0
    applied = await ingest(database, *(job(f"j{n}") for n in range(130)))
    assert applied.outcomes == {OutcomeType.CREDITS_DEDUCTED: 130}
