import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from storage import organizations
from storage.database import Database, DatabaseUnavailable
from storage.lost_sessions import end_lost_sessions
from tests.faults.tcp_proxy import wire_to
from tests.integration.storage.rows import put_org


async def test_nobody_who_is_at_work_or_idle_is_lost(database: Database) -> None:
    async with database.transaction() as other, database.reading() as tx:
        await put_org(other, "org")
        assert await end_lost_sessions(tx, lost_after=timedelta(0)) == 0
    await database.ping()


@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_a_session_lost_between_the_parts_of_a_statement_is_ended_with_its_locks(
    database: Database, database_url: str, dialect: str
) -> None:
    async with database.transaction() as tx:
        await put_org(tx, "org", balance=1)
    async with wire_to(database_url) as (wire, through):
        lost = await Database.connect(through, command_timeout=1)

        async def lose() -> None:
            async with lost.transaction() as tx:
                await organizations.lock(tx, ["org"])
                # The driver prepares a statement first and then sends what it is to be executed with.
                parse = b"\0SELECT 1\0\0\0"
                driver = (await tx.get_raw_connection()).driver_connection
                driver._transport.write(b"P" + (len(parse) + 4).to_bytes(4, "big") + parse)
                await server_waits_for_the_rest(database)
                await wire.lose()
                await organizations.lock(tx, ["org"])

        with pytest.raises(DatabaseUnavailable):
            await lose()
        async with database.reading() as tx:
            assert await end_lost_sessions(tx) == 0
            assert await end_lost_sessions(tx, lost_after=timedelta(0)) == 1
        async with asyncio.timeout(20), database.transaction() as tx:
            await organizations.lock(tx, ["org"])
        await lost.close()


async def server_waits_for_the_rest(database: Database) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND state = 'active' AND wait_event = 'ClientRead'"
    )
    while True:
        async with database.reading() as tx:
            if await tx.scalar(waiting):
                return
        await asyncio.sleep(0.01)  # between two looks at another process
