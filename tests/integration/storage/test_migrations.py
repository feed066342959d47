import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import ledger
from storage.database import Database
from storage.migrations import NEWEST, applying, current_revision, is_current, migrate, revision_of
from storage.tables import metadata
from tests.integration.storage.rows import booked, entry, put_org


async def test_an_empty_database_is_behind_until_migrated(empty_database_url: str) -> None:
    database = await Database.connect(empty_database_url)
    assert await current_revision(database) is None
    assert not await is_current(database)

    await migrate(database)

    assert await current_revision(database) == NEWEST
    assert await is_current(database)
    await database.close()


def test_the_newest_version_is_the_last_of_the_scripts() -> None:
    assert ScriptDirectory.from_config(applying.config()).get_current_head() == NEWEST


async def test_an_older_version_is_behind_until_migrated(empty_database_url: str) -> None:
    database = await Database.connect(empty_database_url)
    async with database.transaction() as tx:
        await tx.run_sync(applying.upgrade, "0001")
        # As the transaction sees it, and it goes on.
        assert await revision_of(tx) == "0001"
    assert not await is_current(database)

    await migrate(database)

    assert await is_current(database)
    await database.close()


async def test_to_look_for_the_version_leaves_a_transaction_as_it_was(empty_database_url: str) -> None:
    database = await Database.connect(empty_database_url)
    async with database.transaction() as tx:
        assert await revision_of(tx) is None
        assert await tx.scalar(text("SELECT 1")) == 1
    await database.close()


async def test_nothing_is_applied_where_nothing_is_lacking(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upgrade(_connection: Connection) -> None:
        raise AssertionError("the database is up to date")

    monkeypatch.setattr(applying, "upgrade", upgrade)
    await migrate(database)
    assert await is_current(database)


async def test_of_several_instances_one_migrates_and_the_others_wait(empty_database_url: str) -> None:
    instances = [await Database.connect(empty_database_url) for _ in range(3)]
    await asyncio.gather(*map(migrate, instances))
    assert all([await is_current(instance) for instance in instances])
    for instance in instances:
        await instance.close()


async def test_the_migrations_make_what_the_tables_say(tx: AsyncConnection, dialect: str) -> None:
    # SQLite has no identity columns: it shows theirs as a difference of defaults.
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": dialect == "postgresql"}
        )
        return list(compare_metadata(context, metadata))

    assert await tx.run_sync(differences) == []


async def test_every_check_constraint_is_there(tx: AsyncConnection) -> None:
    def checks(connection: Connection) -> dict[str, set[str | None]]:
        found = inspect(connection).get_multi_check_constraints()
        return {table: {check["name"] for check in listed} for (_, table), listed in found.items()}

    there = await tx.run_sync(checks)
    for table in metadata.sorted_tables:
        said = {str(one.name) for one in table.constraints if isinstance(one, CheckConstraint)}
        assert there.get(table.name, set()) == said


@pytest.mark.parametrize(
    "change",
    ["UPDATE ledger_entries SET credits = 5", "DELETE FROM ledger_entries", "TRUNCATE ledger_entries"],
)
async def test_the_ledger_refuses_to_be_changed(database: Database, change: str) -> None:
    if change.startswith("TRUNCATE") and database.dialect == "sqlite":
        change = "DELETE FROM ledger_entries WHERE true"
    async with database.transaction() as tx:
        state = await put_org(tx)
        made = entry(state, 7)
        await ledger.append(tx, [made])
        await put_org(tx, **{name: getattr(booked(state, made), name) for name in ("balance", "entries")})

    with pytest.raises(DBAPIError, match="append-only"):
        async with database.transaction() as tx:
            await tx.execute(text(change))

    async with database.reading() as tx:
        assert await ledger.entries_of(tx, "acme") == [made]
