"""A batch into the books, whoever brings it: live ingest, a replay, or dead letters sent through again."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest.batch import Applied, Received, RejectedRecord, apply_batch, rejection
from consumer.ingest.judging import IngestPolicy
from schemas.dead_letters import DeadLetterReason
from schemas.outcomes import Origin
from storage.database import Clock, Database, DataRefused, database_now

log = structlog.get_logger(__name__)

Within = Callable[[AsyncConnection, Applied], Awaitable[None]]
"""What else belongs into the transaction that ends a batch; told what the whole batch comes to.

It may be called several times.
"""


def _nothing(_guilty: Received) -> None:
    """Take no note of a guilty record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applier:
    """Applies batches, each in one transaction as long as the database takes its data.

    Attributes:
        database: The books.
        policy: The settings that decide.
        origin: How the events came here.
        clock: The database's time.
        on_guilty: Told of each event that only the database could find to be bad, before it becomes a dead
            letter.
    """

    database: Database
    policy: IngestPolicy
    origin: Origin
    clock: Clock = database_now
    on_guilty: Callable[[Received], None] = _nothing

    async def apply(
        self, received: Sequence[Received], rejected: Sequence[RejectedRecord], within: Within | None = None
    ) -> Applied:
        """Apply a batch; where the database refuses its data, find the guilty record.

        A batch that is refused is halved until the one record stands alone; that one becomes a dead letter.

        Args:
            received: Valid events, in the order in which they were read.
            rejected: Records that are no valid events.
            within: Done last in the transaction that ends the batch, so that it stands exactly where all of
                the batch does. Where it raises, that transaction leaves nothing; earlier parts of a batch
                that had to be halved stand, and a repeat passes over them.

        Raises:
            storage.database.DatabaseUnavailable: The batch is to be applied again, whole.
            storage.database.DataRefused: A record can't even be kept as a dead letter, or `within` is at
                fault.
        """
        return await self._apply(received, rejected, within, Applied())

    async def _apply(
        self,
        received: Sequence[Received],
        rejected: Sequence[RejectedRecord],
        within: Within | None,
        before: Applied,
    ) -> Applied:
        """Apply a part of a batch; return what the batch has come to with it, `before` included."""
        if not received and not rejected and within is None:
            return before

        async def work(tx: AsyncConnection) -> Applied:
            applied = before + await apply_batch(
                tx,
                received,
                rejected,
                policy=self.policy,
                origin=self.origin,
                now=await self.clock(tx),
            )
            if within is not None:
                await within(tx, applied)
            return applied

        try:
            return await self.database.run(work)
        except DataRefused as error:
            if len(received) + len(rejected) <= 1:
                if not received:
                    raise
                (guilty,) = received
                log.warning("event_unprocessable", topic=guilty.record.topic, offset=guilty.record.offset)
                self.on_guilty(guilty)
                refused = rejection(guilty.event, DeadLetterReason.UNPROCESSABLE, str(error))
                return await self._apply([], [RejectedRecord(refused, guilty.record)], within, before)
        middle, edge = len(received) // 2, len(rejected) // 2
        if len(received) == 1:
            middle = 1
        first = await self._apply(received[:middle], rejected[:edge], None, before)
        return await self._apply(received[middle:], rejected[edge:], within, first)
