"""What an operator looks at: found in pages, and without walking what it is not about."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.events import EventType
from schemas.outcomes import OutcomeType
from schemas.transactions import charge_id
from storage import inbox, ledger, organizations, outbox, outcomes
from storage.database import Database
from storage.inbox import FailedSummary, InboxState, NewInboxRow, WaitReason
from storage.organizations import OrgState, OrgStatus
from tests.integration.storage.rows import (
    NOON,
    after,
    booked,
    entry,
    event,
    job_event,
    org_event,
    outcome,
    put_org,
)

Explain = Callable[[AsyncConnection, Callable[[], Awaitable[object]]], Awaitable[str]]


def failed(row: NewInboxRow, failure: str | None = None) -> NewInboxRow:
    return replace(row, state=InboxState.FAILED, reason=WaitReason.FAILED, due_at=None, failure=failure)


async def test_what_waits_comes_in_pages_jobs_and_others_mixed(tx: AsyncConnection) -> None:
    rows = [job_event(), event(), org_event(), event(), job_event(job_id="j-2"), event(subject="u-2")]
    await inbox.add(tx, [*rows, event("other"), failed(event(subject="u-9"))])
    found = await inbox.waiting_of(tx, "acme")
    assert [row.identity for row in found] == [row.identity for row in rows]
    pages = []
    last = 0
    while page := await inbox.waiting_of(tx, "acme", after=last, limit=2):
        pages.append(page)
        last = page[-1].inbox_id
    assert [len(page) for page in pages] == [2, 2, 2]
    assert [row for page in pages for row in page] == found
    assert await inbox.count_waiting(tx, "acme") == 6
    assert await inbox.count_waiting(tx, "nobody") == 0


async def test_failures_are_told_together_where_they_are_alike(tx: AsyncConnection) -> None:
    await inbox.add(
        tx,
        [
            failed(job_event(job_id="a"), "{1}"),
            failed(job_event(job_id="b", stored_at=after(-5)), "{1}"),
            failed(job_event(job_id="c"), "{2}"),
            failed(event(), "{3}"),
            failed(org_event(), "{4}"),
            failed(event("other"), "{1}"),
            job_event(job_id="d"),
        ],
    )
    assert await inbox.failures_of(tx, "acme") == [
        FailedSummary(EventType.ORG_CREATED, "{4}", 1, NOON),
        FailedSummary(EventType.JOB_COMPLETED, "{1}", 2, after(-5)),
        FailedSummary(EventType.JOB_COMPLETED, "{2}", 1, NOON),
        FailedSummary(EventType.USER_JOINED, "{3}", 1, NOON),
    ]
    assert len(await inbox.failures_of(tx, "acme", limit=2)) == 2
    assert await inbox.failures_of(tx, "nobody") == []


async def test_a_job_is_found_waiting_or_failed(tx: AsyncConnection) -> None:
    rows = [
        job_event(),
        failed(job_event()),
        job_event(job_id="j-2"),
        job_event("other"),
        event(subject="j-1"),
    ]
    await inbox.add(tx, rows)
    found = await inbox.of_job(tx, "acme", "j-1")
    assert [row.identity for row in found] == [rows[0].identity, rows[1].identity]
    assert await inbox.of_job(tx, "acme", "j-1", limit=1) == found[:1]
    assert await inbox.of_job(tx, "acme", "j-3") == []


async def test_entries_are_found_by_time_too(tx: AsyncConnection) -> None:
    state = await put_org(tx)
    made = []
    for number in range(6):
        made.append(entry(state, 1, created_at=after(number)))
        state = booked(state, made[-1])
    await ledger.append(tx, made)
    assert await ledger.entries_of(tx, "acme", since=after(2)) == made[2:]
    assert await ledger.entries_of(tx, "acme", until=after(2)) == made[:2]
    assert await ledger.entries_of(tx, "acme", 3, 1, since=after(1), until=after(5)) == [made[3]]


async def test_entries_of_all_organizations_come_in_pages(tx: AsyncConnection) -> None:
    made = []
    for name in ("Z", "a", "ö"):
        state = await put_org(tx, name)
        for number in range(3):
            made.append(entry(state, 1, created_at=after(number)))
            state = booked(state, made[-1])
    await ledger.append(tx, made)
    pages = []
    place = ("", 0)
    while page := await ledger.entries_of_all(tx, after=place, limit=4):
        pages += page
        assert len(page) <= 4
        place = (page[-1].org_id, page[-1].entry)
    assert pages == made
    in_between = await ledger.entries_of_all(tx, limit=9, since=after(1), until=after(2))
    assert in_between == [one for one in made if one.entry == 2]


async def test_the_outcome_that_told_of_a_charge(tx: AsyncConnection) -> None:
    keys = [charge_id("acme", job) for job in "abc"]
    told = [
        outcome(job_key=keys[0]),
        outcome(job_key=keys[0], type=OutcomeType.CREDITS_DEDUCTION_SKIPPED),
        outcome(job_key=keys[1], type=OutcomeType.CREDITS_DEDUCTION_FAILED),
        outcome(job_key=keys[2]),
        outcome(),
    ]
    await outbox.append_outcomes(tx, told)
    found = await outcomes.of_charges(tx, keys[:2])
    assert {key: one.outcome_id for key, one in found.items()} == {keys[0]: told[0].id}
    assert await outcomes.of_charges(tx, []) == {}


async def test_outcomes_of_a_job_come_in_pages(tx: AsyncConnection) -> None:
    key = charge_id("acme", "a")
    told = [outcome(job_key=key) for _ in range(5)]
    await outbox.append_outcomes(tx, told)
    first = await outcomes.of_job(tx, "acme", key, limit=3)
    rest = await outcomes.of_job(tx, "acme", key, after=first[-1].outcome_seq, limit=3)
    assert [one.outcome_id for one in [*first, *rest]] == [one.id for one in told]


async def test_organizations_come_by_id_in_pages(tx: AsyncConnection) -> None:
    for name, status in (("b", OrgStatus.FAILED), ("ö", OrgStatus.ACTIVE), ("a", OrgStatus.ACTIVE)):
        await put_org(tx, name, status=status)
    await organizations.lock(tx, ["A"])
    everything = await organizations.page(tx)
    assert [one.org_id for one in everything] == ["A", "a", "b", "ö"]
    assert everything[0] == OrgState("A")
    assert await organizations.page(tx, after="a", limit=1) == everything[2:3]
    assert await organizations.page(tx, status=OrgStatus.ACTIVE) == [everything[1], everything[3]]


@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_a_look_walks_only_what_it_is_about(database: Database, explain: Explain) -> None:
    async with database.transaction() as tx:
        await inbox.add(tx, [job_event(job_id=f"j-{number}") for number in range(3_000)])
        await inbox.add(tx, [failed(job_event("other", f"j-{number}")) for number in range(3_000)])
        await inbox.add(tx, [failed(job_event("few"))])
        keys = [charge_id("acme", f"j-{number}") for number in range(3_000)]
        await outbox.append_outcomes(tx, [outcome(job_key=key) for key in keys])
    async with database.transaction() as tx:
        await tx.execute(text("ANALYZE"))
    async with database.reading() as tx:
        plans = {
            "job": await explain(tx, lambda: inbox.of_job(tx, "acme", "j-7")),
            "waiting": await explain(tx, lambda: inbox.waiting_of(tx, "acme", after=50, limit=20)),
            "failures": await explain(tx, lambda: inbox.failures_of(tx, "few")),
            "charges": await explain(tx, lambda: outcomes.of_charges(tx, keys[:20])),
        }
    assert not [name for name, plan in plans.items() if "Seq Scan" in plan]
    assert "ix_inbox_job" in plans["job"]
    assert "ix_inbox_org_failed" in plans["failures"]


@pytest.mark.parametrize("dialect", ["sqlite"])
async def test_sqlite_finds_a_job_by_its_index(database: Database) -> None:
    async with database.reading() as tx:
        plan = await tx.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT inbox_id FROM inbox"
            " WHERE type = 'job.completed' AND org_id = 'a' AND subject = 'j' ORDER BY inbox_id"
        )
        assert "ix_inbox_job" in str(plan.all())
