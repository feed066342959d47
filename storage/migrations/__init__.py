"""The schema's versions, applied forward only.

Guarantee: a migration is one transaction with the note that it was applied, on both databases; of several
instances that migrate at once one does it and the others wait and find it done.
"""

import asyncio
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.bulk import on_postgresql
from storage.database import Database

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
                await tx.run_sync(_upgrade)
                return
        await asyncio.sleep(_PAUSE)


async def current_revision(database: Database) -> str | None:
    """The version the database is at; None where it has none."""
    async with database.reading() as tx:
        return await revision_of(tx)


async def revision_of(tx: AsyncConnection) -> str | None:
    """The version the database is at, as this transaction sees it."""
    return await tx.run_sync(lambda connection: MigrationContext.configure(connection).get_current_revision())


async def is_current(database: Database) -> bool:
    """Whether the database is at the version that this code was written for."""
    return await current_revision(database) == newest_revision()


def newest_revision() -> str:
    """The version that this code was written for."""
    revision = ScriptDirectory.from_config(config()).get_current_head()
    assert revision is not None
    return revision


def config() -> Config:
    """Alembic's configuration; there is no alembic.ini."""
    options = Config()
    # A percent sign in the path would be taken for an interpolation.
    options.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    options.set_main_option("path_separator", "os")
    return options


def _upgrade(connection: Connection) -> None:
    options = config()
    options.attributes["connection"] = connection
    command.upgrade(options, "head")
