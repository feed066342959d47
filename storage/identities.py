"""The memory of every event ever taken: the point where an effect becomes once-only.

Guarantee: of any number of transactions that register one identity, exactly one that commits is told that it
is new, and every other one is shown the fingerprint that won, also where both run at the same moment. Kept
for good.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from uuid import UUID

from sqlalchemy import TextClause, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.bulk import Form, among, columns_of, given_sql, insert_rows, on_postgresql
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
    if not given:
        return Registered(set(), {})
    known = await (_pg_register if on_postgresql(tx) else _sqlite_register)(tx, given)
    return Registered(given.keys() - known, known)


async def _pg_register(tx: AsyncConnection, given: Mapping[UUID, bytes]) -> dict[UUID, bytes]:
    # In sorted order: transactions that register the same identities wait for each other and not in a circle.
    in_order = sorted(given)
    columns = columns_of(list(identities.c), (in_order, [given[identity] for identity in in_order]))
    lost = await tx.execute(_pg_insert(columns.forms), columns.parameters)
    known: dict[UUID, bytes] = {}
    unseen: list[UUID] = []
    for identity, fingerprint in lost:
        if fingerprint is None:
            unseen.append(identity)
        else:
            known[identity] = fingerprint
    # A winner that has committed since is invisible in the snapshot of the statement that lost to it.
    return known | await lookup(tx, unseen)


@lru_cache(maxsize=16)
def _pg_insert(forms: tuple[Form, ...]) -> TextClause:
    # A look-up for each loser, by the key: a join might be planned as a walk through all that is remembered.
    return text(
        f"""
        WITH given AS MATERIALIZED (
            SELECT * FROM {given_sql(list(identities.c), forms)} AS u
        ), made AS (
            INSERT INTO identities (identity, fingerprint)
            SELECT identity, fingerprint FROM given ORDER BY place
            ON CONFLICT DO NOTHING RETURNING identity
        )
        SELECT given.identity,
            (SELECT kept.fingerprint FROM identities AS kept WHERE kept.identity = given.identity)
        FROM given WHERE NOT EXISTS (SELECT FROM made WHERE made.identity = given.identity)
        """  # noqa: S608 (names from our own tables)
    )


async def _sqlite_register(tx: AsyncConnection, given: Mapping[UUID, bytes]) -> dict[UUID, bytes]:
    # The writer is alone from its first moment, so what a look shows still stands at the insert.
    known = await lookup(tx, given)
    new = sorted((pair for pair in given.items() if pair[0] not in known), key=itemgetter(0))
    await insert_rows(tx, identities, ("identity", "fingerprint"), new)
    return known


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
