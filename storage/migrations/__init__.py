"""The schema's versions, applied forward only.

Guarantee: a migration is one transaction with the note that it was applied, on both databases; of several
instances that migrate at once one does it and the others wait and find it done.

Whether a database is up to date is asked by every command, so that takes no library for migrations:
`storage.migrations.applying`, which does, is loaded where there is something to apply.
"""

import asyncio
from typing import Final

from sqlalchemy import column, func, inspect, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.bulk import on_postgresql
from storage.database import Database

NEWEST: Final = "0003"
"""The version that this code was written for: the last of those in `versions`."""

#: Alembic's own table; a database that was never migrated has none.
_NOTE: Final = table("alembic_version", column("version_num"))
#: Any number will do that nobody else locks in the same database: "quartermaster", cut to 63 bits.
_LOCK: Final = int.from_bytes(b"quarterm") >> 1
#: Seconds between looks at a lock that another instance holds.
_PAUSE: Final = 0.2


async def migrate(database: Database) -> None:
    """Bring the database to the newest version; nothing happens where it is there.

    Raises:
        DatabaseUnavailable: The connection failed.
    """
    while True:
        async with database.transaction() as tx:
            # Trying instead of waiting: a wait would run into the statement timeout while a long migration
            # runs.
            if not on_postgresql(tx) or await tx.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))):
                # Asked behind the lock: whoever held it before us may have done it.
                if await revision_of(tx) != NEWEST:
                    from storage.migrations import applying  # noqa: PLC0415 - rarely needed, slow to load

                    await tx.run_sync(applying.upgrade)
                return
        await asyncio.sleep(_PAUSE)


async def current_revision(database: Database) -> str | None:
    """The version the database is at; None where it has none."""
    async with database.reading() as tx:
        return await revision_of(tx)


async def revision_of(tx: AsyncConnection) -> str | None:
    """The version the database is at, as this transaction sees it."""
    # On PostgreSQL a statement about a table that is not there would end the transaction.
    if not await tx.run_sync(lambda connection: inspect(connection).has_table(_NOTE.name)):
        return None
    revision: str | None = await tx.scalar(select(_NOTE.c.version_num))
    return revision


async def is_current(database: Database) -> bool:
    """Whether the database is at the version that this code was written for."""
    return await current_revision(database) == NEWEST
