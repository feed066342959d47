"""What was judged in one go: entries of the ledger, outcomes, and the organizations' states after them."""

from collections.abc import Collection, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.outcomes import EncodedOutcome
from storage import bulk, ledger, organizations, outbox
from storage.bulk import on_postgresql
from storage.ledger import LedgerEntry
from storage.organizations import OrgState


async def write(
    tx: AsyncConnection,
    *,
    entries: Sequence[LedgerEntry],
    outcomes: Sequence[EncodedOutcome],
    states: Collection[OrgState],
) -> list[int]:
    """Keep all of it, of organizations locked in this transaction: on PostgreSQL in one round trip.

    Returns:
        The outcomes' numbers.

    Raises:
        sqlalchemy.exc.IntegrityError: A charge is booked already, or a balance is negative.
    """
    if not on_postgresql(tx):
        await ledger.append(tx, entries)
        await organizations.save(tx, states)
        return await outbox.append_outcomes(tx, outcomes)
    writes = []
    if entries:
        writes.append(ledger.appending(entries))
    if states:
        writes.append(organizations.saving(states))
    if outcomes:
        return await outbox.append_outcomes(tx, outcomes, *writes)
    if writes:
        await bulk.write(tx, *writes)
    return []
