"""What leaves the database with time: outcomes and dead letters, and nothing else.

Guarantee: identities, charges, the ledger and failed events are never touched, nor is anything that is still
to be published.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.outcomes import Stream
from storage.bulk import among
from storage.leases import forget_idle
from storage.tables import dead_letters, outbox, outcomes


async def prune(tx: AsyncConnection, before: datetime, limit: int) -> int:
    """Delete outcomes and dead letters decided before a moment, oldest first; idle leases go with them.

    Looks at no more than the `limit` oldest rows of each table, and stops at one that is still to be
    published.

    Returns:
        How many rows went, at most `limit`; fewer: there are no more for now.
    """
    is_letter = outbox.c.stream == Stream.DEAD_LETTER
    outcomes_by = outcomes.c.decided_at
    pruned = await _prune(tx, outcomes, outcomes_by, before=before, limit=limit, stream=~is_letter)
    letters_by, left = dead_letters.c.dead_lettered_at, limit - pruned
    pruned += await _prune(tx, dead_letters, letters_by, before=before, limit=left, stream=is_letter)
    if pruned < limit:
        pruned += await forget_idle(tx, before, limit - pruned)
    return pruned


async def _prune(
    tx: AsyncConnection, table: Table, decided_at: Any, *, before: datetime, limit: int, stream: Any
) -> int:
    if limit < 1:
        return 0
    (number,) = table.primary_key.columns
    oldest = await tx.execute(select(number, decided_at).order_by(number).limit(limit))
    old = [row_number for row_number, decided in oldest if decided < before]
    if not old:
        return 0
    pending = select(outbox.c.ref).where(stream, among(tx, outbox.c.ref, old))
    kept = set((await tx.scalars(pending)).all())
    gone = [row_number for row_number in old if row_number not in kept]
    if gone:
        await tx.execute(delete(table).where(among(tx, number, gone)))
    return len(gone)
