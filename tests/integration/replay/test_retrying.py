"""Another round for failed events, and who waits for whom then."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest.drain import drain_organization
from consumer.replay.retrying import Retried, retry_failed, would_retry
from consumer.replay.stored import StoredSelection
from consumer.replay.waiting import wait_until_decided
from schemas.events import EventType
from schemas.outcomes import Origin
from storage import inbox, organizations
from storage.database import Database
from storage.inbox import InboxRow, InboxState, WaitReason
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
    outcomes_of,
    state_of,
)

ALL = StoredSelection()
WAIT = timedelta(seconds=60)


async def fail(database: Database, *, reason: str = "litellm_rejected") -> None:
    """Let whatever needs LiteLLM fail, as provisioning would."""

    async def work(tx: AsyncConnection) -> None:
        for row in await inbox_rows(database):
            kept = await inbox.get(tx, row.inbox_id)
            assert kept is not None
            if kept.type is EventType.JOB_COMPLETED or kept.state is InboxState.FAILED:
                continue
            failure = f'{{"step":"team","error_code":"{reason}","message":"no"}}'
            await inbox.fail(tx, replace(kept, failure=failure))
            if kept.type is EventType.ORG_CREATED:
                state = (await organizations.lock(tx, [kept.org_id]))[kept.org_id]
                await organizations.save(tx, [state._replace(status=OrgStatus.FAILED, failed_at=NOW)])
                await inbox.start_dependents_wait(tx, kept.org_id, NOW + WAIT)

    await database.run(work)


async def retry(database: Database, selection: StoredSelection = ALL, reasons: Iterable[str] = ()) -> Retried:
    return await retry_failed(
        database,
        selection,
        frozenset(reasons),
        dependency_wait=WAIT,
        rate=None,
        stop=asyncio.Event(),
        on_progress=lambda _: None,
    )


async def rows(database: Database) -> dict[str, InboxRow]:
    found = {}
    async with database.reading() as tx:
        for one in await inbox_rows(database):
            row = await inbox.get(tx, one.inbox_id)
            assert row is not None
            found[f"{row.type}:{row.subject}"] = row
    return found


async def test_a_failed_organization_has_its_turn_and_its_dependents_wait_for_it(database: Database) -> None:
    await ingest(database, founded(), job("a"))
    await fail(database)
    assert (await rows(database))["job.completed:a"].due_at is not None

    assert (await retry(database)).types == {"org.created": 1}
    stand = await rows(database)
    org = stand["org.created:"]
    assert (org.state, org.round, org.origin, org.reason) == ("waiting", 2, Origin.RETRY, WaitReason.TURN)
    assert (org.attempts, org.first_try_at, org.failure) == (0, None, None)
    assert stand["job.completed:a"].due_at is None
    assert (await state_of(database)).status is OrgStatus.PROVISIONING
    # Once more there is nothing to do.
    assert (await retry(database)).total == 0


async def test_a_failed_user_waits_for_an_organization_that_is_not_active(database: Database) -> None:
    await ingest(database, founded(), joined("bob"))
    await fail(database)
    opened = await retry(database, reasons={"litellm_rejected"})
    assert opened.types == {"org.created": 1, "user.joined": 1}
    bob = (await rows(database))["user.joined:bob"]
    assert (bob.reason, bob.due_at, bob.round) == (WaitReason.ORGANIZATION, None, 2)


async def test_a_failed_user_of_an_organization_nobody_creates_gets_its_whole_wait_again(
    database: Database,
) -> None:
    await ingest(database, joined("bob"))
    await fail(database, reason="org_not_found")
    await retry(database)
    bob = (await rows(database))["user.joined:bob"]
    assert bob.reason is WaitReason.ORGANIZATION
    assert bob.due_at is not None
    assert bob.due_at > NOW + WAIT


async def test_refused_charges_only_where_their_reason_is_named(database: Database) -> None:
    await activate(database, credits_=1)
    await ingest(database, job("a"), job("b"), job("c"))
    assert (await would_retry(database, ALL, frozenset())).total == 0
    assert (await retry(database)).total == 0
    assert (await retry(database, reasons={"org_not_found"})).total == 0

    async def more(tx: AsyncConnection) -> None:
        state = (await organizations.lock(tx, ["acme"]))["acme"]
        await organizations.save(tx, [state._replace(balance=1)])

    await database.run(more)
    assert (await retry(database, reasons={"insufficient_credits"})).reasons == {"insufficient_credits": 2}
    assert (await state_of(database)).waiting_jobs == 2

    async def drain(tx: AsyncConnection) -> Any:
        return await drain_organization(tx, "acme", policy=POLICY, now=NOW)

    await database.run(drain)
    assert (await state_of(database)).waiting_jobs == 0
    decided = [
        (one["data"]["job_id"], one["type"], one["round"], one["origin"])
        for one in await outcomes_of(database)
    ]
    assert decided == [
        ("a", "credits.deducted", 1, "live"),
        ("b", "credits.deduction_failed", 1, "live"),
        ("c", "credits.deduction_failed", 1, "live"),
        ("b", "credits.deducted", 2, "retry"),
        ("c", "credits.deduction_failed", 2, "retry"),
    ]
    ids = [one["id"] for one in await outcomes_of(database)]
    assert len(set(ids)) == len(ids)
    # What failed once more may have yet another round.
    assert (await retry(database, reasons={"insufficient_credits"})).total == 1


@pytest.mark.parametrize(
    ("selection", "users"),
    [
        (StoredSelection(orgs=frozenset({"acme"})), {"ann", "bob"}),
        (StoredSelection(event_ids=frozenset({"u-acme-bob"})), {"bob"}),
        (StoredSelection(event_ids=frozenset({"u-acme-bob"}), sources=frozenset({"/platform"})), {"bob"}),
        (StoredSelection(event_ids=frozenset({"u-acme-bob"}), sources=frozenset({"/else"})), set()),
        (StoredSelection(sources=frozenset({"/platform"}), orgs=frozenset({"other"})), {"eve"}),
        (StoredSelection(begin=NOW), {"ann", "bob", "eve"}),
        (StoredSelection(end=NOW), set()),
    ],
)
async def test_only_those_asked_for(database: Database, selection: StoredSelection, users: set[str]) -> None:
    await ingest(database, joined("ann"), joined("bob"), joined("eve", org="other"))
    await fail(database)
    assert (await would_retry(database, selection, frozenset())).total == len(users)
    await retry(database, selection)
    opened = {row.subject for row in (await rows(database)).values() if row.state is InboxState.WAITING}
    assert opened == users


async def test_two_operators_at_once_give_one_round(database: Database) -> None:
    await ingest(database, *(joined(f"u{n}") for n in range(20)))
    await fail(database)
    opened = await asyncio.gather(retry(database), retry(database))
    assert sum(one.total for one in opened) == 20
    assert {row.round for row in (await rows(database)).values()} == {2}


async def test_waiting_ends_when_nothing_of_the_kind_waits(database: Database) -> None:
    await ingest(database, joined("bob"))
    await fail(database)
    await retry(database)
    looks: list[int] = []
    looked = asyncio.Event()

    async def decide() -> None:
        async with database.transaction() as tx:
            await inbox.remove(tx, [row.inbox_id for row in (await inbox.failed_rows(tx))])
            for row in await inbox.waiting_of(tx, "acme"):
                await inbox.remove(tx, [row.inbox_id])

    def told(waiting: Any) -> None:
        looks.append(sum(waiting.values()))
        looked.set()

    ended = asyncio.ensure_future(
        wait_until_decided(database, Origin.RETRY, stop=asyncio.Event(), on_progress=told, look_every_s=0.01)
    )
    await looked.wait()
    await decide()
    assert await ended == 0
    assert looks[0] == 1
    stop = asyncio.Event()
    stop.set()
    assert await wait_until_decided(database, Origin.REPLAY, stop=stop, on_progress=told) == 0
