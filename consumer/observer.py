"""Gathers what is known of the instance every few seconds, for readiness, the gauges and the log."""

import asyncio
import time
from collections.abc import Callable

import structlog

from consumer.ingest.status import IngestStatus
from consumer.metrics import Metrics, Waiting
from consumer.pauses import wait_for_any
from consumer.readiness import Facts, reasons_against
from producers.relay import RelayStatus
from storage import inbox, outbox
from storage.database import Clock, Database, DatabaseUnavailable, database_now
from storage.inbox import WaitReason

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0
TELL_EVERY_S = 1.0
BROKER_SILENT_AFTER_S = 20.0
DATABASE_SILENT_AFTER_S = 10.0
"""A look or a batch takes far less; a statement is given far more before it counts as failed."""
OUT_OF_GROUP_AFTER_S = 30.0
"""A rebalance takes less; who is out for longer may never return by itself."""


class Observer:
    """Holds the facts between two looks; `reasons` judges them without waiting for anything."""

    def __init__(
        self,
        ingest: IngestStatus,
        metrics: Metrics,
        *,
        stopping: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
        clock: Clock = database_now,
    ) -> None:
        """Watch an ingest; the database is looked at once `run` has it."""
        self.database_error: str | None = "not reached yet"
        self.relay: Callable[[], RelayStatus] | None = None
        self._ingest = ingest
        self._metrics = metrics
        self._stopping = stopping
        self._monotonic = monotonic
        self._clock = clock
        self._asked_at: float | None = None
        self._told: set[str] | None = None

    def reasons(self) -> list[str]:
        """Return why the instance is not ready; nothing: it is."""
        reasons = reasons_against(self._facts())
        self._metrics.ready(is_ready=not reasons)
        return reasons

    def _facts(self) -> Facts:
        ingest, now = self._ingest, self._monotonic()
        member = ingest.member_at is not None and now - ingest.member_at < OUT_OF_GROUP_AFTER_S
        broker_error = None
        if ingest.broker_error is not None:
            broker_error = ingest.broker_error
        elif (
            member
            and ingest.broker_seen_at is not None
            and now - ingest.broker_seen_at > BROKER_SILENT_AFTER_S
        ):
            broker_error = f"no answer for {now - ingest.broker_seen_at:.0f} s"
        return Facts(
            member=member,
            database_error=self._database_error(now),
            broker_error=broker_error,
            missing_topics=ingest.missing_topics,
            lag_stalled_s=now - ingest.progress_at if member and ingest.lag else 0.0,
            outbox_stalled_s=self._outbox_stalled_s(),
            open_breakers=tuple(ingest.open_breakers),
            stopping=self._stopping(),
        )

    def _database_error(self, now: float) -> str | None:
        if self._ingest.database_away:
            return "does not answer, a batch waits"
        asked = [at for at in (self._asked_at, self._ingest.applying_since) if at is not None]
        silent_s = now - min(asked, default=now)
        if silent_s > DATABASE_SILENT_AFTER_S:
            return f"no answer for {silent_s:.0f} s"
        return self.database_error

    def _outbox_stalled_s(self) -> float:
        if self.relay is None:
            return 0.0
        status = self.relay()
        return 0.0 if status.standing_by else status.stalled_s

    async def run(self, database: Database, stop: asyncio.Event) -> None:
        """Look every few seconds until `stop` is set, and meanwhile tell the log what has changed."""
        telling = asyncio.ensure_future(self._tell(stop))
        try:
            while not stop.is_set():
                self._asked_at = self._monotonic()
                try:
                    await self._look(database)
                except DatabaseUnavailable as error:
                    self.database_error = str(error)
                else:
                    self.database_error = None
                self._asked_at = None
                await wait_for_any(stop, timeout=LOOK_EVERY_S)
        finally:
            telling.cancel()

    async def _tell(self, stop: asyncio.Event) -> None:
        """Beside the looks, one of which may hang: that is among what there is to tell."""
        while not stop.is_set():
            self.tell()
            await wait_for_any(stop, timeout=TELL_EVERY_S)

    def tell(self) -> None:
        """Say in the log that the instance is ready, or why it no longer is: each once for an outage."""
        reasons = self.reasons()
        if not reasons:
            if self._told != set():
                log.info("ready")
            self._told = set()
        elif self._told is not None:
            # A reason's own words may hold numbers that grow; what it is about stands first.
            new = [reason for reason in reasons if _subject(reason) not in self._told]
            if new:
                log.warning("not_ready", reasons=new)
            self._told.update(map(_subject, new))

    async def _look(self, database: Database) -> None:
        async with database.reading() as tx:
            now = await self._clock(tx)
            pending = await outbox.count_pending(tx)
            summary = await inbox.waiting_summary(tx, now)
        self._metrics.outbox_pending(pending)
        # A reason for which nothing waits has a series too: an alert must not wonder whether it is there.
        waiting: dict[WaitReason, Waiting] = {}
        for reason in WaitReason:
            if reason is not WaitReason.FAILED:
                waiting[reason] = Waiting(reason, 0, 0.0)
        for one in summary:
            waiting[one.reason] = Waiting(one.reason, one.count, (now - one.oldest_since).total_seconds())
        self._metrics.waiting(waiting.values())


def _subject(reason: str) -> str:
    return reason.partition(":")[0].partition(",")[0]
