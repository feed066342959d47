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

from sqlalchemy import Select, func, select, update
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


@dataclass(frozen=True, slots=True)
class ListedDeadLetter:
    """A dead letter without its bytes, of which `value_size` says how many the value has."""

    dead_letter_id: int
    reason: DeadLetterReason
    error: str
    topic: str
    partition: int
    offset: int
    event_id: str | None
    event_source: str | None
    event_type: str | None
    dead_lettered_at: datetime
    redriven_at: datetime | None
    value_size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which dead letters are asked for: those that meet every condition given.

    Attributes:
        reason: Why they were refused.
        topic: The topic they stood on.
        key: Their record key; by the contract the organization's id.
        since: Dead-lettered at or after this.
        until: Dead-lettered before this.
        redriven: Whether they were sent through again; None: either.
        last: The greatest number: those that come while somebody reads are left out.
    """

    reason: DeadLetterReason | None = None
    topic: str | None = None
    key: bytes | None = None
    since: datetime | None = None
    until: datetime | None = None
    redriven: bool | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """How many dead letters there are of one reason and topic, and since when the oldest."""

    reason: DeadLetterReason
    topic: str
    count: int
    oldest: datetime


COLUMNS = tuple(field.name for field in fields(DeadLetter))
_columns = [
    dead_letters.c.dead_letter_id,
    dead_letters.c.redriven_at,
    *(dead_letters.c[name] for name in COLUMNS),
]
_listed_columns = [
    *(dead_letters.c[field.name] for field in fields(ListedDeadLetter) if field.name != "value_size"),
    func.length(dead_letters.c.value).label("value_size"),
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


async def page(
    tx: AsyncConnection, wanted: Wanted, *, after: int = 0, limit: int = 500
) -> list[ListedDeadLetter]:
    """The first `limit` of those wanted with a number beyond `after`, oldest first, without their bytes."""
    columns = dead_letters.c
    query = select(*_listed_columns).where(columns.dead_letter_id > after)
    query = _only(query, wanted).order_by(columns.dead_letter_id).limit(limit)
    return [
        ListedDeadLetter(number, DeadLetterReason(reason), *rest)
        for number, reason, *rest in await tx.execute(query)
    ]


async def counts(tx: AsyncConnection, wanted: Wanted) -> list[Counted]:
    """How many are wanted of each reason and topic, the most first."""
    columns = dead_letters.c
    count = func.count()
    query = _only(select(columns.reason, columns.topic, count, func.min(columns.dead_lettered_at)), wanted)
    query = query.group_by(columns.reason, columns.topic).order_by(
        count.desc(), columns.reason, columns.topic
    )
    return [Counted(DeadLetterReason(reason), *rest) for reason, *rest in await tx.execute(query)]


async def extent(tx: AsyncConnection, wanted: Wanted) -> tuple[int, int]:
    """How many are wanted, and the greatest number among them (0: there are none)."""
    query = _only(select(func.count(), func.coalesce(func.max(dead_letters.c.dead_letter_id), 0)), wanted)
    count, last = (await tx.execute(query)).one()
    return int(count), int(last)


async def sizes(tx: AsyncConnection, wanted: Wanted, *, after: int, limit: int) -> list[tuple[int, int]]:
    """The first `limit` of those wanted with a number beyond `after`, each with how many bytes it holds."""
    columns = dead_letters.c
    held = func.coalesce(func.length(columns.value), 0) + func.coalesce(func.length(columns.key), 0)
    query = select(columns.dead_letter_id, held + func.length(columns.headers))
    query = _only(query.where(columns.dead_letter_id > after), wanted)
    rows = await tx.execute(query.order_by(columns.dead_letter_id).limit(limit))
    return [(int(row[0]), int(row[1])) for row in rows]


async def load(tx: AsyncConnection, numbers: Sequence[int]) -> list[StoredDeadLetter]:
    """The dead letters of these numbers that are kept, with their bytes, oldest first."""
    column = dead_letters.c.dead_letter_id
    query = select(*_columns).where(among(tx, column, numbers)).order_by(column)
    return [_stored(row) for row in await tx.execute(query)]


async def known(tx: AsyncConnection, digests: Sequence[UUID]) -> set[UUID]:
    """Which of these records are dead letters already."""
    if not digests:
        return set()
    column = dead_letters.c.digest
    return set((await tx.scalars(select(column).where(among(tx, column, digests)))).all())


async def hold(tx: AsyncConnection, numbers: Sequence[int]) -> set[int]:
    """Hold those of these dead letters that were not sent through yet, until the transaction ends.

    Waits for whoever else holds one of them.

    Returns:
        Those held. Any other one was sent through by somebody else, or is no longer kept.
    """
    columns = dead_letters.c
    query = (
        select(columns.dead_letter_id)
        .where(among(tx, columns.dead_letter_id, numbers), columns.redriven_at.is_(None))
        # Two that want the same ones wait for each other in one order.
        .order_by(columns.dead_letter_id)
        .with_for_update()
    )
    return set((await tx.scalars(query)).all())


async def mark_redriven(tx: AsyncConnection, numbers: Sequence[int], now: datetime) -> set[int]:
    """Note that these dead letters were sent through again and taken.

    Returns:
        Those of which it was not noted yet: whoever asked for another one must not take it again.
    """
    columns = dead_letters.c
    query = (
        update(dead_letters)
        .where(among(tx, columns.dead_letter_id, numbers), columns.redriven_at.is_(None))
        .values(redriven_at=now)
        .returning(columns.dead_letter_id)
    )
    return set((await tx.scalars(query)).all())


def _only(query: Select[Any], wanted: Wanted) -> Select[Any]:
    columns = dead_letters.c
    if wanted.reason is not None:
        query = query.where(columns.reason == wanted.reason)
    if wanted.topic is not None:
        query = query.where(columns.topic == wanted.topic)
    if wanted.key is not None:
        query = query.where(columns.key == wanted.key)
    if wanted.since is not None:
        query = query.where(columns.dead_lettered_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(columns.dead_lettered_at < wanted.until)
    if wanted.redriven is not None:
        is_open = columns.redriven_at.is_(None)
        query = query.where(~is_open if wanted.redriven else is_open)
    if wanted.last is not None:
        query = query.where(columns.dead_letter_id <= wanted.last)
    return query


def _stored(row: Sequence[Any]) -> StoredDeadLetter:
    dead_letter_id, redriven_at, *values = row
    return StoredDeadLetter(dead_letter_id, letter_of(values), redriven_at)
