"""Notices when the database's clock steps, and puts right what a step back leaves behind."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.pauses import wait_for_any
from storage.clock_steps import Longest, cut_to_length
from storage.database import Clock, Database, DatabaseUnavailable

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 5.0
STEP_S: Final = 2.0
"""What a slow answer or a clock that is being slewed explains is no step."""


class ClockWatch:
    """Compares the database's clock with this process's own, which never steps.

    At the start it can't know, and looks for what a step back would have left.
    """

    def __init__(
        self,
        database: Database,
        longest: Longest,
        *,
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        """Watch a database; `longest` says how far ahead the moments in it are ever set."""
        self._database = database
        self._longest = longest
        self._clock = clock
        self._monotonic = monotonic
        self._last: tuple[datetime, float, float] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Look every few seconds until `stop` is set; a database that is away is waited for."""
        while not stop.is_set():
            with contextlib.suppress(DatabaseUnavailable):  # whoever needs it says so
                await self.look()
            await wait_for_any(stop, timeout=LOOK_EVERY_S)

    async def look(self) -> None:
        """Look once.

        Raises:
            DatabaseUnavailable: The database does not answer; the next look sees as much as this one.
        """
        asked = self._monotonic()
        async with self._database.looking() as tx:
            now = await self._clock(tx)
        answered = self._monotonic()
        step = self._step_to(now, asked, answered)
        if step is None or step < -STEP_S:
            cut = await self._database.run(self._cut)
            if step is not None or cut:
                log.warning("database_clock_went_back", by_s=step and round(-step, 1), moments_cut=cut)
        elif step > STEP_S:
            log.warning("database_clock_went_ahead", by_s=round(step, 1), consequence="pauses end early")
        self._last = now, asked, answered

    def _step_to(self, now: datetime, asked: float, answered: float) -> float | None:
        """Seconds the clock is off from where the last look would have it; None: there was none."""
        if self._last is None:
            return None
        then, asked_then, answered_then = self._last
        passed = (now - then).total_seconds()
        # Each answer was given at some moment between its question and its arrival.
        return passed - min(max(passed, asked - answered_then), answered - asked_then)

    async def _cut(self, tx: AsyncConnection) -> int:
        return await cut_to_length(tx, await self._clock(tx), self._longest)
