"""Dead letters as kept: the record's own bytes, why it was refused, and whether it was sent through again.

Guarantee: one record (topic, partition, offset, value) is kept once, with the reason it was first given; its
bytes and headers are what Kafka gave, so that a repeat on the topic is byte-identical. New ones enter through
`storage.outbox.append_dead_letters`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.dead_letters import DeadLetterReason, Header, decode_headers, encode_headers
from schemas.outcomes import Origin
from storage.bulk import among
from storage.tables import dead_letters


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be taken, and why; `headers` are the inbound record's own."""

    digest: UUID
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    reason: DeadLetterReason
    error: str
    event_id: str | None
    event_source: str | None
    event_type: str | None
    dead_lettered_at: datetime
    origin: Origin


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter with its number, and when it was sent through again."""

    dead_letter_id: int
    letter: DeadLetter
    redriven_at: datetime | None


COLUMNS = tuple(field.name for field in fields(DeadLetter))
_columns = [
    dead_letters.c.dead_letter_id,
    dead_letters.c.redriven_at,
    *(dead_letters.c[name] for name in COLUMNS),
]
_PLACE = {name: place for place, name in enumerate(COLUMNS)}


def letter_values(letter: DeadLetter) -> tuple[object, ...]:
    """The row of `COLUMNS` for a dead letter."""
    return tuple(
        encode_headers(letter.headers) if name == "headers" else getattr(letter, name) for name in COLUMNS
    )


def letter_of(values: Sequence[Any]) -> DeadLetter:
    """The dead letter of a row of `COLUMNS`."""
    row = list(values)
    row[_PLACE["headers"]] = decode_headers(row[_PLACE["headers"]])
    row[_PLACE["reason"]] = DeadLetterReason(row[_PLACE["reason"]])
    row[_PLACE["origin"]] = Origin(row[_PLACE["origin"]])
    return DeadLetter(*row)


async def list_(
    tx: AsyncConnection,
    *,
    reason: DeadLetterReason | None = None,
    topic: str | None = None,
    redriven: bool | None = None,
    after: int = 0,
    limit: int | None = None,
) -> list[StoredDeadLetter]:
    """Dead letters numbered beyond `after` that meet every condition given, oldest first."""
    columns = dead_letters.c
    query = (
        select(*_columns).where(columns.dead_letter_id > after).order_by(columns.dead_letter_id).limit(limit)
    )
    if reason is not None:
        query = query.where(columns.reason == reason)
    if topic is not None:
        query = query.where(columns.topic == topic)
    if redriven is not None:
        query = query.where(columns.redriven_at.is_not(None) if redriven else columns.redriven_at.is_(None))
    return [_stored(row) for row in await tx.execute(query)]


async def get(tx: AsyncConnection, dead_letter_id: int) -> StoredDeadLetter | None:
    """One dead letter by its number."""
    query = select(*_columns).where(dead_letters.c.dead_letter_id == dead_letter_id)
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else _stored(row)


async def known(tx: AsyncConnection, digests: Sequence[UUID]) -> set[UUID]:
    """Which of these records are dead letters already."""
    if not digests:
        return set()
    column = dead_letters.c.digest
    return set((await tx.scalars(select(column).where(among(tx, column, digests)))).all())


async def mark_redriven(tx: AsyncConnection, dead_letter_id: int, now: datetime) -> bool:
    """Note that a dead letter was sent through again and taken.

    Returns:
        False where it is noted already: whoever asked comes second and must not send it again.
    """
    columns = dead_letters.c
    query = (
        update(dead_letters)
        .where(columns.dead_letter_id == dead_letter_id, columns.redriven_at.is_(None))
        .values(redriven_at=now)
        .returning(columns.dead_letter_id)
    )
    return await tx.scalar(query) is not None


def _stored(row: Sequence[Any]) -> StoredDeadLetter:
    dead_letter_id, redriven_at, *values = row
    return StoredDeadLetter(dead_letter_id, letter_of(values), redriven_at)
