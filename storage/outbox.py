"""The outbox: what was decided and is still to be published.

Guarantee: an outcome and its place in the outbox are committed together with what it tells of; for one
organization the places follow the order decided, because they are given under the lock of its row
(`organizations.lock`); a row goes only when acknowledged. Between organizations a later place may become
visible before an earlier one.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zlib import crc32

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Select,
    bindparam,
    case,
    delete,
    func,
    select,
    text,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.dead_letters import Header, dead_letter_headers
from schemas.outcomes import OUTCOME_CONTENT_TYPE, EncodedOutcome, Stream
from storage.bulk import (
    Form,
    Write,
    among,
    columns_of,
    given_sql,
    insert_new,
    insert_rows,
    is_wanted,
    on_postgresql,
    wanted,
    write,
)
from storage.dead_letters import COLUMNS as LETTER_COLUMNS
from storage.dead_letters import DeadLetter, letter_of, letter_values
from storage.tables import dead_letters, outbox, outcomes
from storage.written_outcomes import WrittenOutcomes

#: Into how many parts the outbox is divided; each has one relay at a time. Fixed: a row keeps the part it was
#: given.
SHARDS: Final = 8

_OUTCOME_HEADERS: Final[tuple[Header, ...]] = (OUTCOME_CONTENT_TYPE,)

#: The columns that hold an `EncodedOutcome`, in the order of its fields.
_OUTCOME: Final = (
    "outcome_id",
    "type",
    "stream",
    "org_id",
    "value",
    "decided_at",
    "round",
    "cause_identity",
    "job_key",
)
_OUTBOX = ("shard", "stream", "org_id", "ref")

_STREAMS: Final = {stream.value: stream for stream in Stream}
# A member of an enumeration is looked up by a Python function before 3.12: here once, not once a record.
_LETTER: Final = Stream.DEAD_LETTER


class PendingRecord(NamedTuple):
    """A record as it goes to Kafka, and its place in the outbox. `org_id` is empty for a dead letter."""

    outbox_id: int
    stream: Stream
    org_id: str
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


def shard_of(key: str | bytes) -> int:
    """The part of the outbox that an organization (its id) or a dead letter (its record key) belongs to."""
    return crc32(key.encode() if isinstance(key, str) else key) % SHARDS


async def append_outcomes(
    tx: AsyncConnection, decided: Sequence[EncodedOutcome], *beside: Write
) -> list[int]:
    """Keep these outcomes and enter them in the outbox, in order; their organizations are locked by `tx`.

    Args:
        tx: The transaction.
        decided: The outcomes.
        beside: What else PostgreSQL is to write in the same statement.

    Returns:
        The outcomes' numbers (`outcome_seq`), in the same order.
    """
    if not decided:
        return []
    if on_postgresql(tx):
        numbers: list[int] = (await write(tx, *beside, _appending(decided))).scalar_one()
        return numbers
    shards = _shards(decided)
    # The writer is alone, so the numbers that follow the last one are its own to give.
    last = await tx.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'outcomes'")) or 0
    numbered = list(enumerate(decided, last + 1))
    await insert_rows(tx, outcomes, ("outcome_seq", *_OUTCOME), [(number, *row) for number, row in numbered])
    places = [
        (shard, outcome.stream, outcome.org_id, number)
        for shard, (number, outcome) in zip(shards, numbered, strict=True)
    ]
    await insert_rows(tx, outbox, _OUTBOX, places)
    return [number for number, _ in numbered]


def _appending(decided: Sequence[EncodedOutcome]) -> Write:
    given = columns_of(_appended(), (*zip(*decided, strict=True), _shards(decided)))
    return Write(*_pg_append(given.forms), given.parameters)


def _shards(decided: Sequence[EncodedOutcome]) -> list[int]:
    by_org = {org_id: shard_of(org_id) for org_id in {outcome.org_id for outcome in decided}}
    return [by_org[outcome.org_id] for outcome in decided]


@lru_cache(maxsize=1)
def _appended() -> list[Column[Any]]:
    return [*(outcomes.c[name] for name in _OUTCOME), outbox.c.shard]


@lru_cache(maxsize=64)
def _pg_append(forms: tuple[Form, ...]) -> tuple[tuple[str, ...], str]:
    # One statement: the numbers are drawn first, in order, and used by both inserts.
    names = ", ".join(_OUTCOME)
    decided = f"""decided AS MATERIALIZED (
        SELECT nextval('outcomes_outcome_seq_seq') AS outcome_seq, listed.*
        FROM (SELECT * FROM {given_sql(_appended(), forms)} AS u ORDER BY place) AS listed
    )"""  # noqa: S608 (names from our own tables)
    kept = f"""kept AS (
        INSERT INTO outcomes (outcome_seq, {names}) SELECT outcome_seq, {names} FROM decided ORDER BY place
    )"""  # noqa: S608
    entered = """entered AS (
        INSERT INTO outbox (shard, stream, org_id, ref)
        SELECT shard, stream, org_id, outcome_seq FROM decided ORDER BY place
    )"""
    return (decided, kept, entered), "SELECT array_agg(outcome_seq ORDER BY place) FROM decided"


async def append_dead_letters(tx: AsyncConnection, letters: Sequence[DeadLetter]) -> list[bool]:
    """Keep these dead letters and enter the new ones in the outbox.

    Returns:
        For each whether it is new; False: this record was dead-lettered before, and nothing is written again.
    """
    given: dict[object, DeadLetter] = {}
    for letter in letters:
        given.setdefault(letter.digest, letter)
    rows = [letter_values(given[digest]) for digest in sorted(given)]  # type: ignore[type-var]
    new = await insert_new(tx, dead_letters, "digest", LETTER_COLUMNS, rows)
    if new:
        columns = dead_letters.c
        numbers = await tx.execute(
            select(columns.digest, columns.dead_letter_id).where(among(tx, columns.digest, new))
        )
        refs = {digest: number for digest, number in numbers}  # noqa: C416 (rows, not pairs)
        entered = [letter for digest, letter in given.items() if digest in new]
        places = [
            (shard_of(letter.key or b""), Stream.DEAD_LETTER, "", refs[letter.digest]) for letter in entered
        ]
        await insert_rows(tx, outbox, _OUTBOX, places)
    told: list[bool] = []
    for letter in letters:
        told.append(letter.digest in new)
        new.discard(letter.digest)
    return told


async def append_again(tx: AsyncConnection, outcome_seqs: Sequence[int]) -> int:
    """Enter stored outcomes, of organizations locked in this transaction, in the outbox once more, in order.

    Returns:
        How many are entered: those that are still kept.
    """
    if not outcome_seqs:
        return 0
    columns = outcomes.c
    found = await tx.execute(
        select(columns.org_id, columns.stream, columns.outcome_seq)
        .where(among(tx, columns.outcome_seq, outcome_seqs))
        .order_by(columns.outcome_seq)
    )
    places = [(shard_of(org_id), stream, org_id, number) for org_id, stream, number in found]
    await insert_rows(tx, outbox, _OUTBOX, places)
    return len(places)


async def pending(
    tx: AsyncConnection,
    shards: Sequence[int],
    *,
    after: int = 0,
    limit: int = 1000,
    written: WrittenOutcomes | None = None,
) -> list[PendingRecord]:
    """The first `limit` records of these parts with a place beyond `after`, in order.

    Reads no more than `limit` places of each part, however many rows stand in others. `after` pages within
    one pass: begin the next pass at 0, because an organization's place may become visible after a later one
    of another. Values that `written` has are taken out of it instead of being read. What is gone since the
    places were read has been published by another relay, and is left out.
    """
    if not shards or limit < 1:
        return []
    query = _places(tuple(sorted(set(shards))))
    places = (await tx.execute(query, {"after": after, "limit": limit})).all()
    values: dict[int, bytes] = {}
    unknown: list[int] = []
    lettered: list[int] = []
    for _, stream, _, ref in places:
        if stream == _LETTER:
            lettered.append(ref)
        elif written is not None and (value := written.take(ref)) is not None:
            values[ref] = value
        else:
            unknown.append(ref)
    values |= await _values(tx, unknown)
    letters = await _letters(tx, lettered)
    records: list[PendingRecord] = []
    for outbox_id, stream, org_id, ref in places:
        if stream == _LETTER:
            if ref in letters:
                records.append(_pending_letter(outbox_id, letters[ref]))
        elif ref in values:
            key = org_id.encode()
            records.append(
                PendingRecord(outbox_id, _STREAMS[stream], org_id, key, values[ref], _OUTCOME_HEADERS)
            )
    return records


@lru_cache(maxsize=256)
def _places(shards: tuple[int, ...]) -> Select[Any]:
    return _first() if len(shards) == SHARDS else _first_of_each(shards)


def _first(*of: ColumnElement[bool]) -> Select[Any]:
    """The first places that meet every condition; without any, as a relay with every part reads them."""
    beyond = outbox.c.outbox_id > bindparam("after", type_=Integer())
    columns = outbox.c
    place = select(columns.outbox_id, columns.stream, columns.org_id, columns.ref)
    first = place.where(*of, beyond).order_by(columns.outbox_id)
    return first.limit(bindparam("limit", type_=Integer()))


def _first_of_each(shards: tuple[int, ...]) -> Select[Any]:
    """A range of the index for each part, merged: one range over all would walk the parts of other relays."""
    parts = [select(_first(outbox.c.shard == shard).subquery()) for shard in shards]
    merged = union_all(*parts).subquery()
    return select(merged).order_by(merged.c.outbox_id).limit(bindparam("limit", type_=Integer()))


async def _values(tx: AsyncConnection, numbers: Sequence[int]) -> dict[int, bytes]:
    if not numbers:
        return {}
    form, value = wanted(tx, outcomes.c.outcome_seq, numbers)
    found = await tx.execute(_value_of(form), {"wanted": value})
    return {number: kept for number, kept in found}  # noqa: C416 (rows, not pairs)


@lru_cache(maxsize=4)
def _value_of(form: Form) -> Select[Any]:
    number = outcomes.c.outcome_seq
    return select(number, outcomes.c.value).where(is_wanted(number, form))


async def _letters(tx: AsyncConnection, numbers: Sequence[int]) -> dict[int, DeadLetter]:
    if not numbers:
        return {}
    number = dead_letters.c.dead_letter_id
    query = select(number, *(dead_letters.c[name] for name in LETTER_COLUMNS))
    rows = await tx.execute(query.where(among(tx, number, numbers)))
    return {found: letter_of(columns) for found, *columns in rows}


def _pending_letter(outbox_id: int, letter: DeadLetter) -> PendingRecord:
    headers = dead_letter_headers(
        letter.headers,
        reason=letter.reason,
        error=letter.error,
        event_id=letter.event_id,
        event_source=letter.event_source,
        event_type=letter.event_type,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        timestamp_ms=letter.timestamp_ms,
        dead_lettered_at=letter.dead_lettered_at,
    )
    return PendingRecord(outbox_id, Stream.DEAD_LETTER, "", letter.key, letter.value, tuple(headers))


async def empty(tx: AsyncConnection) -> None:
    """Drop the outbox and all that was ever in it: for a database that nobody publishes from."""
    for table in (outbox, outcomes, dead_letters):
        await tx.execute(delete(table))


async def acknowledge(tx: AsyncConnection, outbox_ids: Iterable[int]) -> None:
    """Take what the broker has acknowledged, or refused for good, out of the outbox."""
    done = sorted(outbox_ids)
    if done:
        await tx.execute(delete(outbox).where(among(tx, outbox.c.outbox_id, done)))


async def count_pending(tx: AsyncConnection) -> int:
    """How many records are still to be published."""
    return await tx.scalar(select(func.count()).select_from(outbox)) or 0


async def oldest_pending_at(tx: AsyncConnection) -> datetime | None:
    """When the record longest in the outbox was decided; None where nothing is pending."""
    first = select(outbox.c.stream, outbox.c.ref).order_by(outbox.c.outbox_id).limit(1).subquery()
    decided = select(outcomes.c.decided_at).where(outcomes.c.outcome_seq == first.c.ref)
    lettered = select(dead_letters.c.dead_lettered_at).where(dead_letters.c.dead_letter_id == first.c.ref)
    is_letter = first.c.stream == Stream.DEAD_LETTER
    query = select(case((is_letter, lettered.scalar_subquery()), else_=decided.scalar_subquery()))
    return await tx.scalar(query.select_from(first))
