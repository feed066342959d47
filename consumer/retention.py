"""Outcomes and dead letters leave the database after their days; identities, charges and the ledger never."""

import asyncio
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.pauses import wait_for_any
from storage import retention
from storage.database import Clock, Database, DatabaseUnavailable, database_now

log = structlog.get_logger(__name__)

BETWEEN_LOOKS_S = 600.0
ROWS_A_TRANSACTION = 5_000


class Retention:
    """Removes what is older than `keep_days`, a bounded number of rows a transaction."""

    def __init__(self, database: Database, *, keep_days: int, clock: Clock = database_now) -> None:
        """Prepare to remove what is older than `keep_days` days on the database's clock."""
        self._database = database
        self._keep = timedelta(days=keep_days)
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """Look every ten minutes until `stop` is set."""
        while not stop.is_set():
            try:
                removed = await self.prune_once()
            except DatabaseUnavailable:
                removed = 0
            if removed < ROWS_A_TRANSACTION:
                await wait_for_any(stop, timeout=BETWEEN_LOOKS_S)

    async def prune_once(self) -> int:
        """Remove one transaction's worth; return how many rows went."""
        removed = await self._database.run(self._prune)
        if removed:
            log.info("old_rows_removed", rows=removed)
        return removed

    async def _prune(self, tx: AsyncConnection) -> int:
        return await retention.prune(tx, await self._clock(tx) - self._keep, ROWS_A_TRANSACTION)
