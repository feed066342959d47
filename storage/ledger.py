"""The ledger: every credit given or taken, append-only, and the proof that the books balance.

Guarantee: an entry, once committed, never changes and never goes (a trigger refuses it); a transaction id is
booked once; the number of an entry is unique within its organization. Balances and numbers come from the
organization's locked row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Select, and_, case, exists, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.transactions import charge_id
from storage.bulk import Form, Write, insert_rows, inserting, is_wanted, wanted
from storage.tables import ledger_entries, organizations


class EntryKind(StrEnum):
    """What an entry is: credits given, a job's price, an operator's correction."""

    GRANT = "grant"
    CHARGE = "charge"
    ADJUSTMENT = "adjustment"


class LedgerEntry(NamedTuple):
    """One booking.

    `entry` numbers the organization's bookings (1, 2, 3, ...), `sequence` its charges among them. `credits`
    is signed: a charge is negative or zero. `corrects` names the transaction that an adjustment corrects.
    """

    transaction_id: UUID
    org_id: str
    entry: int
    kind: EntryKind
    credits: int
    balance_after: int
    sequence: int | None
    job_id: str | None
    reason: str | None
    corrects: UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found: how much it looked at, and a line for each thing wrong (at most 100 of a kind)."""

    ok: bool
    organizations: int
    entries: int
    problems: list[str]


_COLUMNS: Final = LedgerEntry._fields
_transaction_id: Final = itemgetter(0)
_entry_columns = [ledger_entries.c[name] for name in _COLUMNS]

#: Problems named of each kind: enough to see what is wrong, few enough to read.
_NAMED = 100
#: Charges looked at together when their ids are derived anew.
_PAGE = 5_000


async def append(tx: AsyncConnection, entries: Iterable[LedgerEntry]) -> None:
    """Book these entries, of organizations locked in this transaction.

    Raises:
        sqlalchemy.exc.IntegrityError: A transaction id or an entry number is booked already, or a balance is
        negative.
    """
    await insert_rows(tx, ledger_entries, _COLUMNS, _in_order(entries))


def appending(entries: Iterable[LedgerEntry]) -> Write:
    """What `append` has PostgreSQL do; one entry at least."""
    return inserting(ledger_entries, _COLUMNS, _in_order(entries))


def _in_order(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    # Two transactions that would book the same ids wait for each other in one order.
    return sorted(entries, key=_transaction_id)


async def charged(tx: AsyncConnection, transaction_ids: Iterable[UUID]) -> set[UUID]:
    """Which of these are booked. Certain only for organizations locked in this transaction."""
    ids = list(transaction_ids)
    if not ids:
        return set()
    form, value = wanted(tx, ledger_entries.c.transaction_id, ids)
    return set((await tx.scalars(_charged(form), {"wanted": value})).all())


@lru_cache(maxsize=4)
def _charged(form: Form) -> Select[Any]:
    booked = ledger_entries.c.transaction_id
    return select(booked).where(is_wanted(booked, form))


async def find(tx: AsyncConnection, transaction_id: UUID) -> LedgerEntry | None:
    """One entry by its transaction id."""
    query = select(*_entry_columns).where(ledger_entries.c.transaction_id == transaction_id)
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else _entry(row)


async def charged_at(tx: AsyncConnection, moment: datetime) -> dict[str, int]:
    """Credits charged at exactly this moment, by organization, the largest sum first."""
    columns = ledger_entries.c
    total = func.sum(-columns.credits)
    query = (
        select(columns.org_id, total)
        .where(columns.kind == EntryKind.CHARGE, columns.created_at == moment)
        .group_by(columns.org_id)
        .order_by(total.desc(), columns.org_id)
    )
    return {org_id: int(credits_) for org_id, credits_ in await tx.execute(query)}


async def entries_of(
    tx: AsyncConnection,
    org_id: str,
    after: int = 0,
    limit: int | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[LedgerEntry]:
    """An organization's entries with a number beyond `after`, in order.

    Args:
        tx: The transaction.
        org_id: The organization.
        after: The number beyond which they begin.
        limit: How many at most.
        since: Only those booked at or after this.
        until: Only those booked before this.
    """
    columns = ledger_entries.c
    query = select(*_entry_columns).where(columns.org_id == org_id, columns.entry > after)
    query = _booked(query, since, until).order_by(columns.entry).limit(limit)
    return [_entry(row) for row in await tx.execute(query)]


async def entries_of_all(
    tx: AsyncConnection,
    *,
    after: tuple[str, int] = ("", 0),
    limit: int,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[LedgerEntry]:
    """The first `limit` entries of all organizations beyond one (organization, number), in that order.

    Args:
        tx: The transaction.
        after: The organization and number beyond which they begin.
        limit: How many at most.
        since: Only those booked at or after this.
        until: Only those booked before this.
    """
    columns = ledger_entries.c
    query = select(*_entry_columns).where(tuple_(columns.org_id, columns.entry) > tuple_(*after))
    query = _booked(query, since, until).order_by(columns.org_id, columns.entry).limit(limit)
    return [_entry(row) for row in await tx.execute(query)]


def _booked(query: Select[Any], since: datetime | None, until: datetime | None) -> Select[Any]:
    if since is not None:
        query = query.where(ledger_entries.c.created_at >= since)
    if until is not None:
        query = query.where(ledger_entries.c.created_at < until)
    return query


async def totals(tx: AsyncConnection, org_id: str) -> tuple[int, int]:
    """Credits granted and credits used: what was added, adjustments included, and what the charges took."""
    columns = ledger_entries.c
    is_charge = columns.kind == EntryKind.CHARGE
    query = select(
        func.coalesce(func.sum(case((~is_charge, columns.credits), else_=0)), 0),
        func.coalesce(func.sum(case((is_charge, -columns.credits), else_=0)), 0),
    ).where(columns.org_id == org_id)
    granted, used = (await tx.execute(query)).one()
    return int(granted), int(used)


async def verify(tx: AsyncConnection) -> Verification:
    """Prove that the books balance, for the whole database. Call it in `Database.reading()`: one snapshot.

    Proved for every organization: its entries are numbered 1, 2, 3, ...; each balance is the one before plus
    the entry and never negative; charges are numbered 1, 2, 3, ... in ledger order, and each bears the id
    derived from its organization and job, so that no job is charged twice; a correction names an entry of its
    own organization; the organization's row agrees with its entries.
    """
    problems = [
        *await _broken_chains(tx),
        *await _disagreeing_rows(tx),
        *await _dangling_corrections(tx),
        *await _foreign_charge_ids(tx),
    ]
    orgs = await tx.scalar(select(func.count()).select_from(organizations))
    entries = await tx.scalar(select(func.count()).select_from(ledger_entries))
    return Verification(ok=not problems, organizations=orgs or 0, entries=entries or 0, problems=problems)


async def _broken_chains(tx: AsyncConnection) -> list[str]:
    columns = ledger_entries.c
    is_charge = columns.kind == EntryKind.CHARGE
    in_order: dict[str, Any] = {"partition_by": columns.org_id, "order_by": columns.entry, "rows": (None, 0)}
    walked = select(
        columns.org_id,
        columns.entry,
        columns.balance_after,
        columns.sequence,
        is_charge.label("is_charge"),
        columns.job_id,
        func.row_number().over(partition_by=columns.org_id, order_by=columns.entry).label("place"),
        func.sum(columns.credits).over(**in_order).label("running"),
        func.sum(case((is_charge, 1), else_=0), type_=Integer()).over(**in_order).label("charges"),
    ).subquery()
    row = walked.c
    checks: list[tuple[str, ColumnElement[bool]]] = [
        ("its number is not the next one", row.entry != row.place),
        ("its balance is not the one before plus its credits", row.balance_after != row.running),
        ("its balance is negative", row.balance_after < 0),
        (
            "its charge number is not the next one",
            and_(row.is_charge, row.sequence.is_distinct_from(row.charges)),
        ),
        ("it is a charge without a job", and_(row.is_charge, row.job_id.is_(None))),
        ("it is no charge but numbered as one", and_(~row.is_charge, row.sequence.is_not(None))),
    ]
    query = (
        select(
            row.org_id, row.entry, *(check.label(f"check_{place}") for place, (_, check) in enumerate(checks))
        )
        .where(or_(*(check for _, check in checks)))
        .order_by(row.org_id, row.entry)
        .limit(_NAMED)
    )
    return [
        f"organization {org_id!r}, entry {entry}: {what}"
        for org_id, entry, *failed in await tx.execute(query)
        for (what, _), is_so in zip(checks, failed, strict=True)
        if is_so
    ]


async def _disagreeing_rows(tx: AsyncConnection) -> list[str]:
    columns = ledger_entries.c
    is_charge = columns.kind == EntryKind.CHARGE
    summed = (
        select(
            columns.org_id,
            func.sum(columns.credits).label("balance"),
            func.count().label("entries"),
            func.sum(case((is_charge, 1), else_=0)).label("charges"),
        )
        .group_by(columns.org_id)
        .subquery()
    )
    org = organizations.c
    checks = [
        ("balance", org.balance, summed.c.balance),
        ("number of entries", org.entries, summed.c.entries),
        ("number of charges", org.charges, summed.c.charges),
    ]
    query = (
        select(org.org_id, *(func.coalesce(kept - func.coalesce(booked, 0), 0) for _, kept, booked in checks))
        .select_from(organizations.outerjoin(summed, summed.c.org_id == org.org_id))
        .where(or_(*(kept != func.coalesce(booked, 0) for _, kept, booked in checks)))
        .order_by(org.org_id)
        .limit(_NAMED)
    )
    problems = [
        f"organization {org_id!r}: its row's {what} differs from the ledger's by {int(difference)}"
        for org_id, *differences in await tx.execute(query)
        for (what, _, _), difference in zip(checks, differences, strict=True)
        if difference
    ]
    orphans = select(summed.c.org_id).where(~exists().where(org.org_id == summed.c.org_id)).limit(_NAMED)
    return problems + [
        f"organization {org_id!r}: entries without an organization" for org_id in await tx.scalars(orphans)
    ]


async def _dangling_corrections(tx: AsyncConnection) -> list[str]:
    entry, corrected = ledger_entries.alias(), ledger_entries.alias()
    named = exists().where(
        corrected.c.transaction_id == entry.c.corrects, corrected.c.org_id == entry.c.org_id
    )
    query = (
        select(entry.c.org_id, entry.c.entry)
        .where(entry.c.corrects.is_not(None), ~named)
        .order_by(entry.c.org_id, entry.c.entry)
        .limit(_NAMED)
    )
    return [
        f"organization {org_id!r}, entry {number}: it corrects no entry of the organization"
        for org_id, number in await tx.execute(query)
    ]


async def _foreign_charge_ids(tx: AsyncConnection) -> list[str]:
    # Neither database can derive the ids by itself, so this one reads the charges, a page at a time.
    columns = ledger_entries.c
    query = (
        select(columns.transaction_id, columns.org_id, columns.entry, columns.job_id)
        .where(columns.kind == EntryKind.CHARGE)
        .execution_options(yield_per=_PAGE)
    )
    problems: list[str] = []
    async with tx.stream(query) as charges:
        async for transaction_id, org_id, entry, job_id in charges:
            if job_id is None or charge_id(org_id, job_id) != transaction_id:
                problems.append(f"organization {org_id!r}, entry {entry}: its id is not its job's")
                if len(problems) == _NAMED:
                    break
    return problems


def _entry(row: Sequence[Any]) -> LedgerEntry:
    transaction_id, org_id, entry, kind, *rest = row
    return LedgerEntry(transaction_id, org_id, entry, EntryKind(kind), *rest)
