"""Jobs that waited for their organization: who is judged when, and that waiting changes nothing else."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest import drain as drain_module
from consumer.ingest.drain import ORGANIZATIONS_PER_PASS, Drain, drain_organization
from consumer.ingest.records import LARGE
from schemas.outcomes import Origin, OutcomeType
from storage import ledger, organizations, tables
from storage.database import Database, DatabaseUnavailable
from storage.ledger import LedgerEntry
from storage.organizations import OrgStatus
from tests.integration.consumer.ingest.events import (
    NOW,
    POLICY,
    activate,
    founded,
    inbox_rows,
    ingest,
    job,
    outcomes_of,
    received,
    record,
    state_of,
)

OVER = NOW + POLICY.dependency_wait


async def drain(
    database: Database, org: str = "acme", *, now: datetime = NOW, limit: int = 500
) -> Counter[OutcomeType]:
    async def work(tx: AsyncConnection) -> Counter[OutcomeType]:
        return await drain_organization(tx, org, policy=POLICY, now=now, limit=limit)

    return await database.run(work)


async def put_status(database: Database, status: OrgStatus, org: str = "acme") -> None:
    async def work(tx: AsyncConnection) -> None:
        state = (await organizations.lock(tx, [org]))[org]
        await organizations.save(tx, [state._replace(status=status)])

    await database.run(work)


async def entries_of(database: Database, org: str = "acme") -> list[LedgerEntry]:
    async with database.reading() as tx:
        return await ledger.entries_of(tx, org)


@pytest.mark.parametrize("now", [NOW, OVER + timedelta(days=1)])
async def test_guarantee_4_while_its_organization_is_provisioned_no_job_ends(
    database: Database, now: datetime
) -> None:
    await ingest(database, job("a"), job("b"))
    await put_status(database, OrgStatus.PROVISIONING)

    assert await drain(database, now=now) == Counter()

    assert len(await inbox_rows(database)) == 2
    assert await outcomes_of(database) == []


@pytest.mark.parametrize(
    ("status", "reason"), [(OrgStatus.UNKNOWN, "org_not_found"), (OrgStatus.FAILED, "org_not_active")]
)
async def test_guarantee_4_without_an_active_organization_a_job_ends_when_its_wait_is_over_and_not_before(
    database: Database, status: OrgStatus, reason: str
) -> None:
    await ingest(database, job("a"), job("b", status="failed"))
    await ingest(database, job("c"), now=NOW + timedelta(seconds=1))
    await put_status(database, status)

    assert await drain(database, now=OVER - timedelta(seconds=1)) == Counter()
    assert await drain(database, now=OVER, limit=1) == Counter({"credits.deduction_failed": 1})
    assert await drain(database, now=OVER, limit=9) == Counter({"credits.deduction_failed": 1})

    outcomes = [one["data"] for one in await outcomes_of(database)]
    assert [(one["job_id"], one["reason"], one["required"], one["available"]) for one in outcomes] == [
        ("a", reason, 1, None),
        ("b", reason, 0, None),
    ]
    assert (await state_of(database)).waiting_jobs == 1
    assert [row.state for row in await inbox_rows(database)] == ["waiting", "failed", "failed"]


async def test_guarantee_4_jobs_are_judged_in_the_order_received_a_bounded_number_at_a_time(
    database: Database,
) -> None:
    names = ["c", "a", "d", "b", "e"]
    for name in names:
        await ingest(database, job(name))
    await activate(database)

    counts = [await drain(database, limit=2) for _ in range(4)]

    assert counts == [Counter({"credits.deducted": number}) for number in (2, 2, 1)] + [Counter()]
    outcomes = await outcomes_of(database)
    assert [one["data"]["job_id"] for one in outcomes] == names
    assert [one["data"]["sequence"] for one in outcomes] == [1, 2, 3, 4, 5]
    assert (await state_of(database)).waiting_jobs == 0
    assert await inbox_rows(database) == []


async def test_the_event_loop_gets_its_turn_after_every_large_event(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pad = "x" * LARGE
    data = {"org_id": "acme", "job_id": "a", "status": "completed"}
    for number in range(2):
        large = record("job.completed", data | {"job_id": f"{number}", "pad": pad}, id_=f"{number}")
        await ingest(database, received(large), job(f"small-{number}"))
    await activate(database)
    turns: list[float] = []

    async def turn(seconds: float) -> None:
        turns.append(seconds)

    monkeypatch.setattr(drain_module.asyncio, "sleep", turn)
    assert await drain(database) == Counter({"credits.deducted": 4})
    assert turns == [0, 0]


async def retry(database: Database, org: str = "acme") -> None:
    """Give an organization's refused jobs another round."""

    async def work(tx: AsyncConnection) -> None:
        [state] = (await organizations.lock(tx, [org])).values()
        again = update(tables.inbox).where(tables.inbox.c.state == "failed")
        await tx.execute(again.values(state="waiting", reason="turn", origin="retry", round=2, due_at=NOW))
        await organizations.save(tx, [state._replace(waiting_jobs=1)])

    await database.run(work)


async def test_guarantee_2_a_job_that_waits_twice_is_charged_once(database: Database) -> None:
    await ingest(database, job("a", id_="1"), job("a", id_="2"), job("b", id_="3"))
    await activate(database)

    await drain(database)

    reasons = [one["data"].get("reason") for one in await outcomes_of(database)]
    assert reasons == [None, "job_already_charged", None]
    assert (await state_of(database)).balance == 8


async def test_guarantee_2_a_job_that_another_event_had_charged_meanwhile_is_charged_once(
    database: Database,
) -> None:
    await ingest(database, job("a", id_="1"))
    await drain(database, now=OVER)
    await activate(database)
    await ingest(database, job("a", id_="2"))
    await retry(database)

    await drain(database)

    reasons = [one["data"].get("reason") for one in await outcomes_of(database)]
    assert reasons == ["org_not_found", None, "job_already_charged"]
    assert (await state_of(database)).balance == 9


async def test_a_refused_job_keeps_how_and_when_it_came_for_another_round(database: Database) -> None:
    await ingest(database, job("a"), origin=Origin.REPLAY)
    await activate(database, credits_=0)

    await drain(database, now=OVER)

    [outcome] = await outcomes_of(database)
    assert (outcome["origin"], outcome["round"], outcome["data"]["reason"]) == (
        "replay",
        1,
        "insufficient_credits",
    )
    [row] = await inbox_rows(database)
    assert (row.state, row.reason, row.origin, row.round, row.stored_at) == (
        "failed",
        "failed",
        "replay",
        1,
        NOW,
    )
    assert row.failure == '{"step":"charge","error_code":"insufficient_credits"}'
    assert (row.subject, row.type, row.due_at) == ("a", "job.completed", None)


async def test_another_round_is_judged_and_told_as_such(database: Database) -> None:
    await ingest(database, job("a"))
    await activate(database, credits_=0)
    await drain(database)
    [failed] = await inbox_rows(database)

    await retry(database)
    await drain(database)

    first, second = await outcomes_of(database)
    assert (first["round"], second["round"], second["origin"]) == (1, 2, "retry")
    assert first["id"] != second["id"]
    [row] = await inbox_rows(database)
    assert (row.round, row.identity, row.stored_at) == (2, failed.identity, failed.stored_at)


@pytest.mark.parametrize("seed", range(3))
async def test_a_job_is_judged_alike_however_it_came(database: Database, seed: int) -> None:
    """The reference: the same jobs, of an organization that was active from the start."""
    chance = random.Random(seed)
    jobs = [
        (f"j{chance.randrange(9)}", chance.choice(["completed", "completed", "failed", "cancelled"]))
        for _ in range(25)
    ]
    told: dict[str, list[Mapping[str, Any]]] = {}
    for org in ("direct", "waited"):
        if org == "direct":
            await activate(database, org=org, credits_=5)
        for number, (name, status) in enumerate(jobs):
            await ingest(database, job(name, org=org, status=status, id_=f"{org}-{number}"))
        if org == "waited":
            await activate(database, org=org, credits_=5)
            while await drain(database, org, limit=chance.randint(1, 7)):
                pass
        told[org] = [
            {key: value for key, value in one["data"].items() if key not in {"org_id", "account_id"}}
            for one in await outcomes_of(database)
            if one["subject"] == org
        ]
    for outcomes in told.values():
        for outcome in outcomes:
            outcome.pop("transaction_id", None)  # type: ignore[attr-defined] # derived from the organization

    assert told["waited"] == told["direct"]
    assert len(told["waited"]) == 25
    direct, waited = [await entries_of(database, org) for org in ("direct", "waited")]
    assert [(one.entry, one.credits, one.balance_after, one.sequence, one.job_id) for one in waited] == [
        (one.entry, one.credits, one.balance_after, one.sequence, one.job_id) for one in direct
    ]
    async with database.reading() as tx:
        assert (await ledger.verify(tx)).problems == []


# -- the worker --


class Noted:
    """What a worker tells."""

    def __init__(self) -> None:
        self.outcomes_of_each: list[Mapping[str, int]] = []
        self.woken = 0

    def outcomes(self, counts: Mapping[str, int]) -> None:
        self.outcomes_of_each.append(counts)

    def on_outcomes(self) -> None:
        self.woken += 1


def worker(database: Database, noted: Any, **options: Any) -> Drain:
    async def clock(tx: AsyncConnection) -> datetime:
        assert tx.in_transaction(), "the database's clock, read where it is used"
        return OVER

    return Drain(database, POLICY, metrics=noted, on_outcomes=noted.on_outcomes, clock=clock, **options)


async def test_the_worker_serves_whoever_has_something_to_be_judged_and_tells_of_it(
    database: Database,
) -> None:
    await ingest(database, job("a", org="x"), job("b", org="x"), job("c", org="y"))
    await ingest(database, job("d", org="held"))
    await ingest(database, founded(org="held"))
    noted = Noted()
    drain_ = worker(database, noted)

    assert await drain_.drain_once()
    assert sorted(noted.outcomes_of_each, key=str) == [
        Counter({"credits.deduction_failed": 1}),
        Counter({"credits.deduction_failed": 2}),
    ]
    assert noted.woken == 2

    assert not await drain_.drain_once()
    assert noted.woken == 2


async def test_the_worker_takes_a_bounded_number_of_organizations_at_a_time(database: Database) -> None:
    await ingest(database, *(job("a", org=f"org{n}") for n in range(ORGANIZATIONS_PER_PASS + 1)))
    noted = Noted()
    drain_ = worker(database, noted)

    served = []
    while await drain_.drain_once():
        served.append(noted.woken)

    assert served == [ORGANIZATIONS_PER_PASS, ORGANIZATIONS_PER_PASS + 1]


@pytest.mark.parametrize("how", ["woken", "idle"])
async def test_the_worker_looks_again_when_woken_and_from_time_to_time(database: Database, how: str) -> None:
    noted = Noted()
    drain_ = worker(database, noted, idle=3600 if how == "woken" else 0.01)
    looked = asyncio.Event()
    once = drain_.drain_once

    async def look() -> bool:
        worked = await once()
        looked.set()
        return worked

    drain_.drain_once = look  # type: ignore[method-assign]
    stop = asyncio.Event()
    running = asyncio.ensure_future(drain_.run(stop))
    try:
        async with asyncio.timeout(20):
            await looked.wait()
            await ingest(database, job("a"))
            if how == "woken":
                drain_.wake()
            while not noted.woken:
                looked.clear()
                await looked.wait()
            stop.set()
            await running
    finally:
        running.cancel()
    assert [one["data"]["job_id"] for one in await outcomes_of(database)] == ["a"]


@pytest.mark.parametrize("away", [None, DatabaseUnavailable("away")], ids=["nothing to do", "away"])
async def test_the_worker_rests_until_woken_where_there_is_nothing_it_can_do(
    database: Database, away: Exception | None
) -> None:
    drain_ = worker(database, Noted(), idle=3600)
    looks = 0

    async def once() -> bool:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)
        if away is not None:
            raise away
        return False

    drain_.drain_once = once  # type: ignore[method-assign]
    stop = asyncio.Event()
    running = asyncio.ensure_future(drain_.run(stop))
    seen = []
    for _ in range(3):
        for _ in range(50):
            await asyncio.sleep(0)
        seen.append(looks)
        drain_.wake()
    stop.set()
    async with asyncio.timeout(20):
        await running
    assert seen == [1, 2, 3]


async def test_after_work_the_worker_looks_again_without_a_pause(database: Database) -> None:
    drain_ = worker(database, Noted(), idle=3600)
    stop = asyncio.Event()
    looks = 0

    async def once() -> bool:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)
        if looks == 3:
            stop.set()
        return looks < 3

    drain_.drain_once = once  # type: ignore[method-assign]
    async with asyncio.timeout(20):
        await drain_.run(stop)
    assert looks == 3


class Pauses:
    """In the place of what makes pauses longer: notes what it is told, and lets nobody look by itself."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.resting = asyncio.Event()

    def worked(self) -> None:
        self.told.append("worked")

    def pause_s(self) -> float:
        self.told.append("pause")
        self.resting.set()
        return 3600.0


@pytest.mark.parametrize("dialect", ["sqlite"])
async def test_the_workers_pauses_are_short_again_once_it_is_woken_and_once_it_found_something(
    database: Database,
) -> None:
    drain_ = worker(database, Noted())
    pauses = Pauses()
    drain_._idling = pauses  # type: ignore[assignment]
    stop = asyncio.Event()
    running = asyncio.ensure_future(drain_.run(stop))
    async with asyncio.timeout(20):
        await pauses.resting.wait()
        for job_id in (None, "a"):
            pauses.told.clear()
            pauses.resting.clear()
            if job_id is not None:
                await ingest(database, job(job_id))
            drain_.wake()
            await pauses.resting.wait()
            assert pauses.told == ["worked", *(["worked"] if job_id is not None else []), "pause"]
        stop.set()
        await running
