import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import database as database_module
from storage import organizations
from storage.database import (
    TRIES,
    Database,
    DatabaseUnavailable,
    DataRefused,
    TransactionConflict,
    database_now,
    parse_url,
)
from storage.organizations import OrgState
from tests.faults.tcp_proxy import wire_to
from tests.integration.storage.rows import put_org


async def test_a_transaction_is_kept_whole_or_not_at_all(database: Database) -> None:
    async with database.transaction() as tx:
        await put_org(tx, "kept", balance=1)

    async def fail(tx: AsyncConnection) -> None:
        await put_org(tx, "lost", balance=1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.run(fail)

    async with database.reading() as tx:
        assert set(await organizations.read(tx, ["kept", "lost"])) == {"kept"}


async def test_reading_is_one_snapshot_and_refuses_to_write(database: Database) -> None:
    async with database.reading() as tx:
        assert await organizations.read(tx, ["acme"]) == {}
        async with database.transaction() as other:
            await put_org(other, "acme")
        assert await organizations.read(tx, ["acme"]) == {}
    with pytest.raises(Exception, match=r"read-only|readonly"):
        async with database.reading() as tx:
            await tx.execute(text("INSERT INTO organizations (org_id) VALUES ('written')"))


async def test_each_look_sees_what_is_committed_by_then(database: Database) -> None:
    async with database.looking() as tx:
        assert await organizations.read(tx, ["acme"]) == {}
    async with database.transaction() as other:
        await put_org(other, "acme")
    async with database.looking() as tx:
        assert set(await organizations.read(tx, ["acme"])) == {"acme"}
    with contextlib.suppress(ZeroDivisionError):  # and leaves the connection as it was
        async with database.transaction() as tx:
            await put_org(tx, "lost")
            raise ZeroDivisionError
    async with database.looking() as tx:
        assert await organizations.read(tx, ["lost"]) == {}


async def test_writers_take_turns(database: Database) -> None:
    async with database.transaction() as tx:
        await put_org(tx, "acme")

    async def deposit(tx: AsyncConnection) -> None:
        state = (await organizations.lock(tx, ["acme"]))["acme"]
        await asyncio.sleep(0)
        await organizations.save(tx, [state._replace(balance=state.balance + 1)])

    await asyncio.gather(*(database.run(deposit) for _ in range(20)))
    async with database.reading() as tx:
        assert (await organizations.read(tx, ["acme"]))["acme"].balance == 20


async def test_text_that_cannot_be_encoded_is_refused(database: Database) -> None:
    with pytest.raises(DataRefused) as caught:
        async with database.transaction() as tx:
            await organizations.lock(tx, ["secretive \ud800"])
    assert "secretive" not in str(caught.value)


@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_text_that_postgresql_cannot_hold_is_refused(database: Database) -> None:
    with pytest.raises(DataRefused) as caught:
        async with database.transaction() as tx:
            await organizations.lock(tx, ["secretive \x00"])
    assert "secretive" not in str(caught.value)


async def test_a_number_out_of_range_is_refused(database: Database) -> None:
    async with database.transaction() as tx:
        state = await put_org(tx, "acme")
    with pytest.raises(DataRefused):
        async with database.transaction() as tx:
            await organizations.save(tx, [state._replace(balance=2**63)])


async def test_a_broken_constraint_of_ours_is_a_defect_not_bad_data(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await put_org(tx, "acme", balance=-1)


async def test_errors_do_not_show_what_was_stored(database: Database) -> None:
    with pytest.raises(IntegrityError) as caught:
        async with database.transaction() as tx:
            await put_org(tx, "a very private organization", balance=-1)
    assert "a very private organization" not in str(caught.value.statement)
    assert "SQL parameters hidden" in str(caught.value)


async def test_an_absent_server_is_unavailable_and_the_password_stays_hidden(unused_port: int) -> None:
    url = f"postgresql+asyncpg://user:hunter2@127.0.0.1:{unused_port}/none"
    with pytest.raises(DatabaseUnavailable) as caught:
        await Database.connect(url)
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__cause__ is None


async def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        await Database.connect(f"sqlite:///{tmp_path / 'missing' / 'file.db'}")


@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_a_connection_cut_in_the_middle_is_unavailable_and_the_next_one_works(
    database: Database,
) -> None:
    async def lose_the_connection(tx: AsyncConnection) -> None:
        own = await tx.scalar(text("SELECT pg_backend_pid()"))
        async with database.transaction() as other:
            await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": own})
        await put_org(tx, "lost")

    with pytest.raises(DatabaseUnavailable):
        await database.run(lose_the_connection)
    await database.ping()


@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_a_deadlock_is_resolved_by_doing_the_work_again(database: Database) -> None:
    async with database.transaction() as tx:
        await organizations.lock(tx, ["a", "b"])
    both_hold = asyncio.Barrier(2)
    begun: list[str] = []

    async def crosswise(tx: AsyncConnection, first: str, second: str) -> None:
        await organizations.lock(tx, [first])
        begun.append(first)
        if len(begun) <= 2:
            await both_hold.wait()
        held = await organizations.lock(tx, [first, second])
        await organizations.save(tx, [held[second]._replace(balance=held[second].balance + 1)])

    await asyncio.gather(
        database.run(lambda tx: crosswise(tx, "a", "b")), database.run(lambda tx: crosswise(tx, "b", "a"))
    )
    assert len(begun) == 3
    async with database.reading() as tx:
        states = await organizations.read(tx, ["a", "b"])
    assert [states["a"].balance, states["b"].balance] == [1, 1]


async def test_a_transaction_that_always_loses_is_given_up(database: Database) -> None:
    tried = 0

    async def lose(tx: AsyncConnection) -> None:
        nonlocal tried
        tried += 1
        await put_org(tx, "lost")
        raise TransactionConflict

    with pytest.raises(DatabaseUnavailable):
        await database.run(lose)
    assert tried == TRIES
    async with database.reading() as tx:
        assert await organizations.read(tx, ["lost"]) == {}


async def test_the_clock_is_in_utc_and_moves_on_within_a_transaction(database: Database) -> None:
    async with database.transaction() as tx:
        first = await database_now(tx)
        while await database_now(tx) == first:
            pass
    assert first.tzinfo is UTC
    assert abs(datetime.now(UTC) - first) < timedelta(minutes=1)


@pytest.mark.parametrize("dialect", ["sqlite"])
async def test_a_commit_on_sqlite_is_synced(database: Database) -> None:
    async with database.transaction() as tx:
        pragmas = {
            name: await tx.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


@pytest.mark.parametrize("dialect", ["sqlite"])
async def test_another_process_on_the_file_is_waited_for(database: Database, database_url: str) -> None:
    beside = await Database.connect(database_url)
    async with beside.transaction() as tx:
        await put_org(tx, "first")
        waiting = asyncio.create_task(database.run(lambda tx: put_org(tx, "second")))
        await asyncio.sleep(0)
    assert await waiting == OrgState("second")
    await beside.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://user:hunter2@host/db",
        "postgresql+psycopg://user:hunter2@host/db",
        "sqlite://",
        "sqlite+aiosqlite:///:memory:",
    ],
)
def test_a_url_of_no_use_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"the database URL|in-memory") as caught:
        parse_url(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "driver"),
    [("sqlite:///file.db", "sqlite+aiosqlite"), ("postgresql://host/db", "postgresql+asyncpg")],
)
def test_the_driver_may_be_left_out(url: str, driver: str) -> None:
    assert parse_url(url).drivername == driver


async def test_the_password_is_not_shown(database: Database) -> None:
    database.url = parse_url("postgresql://user:hunter2@host/db")
    assert "hunter2" not in repr(database)


@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_of_connections_that_went_dead_without_a_word_only_the_first_is_waited_for(
    database_url: str, dialect: str
) -> None:
    async with wire_to(database_url) as (wire, through):
        database = await Database.connect(through, pool_size=5, command_timeout=1)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(5):
                await stack.enter_async_context(database.reading())
        await wire.lose()
        with pytest.raises(DatabaseUnavailable, match="no answer in time"):
            await database.ping()
        await database.ping()
        await database.close()


@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_closing_waits_for_no_server_that_hangs(database_url: str, dialect: str) -> None:
    async with wire_to(database_url) as (wire, through):
        database = await Database.connect(through, pool_size=5)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(5):
                await stack.enter_async_context(database.reading())
        await wire.hang()
        async with asyncio.timeout(10):
            await database.close()


@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_a_transaction_on_a_connection_that_went_dead_keeps_its_locks_for_moments_only(
    database: Database, database_url: str, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_IDLE_IN_TRANSACTION_MS", "300")
    async with database.transaction() as tx:
        await put_org(tx, "org", balance=1)
    async with wire_to(database_url) as (wire, through):
        lost = await Database.connect(through, command_timeout=1)

        async def lose() -> None:
            async with lost.transaction() as tx:
                await organizations.lock(tx, ["org"])
                await wire.lose()
                await organizations.lock(tx, ["org"])

        with pytest.raises(DatabaseUnavailable):
            await lose()
        async with asyncio.timeout(20), database.transaction() as tx:
            await organizations.lock(tx, ["org"])
        await lost.close()
