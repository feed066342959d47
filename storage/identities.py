"""The memory of every event ever taken: the point where an effect becomes once-only.

Guarantee: of any number of transactions that register one identity, exactly one that commits is told that it
is new, and every other one is shown the fingerprint that won, also where both run at the same moment. Kept
for good.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.bulk import among, insert_new
from storage.tables import identities


@dataclass(frozen=True, slots=True)
class Registered:
    """Which identities are this transaction's own, and what the others stand for."""

    new: set[UUID]
    known: dict[UUID, bytes]


async def register(tx: AsyncConnection, pairs: Iterable[tuple[UUID, bytes]]) -> Registered:
    """Remember these identities with their fingerprints.

    Of an identity given twice the first counts; telling a repeat from a conflict within a batch is the
    caller's. Waits where another transaction is registering the same identity.
    """
    given: dict[UUID, bytes] = {}
    for identity, fingerprint in pairs:
        given.setdefault(identity, fingerprint)
    new = await insert_new(tx, identities, "identity", ("identity", "fingerprint"), sorted(given.items()))
    if len(new) == len(given):
        return Registered(new, {})
    # The winner's row is invisible in the snapshot of the statement that lost to it: hence a second one.
    return Registered(new, await lookup(tx, given.keys() - new))


async def lookup(tx: AsyncConnection, ids: Iterable[UUID]) -> dict[UUID, bytes]:
    """The fingerprints of those of `ids` that are known."""
    wanted = list(ids)
    if not wanted:
        return {}
    columns = identities.c
    found = await tx.execute(
        select(columns.identity, columns.fingerprint).where(among(tx, columns.identity, wanted))
    )
    return {identity: bytes(fingerprint) for identity, fingerprint in found}
