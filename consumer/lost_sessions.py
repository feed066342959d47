"""Ends database sessions that were lost in the middle of a statement, and whose locks hold up everybody."""

import asyncio
from typing import Final

import structlog

from consumer.pauses import wait_for_any
from storage.database import Database, DatabaseUnavailable
from storage.lost_sessions import end_lost_sessions

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 10.0
LOOK_AGAIN_S: Final = 2.0
"""After a look without an answer: then sessions are lost."""


class LostSessions:
    """Looks for them on behalf of all instances: whoever lost one may be gone itself."""

    def __init__(self, database: Database) -> None:
        """Look in a database; one that is a file has no sessions."""
        self._database = database

    async def run(self, stop: asyncio.Event) -> None:
        """Look every few seconds until `stop` is set; a database that is away is waited for."""
        if self._database.dialect == "sqlite":
            await stop.wait()
        while not stop.is_set():
            try:
                await self.look()
            except DatabaseUnavailable:  # whoever needs it says so
                await wait_for_any(stop, timeout=LOOK_AGAIN_S)
            else:
                await wait_for_any(stop, timeout=LOOK_EVERY_S)

    async def look(self) -> None:
        """Look once.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        async with self._database.looking() as tx:
            ended = await end_lost_sessions(tx)
        if ended:
            log.warning("lost_sessions_ended", count=ended, consequence="their transactions were rolled back")
