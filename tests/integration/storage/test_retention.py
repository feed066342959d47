from datetime import timedelta
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from storage import dead_letters, inbox, ledger, outbox, outcomes, retention
from storage.database import Database
from storage.dead_letters import Wanted
from storage.inbox import InboxState, WaitReason
from storage.leases import acquire, held_scopes
from storage.outbox import SHARDS
from tests.integration.storage.rows import NOON, after, entry, event, letter, outcome, put_org

ALL = range(SHARDS)


async def publish_all(tx: AsyncConnection) -> None:
    await outbox.acknowledge(tx, [record.outbox_id for record in await outbox.pending(tx, ALL)])


async def test_what_is_old_and_published_goes_oldest_first(database: Database) -> None:
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, [outcome(decided_at=after(second)) for second in range(5)])
        await outbox.append_dead_letters(tx, [letter(1), letter(2, dead_lettered_at=after(9))])
        await publish_all(tx)

    async with database.transaction() as tx:
        assert await retention.prune(tx, NOON, 10) == 0
        assert await retention.prune(tx, after(3), 2) == 2
        assert [one.decided_at for one in await outcomes.page(tx)] == [after(2), after(3), after(4)]
        assert await retention.prune(tx, after(3), 10) == 2
        assert [one.decided_at for one in await outcomes.page(tx)] == [after(3), after(4)]
        assert [one.offset for one in await dead_letters.page(tx, Wanted())] == [2]


async def test_what_is_still_to_be_published_stays(database: Database) -> None:
    async with database.transaction() as tx:
        await outbox.append_outcomes(tx, [outcome(), outcome()])
        await outbox.append_dead_letters(tx, [letter()])
        first = (await outbox.pending(tx, ALL))[0]
        await outbox.acknowledge(tx, [first.outbox_id])
        assert await retention.prune(tx, after(1), 10) == 1
        assert len(await outbox.pending(tx, ALL)) == 2
        await publish_all(tx)
        assert await retention.prune(tx, after(1), 10) == 2


async def test_guarantee_9_the_ledger_and_failed_events_stay(database: Database) -> None:
    failed = event(state=InboxState.FAILED, reason=WaitReason.FAILED)
    async with database.transaction() as tx:
        state = await put_org(tx)
        await ledger.append(tx, [entry(state, 5)])
        await inbox.add(tx, [failed])
        assert await retention.prune(tx, after(10**9), 100) == 0
        assert len(await ledger.entries_of(tx, "acme")) == 1
        assert await inbox.of_identity(tx, failed.identity) is not None


async def test_leases_long_run_out_go_too(tx: AsyncConnection) -> None:
    await acquire(tx, "email:x", ttl=timedelta(seconds=60), token=uuid4(), now=NOON)
    assert await retention.prune(tx, after(60), 10) == 0
    assert await retention.prune(tx, after(61), 10) == 1
    assert await held_scopes(tx, ["email:x"], NOON) == set()
