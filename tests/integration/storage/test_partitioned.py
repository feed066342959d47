"""The tables cut into partitions by `deploy/partition.sql`, under the program as it is."""

from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from storage import ledger, outbox, retention
from storage.database import Database
from storage.migrations import is_current
from tests.integration.consumer.ingest.events import NOW, activate, ingest, job, outcomes_of, state_of
from tests.parts.databases import plain

SCRIPT = Path(__file__).parents[3] / "deploy" / "partition.sql"

pytestmark = pytest.mark.parametrize("dialect", ["postgresql"])


async def cut(database: Database) -> None:
    connection = await asyncpg.connect(plain(database.url))
    try:
        await connection.execute(SCRIPT.read_text())
    finally:
        await connection.close()


async def test_what_was_there_is_moved_and_what_comes_goes_on(database: Database) -> None:
    orgs = [f"org-{number}" for number in range(40)]
    for org in orgs:
        await activate(database, org=org, credits_=100)
    before = [job(f"before-{number}", org=org) for org in orgs for number in range(3)]
    await ingest(database, *before)
    told = await outcomes_of(database)

    await cut(database)

    assert await is_current(database)
    assert await outcomes_of(database) == told
    again = await ingest(database, *before)
    assert again.duplicates["job.completed"] == len(before)
    after = [job(f"after-{number}", org=org) for org in orgs for number in range(3)]
    applied = await ingest(
        database, *after, job("before-0", org=orgs[0], id_="another event of the same job")
    )
    assert applied.outcomes == {"credits.deducted": len(after), "credits.deduction_skipped": 1}
    assert (await state_of(database, orgs[0])).balance == 94
    outcomes = await outcomes_of(database)
    assert outcomes[: len(told)] == told
    assert len(outcomes) == len(before) + len(after) + 1
    async with database.reading() as tx:
        verification = await ledger.verify(tx)
        spread = await tx.execute(
            text(
                "SELECT count(DISTINCT tableoid) FROM identities "
                "UNION ALL SELECT count(DISTINCT tableoid) FROM ledger_entries"
            )
        )
        identities_in, entries_in = spread.scalars()
    assert verification.ok, verification.problems
    assert identities_in == 16
    assert entries_in > 8


async def test_the_ledger_stays_append_only_and_its_numbers_unique(database: Database) -> None:
    await activate(database, org="acme", credits_=100)
    await cut(database)
    await ingest(database, job("a"))
    for statement in (
        "UPDATE ledger_entries SET credits = 0",
        "DELETE FROM ledger_entries",
        "TRUNCATE ledger_entries",
        "INSERT INTO ledger_entries SELECT * FROM ledger_entries",
    ):
        with pytest.raises(DBAPIError):
            async with database.transaction() as tx:
                await tx.execute(text(statement))


async def test_outcomes_go_with_time_as_before(database: Database) -> None:
    await activate(database, org="acme", credits_=100)
    await cut(database)
    await ingest(database, job("a"), job("b"))
    async with database.transaction() as tx:
        rows = await outbox.pending(tx, list(range(outbox.SHARDS)))
        await outbox.acknowledge(tx, [row.outbox_id for row in rows])
        assert await retention.prune(tx, NOW + timedelta(days=1), 10) == 2


async def test_an_outcome_is_found_in_its_partition_alone(database: Database) -> None:
    await cut(database)
    async with database.reading() as tx:
        plan = await tx.execute(text("EXPLAIN SELECT value FROM outcomes WHERE outcome_seq = 60000000"))
        lines = "\n".join(plan.scalars())
    assert "outcomes_1 " in lines
    assert "outcomes_0 " not in lines
