"""The inbox: events that wait for their organization, for LiteLLM or for their turn, and failed ones.

Guarantee: an event stands here or its outcome is decided, never neither; of the events about one subject (an
organization, or a user in it) one at a time is in hand, and the others stand behind it in the order received.
An organization's rows are written under the lock of its row (`organizations.lock`), so `inbox_id` follows the
order received.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Delete,
    FromClause,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy import update as sql_update
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.events import EventType
from schemas.outcomes import Origin
from storage.bulk import Form, among, insert_rows, is_wanted, wanted
from storage.leases import org_scope
from storage.organizations import OrgStatus
from storage.tables import inbox, leases, members, organizations


class InboxState(StrEnum):
    """Whether an event is still to be decided."""

    WAITING = "waiting"
    FAILED = "failed"


class Phase(StrEnum):
    """What is being done for an event: making, or taking back what was made."""

    PROVISIONING = "provisioning"
    COMPENSATING = "compensating"


class WaitReason(StrEnum):
    """What an event waits for."""

    ORGANIZATION = "organization"  # its organization is not active
    LITELLM = "litellm"  # LiteLLM, which is down
    RETRY = "retry"  # the pause after a try that failed
    BEHIND = "behind"  # an earlier event about the same organization or user
    COMPENSATION = "compensation"  # what its tries made to be taken back
    TURN = "turn"  # nothing but its turn
    FAILED = "failed"  # nothing: it failed


@dataclass(frozen=True, slots=True)
class NewInboxRow:
    """An event to keep.

    `event` is its stored form; `subject` the user's or job's id, empty for an organization's.

    `due_at` None: nothing happens to it until something else does. `state` FAILED keeps a refused event for
    another round; its `failure` (JSON) says why.
    """

    identity: UUID
    org_id: str
    type: EventType
    subject: str
    reason: WaitReason
    origin: Origin
    event: bytes
    stored_at: datetime
    due_at: datetime | None = None
    round: int = 1
    state: InboxState = InboxState.WAITING
    phase: Phase = Phase.PROVISIONING
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class InboxRow:
    """An event as kept.

    `attempts` and `first_try_at` count this round's tries that called LiteLLM; `compensate_until` ends the
    taking back; `failure` is JSON: `step`, `error_code`, `message`.
    """

    inbox_id: int
    identity: UUID
    org_id: str
    type: EventType
    subject: str
    state: InboxState
    phase: Phase
    reason: WaitReason
    origin: Origin
    round: int
    stored_at: datetime
    due_at: datetime | None
    first_try_at: datetime | None
    attempts: int
    compensate_until: datetime | None
    failure: str | None
    event: bytes


@dataclass(frozen=True, slots=True)
class FailedSummary:
    """How many of an organization's events failed alike: of one type, with one `failure` (JSON)."""

    type: EventType
    failure: str | None
    count: int
    oldest_since: datetime


@dataclass(frozen=True, slots=True)
class WaitingSummary:
    """How many events wait for one reason, and since when the oldest."""

    reason: WaitReason
    count: int
    oldest_since: datetime


# Spelled out, never as parameters: SQLite uses a partial index only where it sees the index's own condition.
_JOBS: Final = text("state = 'waiting' AND type = 'job.completed'")
_PROVISIONING: Final = text("state = 'waiting' AND type <> 'job.completed'")
_HEADS: Final = text("state = 'waiting' AND type <> 'job.completed' AND reason <> 'behind'")
_BEHIND: Final = text("state = 'waiting' AND type <> 'job.completed' AND reason = 'behind'")
_FAILED: Final = text("state = 'failed'")
_WAITING: Final = text("state = 'waiting'")
_OF_A_JOB: Final = text("type = 'job.completed'")

_COLUMNS = tuple(field.name for field in fields(InboxRow))
_row_columns = [inbox.c[name] for name in _COLUMNS]
_ADDED = (
    "identity",
    "org_id",
    "type",
    "subject",
    "state",
    "phase",
    "reason",
    "origin",
    "round",
    "stored_at",
    "due_at",
    "attempts",
    "failure",
    "event",
)

#: What queries that are built once are given. No column has such a name: in an UPDATE it would be set.
_NOW: Final = bindparam("now", type_=inbox.c.due_at.type)
_OF_ORG: Final = bindparam("of_org", type_=inbox.c.org_id.type)
_OF_TYPE: Final = bindparam("of_type", type_=inbox.c.type.type)
_OF_SUBJECT: Final = bindparam("of_subject", type_=inbox.c.subject.type)
_OF_ROW: Final = bindparam("of_row", type_=inbox.c.inbox_id.type)
#: Due rows looked at, oldest first, before the organizations are probed one by one.
_WINDOW: Final = 1_000


async def add(tx: AsyncConnection, rows: Sequence[NewInboxRow]) -> None:
    """Keep these events, in the order received, of organizations locked in this transaction.

    An event about an organization or user that another one is waiting for stands behind it: not due, whatever
    was given.
    """
    in_hand = await _subjects_in_hand(tx, rows)
    values = []
    for row in rows:
        reason, due_at = row.reason, row.due_at
        if _queues(row):
            subject = (row.org_id, row.type.value, row.subject)
            if subject in in_hand:
                reason, due_at = WaitReason.BEHIND, None
            in_hand.add(subject)
        values.append(
            (
                row.identity,
                row.org_id,
                row.type,
                row.subject,
                row.state,
                row.phase,
                reason,
                row.origin,
                row.round,
                row.stored_at,
                due_at,
                0,
                row.failure,
                row.event,
            )
        )
    await insert_rows(tx, inbox, _ADDED, values)


def _queues(row: NewInboxRow) -> bool:
    return row.type is not EventType.JOB_COMPLETED and row.state is InboxState.WAITING


async def _subjects_in_hand(tx: AsyncConnection, rows: Sequence[NewInboxRow]) -> set[tuple[str, str, str]]:
    queued = [row for row in rows if _queues(row)]
    if not queued:
        return set()
    columns = inbox.c
    found = await tx.execute(
        select(columns.org_id, columns.type, columns.subject).where(
            _HEADS,
            among(tx, columns.org_id, {row.org_id for row in queued}),
            among(tx, columns.subject, {row.subject for row in queued}),
        )
    )
    return {(org_id, type_, subject) for org_id, type_, subject in found}


async def get(tx: AsyncConnection, inbox_id: int) -> InboxRow | None:
    """One event by its number; None where it is decided and gone."""
    return await _one(tx, select(*_row_columns).where(inbox.c.inbox_id == inbox_id))


async def of_identity(tx: AsyncConnection, identity: UUID) -> InboxRow | None:
    """One event by its identity; None where it is decided and gone."""
    return await _one(tx, select(*_row_columns).where(inbox.c.identity == identity))


async def waiting_jobs(tx: AsyncConnection, org_id: str, limit: int) -> list[InboxRow]:
    """An organization's first waiting jobs, in the order received."""
    query = (
        select(*_row_columns).where(_JOBS, inbox.c.org_id == org_id).order_by(inbox.c.inbox_id).limit(limit)
    )
    return [_row(row) for row in await tx.execute(query)]


async def expired_jobs(tx: AsyncConnection, org_id: str, now: datetime, limit: int) -> list[InboxRow]:
    """Those of an organization's waiting jobs that have waited long enough, in the order received."""
    columns = inbox.c
    query = (
        select(*_row_columns)
        .where(_JOBS, columns.org_id == org_id, columns.due_at <= now)
        .order_by(columns.inbox_id)
        .limit(limit)
    )
    return [_row(row) for row in await tx.execute(query)]


async def remove(tx: AsyncConnection, inbox_ids: Iterable[int]) -> None:
    """Drop decided events with their payloads. Then call `release_next_behind` for each subject."""
    done = sorted(inbox_ids)
    if done:
        form, value = wanted(tx, inbox.c.inbox_id, done)
        await tx.execute(_removing(form), {"wanted": value})


@lru_cache(maxsize=4)
def _removing(form: Form) -> Delete:
    return delete(inbox).where(is_wanted(inbox.c.inbox_id, form))


async def hold_dependents(tx: AsyncConnection, org_ids: Iterable[str]) -> None:
    """Stop the clock of whatever waits for these organizations: an org.created of theirs is in hand."""
    held = sorted(org_ids)
    if not held:
        return
    columns = inbox.c
    for kind in (_JOBS, _PROVISIONING):
        await tx.execute(
            sql_update(inbox)
            .where(
                kind,
                among(tx, columns.org_id, held),
                columns.reason == WaitReason.ORGANIZATION,
                columns.due_at.is_not(None),
            )
            .values(due_at=None)
        )


async def start_dependents_wait(tx: AsyncConnection, org_id: str, due_at: datetime) -> None:
    """Let whatever waits for this organization wait until `due_at` at the longest: its org.created failed."""
    columns = inbox.c
    for kind in (_JOBS, _PROVISIONING):
        await tx.execute(
            sql_update(inbox)
            .where(kind, columns.org_id == org_id, columns.reason == WaitReason.ORGANIZATION)
            .values(due_at=due_at)
        )


async def release_users(tx: AsyncConnection, org_id: str, now: datetime) -> None:
    """Give the users who waited for this organization their turn: it is active."""
    await tx.execute(_RELEASE_USERS, {"of_org": org_id, "now": now})


_RELEASE_USERS: Final = (
    sql_update(inbox)
    .where(_PROVISIONING, inbox.c.org_id == _OF_ORG, inbox.c.reason == WaitReason.ORGANIZATION)
    .values(due_at=_NOW, reason=WaitReason.TURN)
)


async def runnable_orgs(
    tx: AsyncConnection,
    now: datetime,
    *,
    gate_open: bool,
    limit: int,
    tried_before: datetime | None = None,
) -> list[str]:
    """The organizations with provisioning to do whose turn comes first; those under a lease are left out.

    Fair: the turn counts from when the oldest row came due, or from when the organization was served last if
    that is later. One organization with many due rows takes one turn like any other, at no greater cost.

    Args:
        tx: The transaction.
        now: The database's clock.
        gate_open: Whether LiteLLM can be called; if not, only what can be decided without it counts
            (`due_rows`).
        limit: How many at most.
        tried_before: Events first tried at or before this have used up their time for retries.
    """
    if not gate_open:
        candidates = (
            select(inbox.c.org_id, func.min(inbox.c.due_at).label("oldest"))
            .select_from(inbox.outerjoin(organizations, organizations.c.org_id == inbox.c.org_id))
            .where(_PROVISIONING, inbox.c.due_at <= now, _without_litellm(now, tried_before))
            .group_by(inbox.c.org_id)
        )
        return [row.org_id for row in await tx.execute(_turns(candidates, now, limit))]
    rows = (await tx.execute(_turns_in_window(limit), {"now": now})).all()
    # Beyond the window, turns begin at its edge: up to there the order is certain.
    if rows[0].seen < _WINDOW:
        return [row.org_id for row in rows if row.org_id is not None]
    certain = [row.org_id for row in rows if row.certain]
    if len(certain) == limit:
        return certain
    return [row.org_id for row in await tx.execute(_turns(_oldest_due_of_each(now), now, limit))]


# Asked several times a second where nothing happens: to build such a query takes longer than to answer it.
@lru_cache(maxsize=64)
def _turns_in_window(limit: int) -> Select[Any]:
    window = (
        select(inbox.c.org_id, inbox.c.due_at)
        .where(_PROVISIONING, inbox.c.due_at <= _NOW)
        .order_by(inbox.c.due_at)
        .limit(_WINDOW)
        .cte("due_window")
    )
    extent = select(func.count().label("seen"), func.max(window.c.due_at).label("edge")).subquery()
    grouped = select(window.c.org_id, func.min(window.c.due_at).label("oldest")).group_by(window.c.org_id)
    turns = _turns(grouped, _NOW, limit).subquery()
    return (
        select(extent.c.seen, turns.c.org_id, (turns.c.turn <= extent.c.edge).label("certain"))
        .select_from(extent.outerjoin(turns, true()))
        .order_by(turns.c.turn, turns.c.org_id)
    )


def _turns(candidates: Select[Any], now: datetime | BindParameter[datetime], limit: int) -> Select[Any]:
    of = candidates.subquery()
    turn = case((leases.c.served_at > of.c.oldest, leases.c.served_at), else_=of.c.oldest)
    free = or_(leases.c.token.is_(None), leases.c.expires_at <= now)
    return (
        select(of.c.org_id, turn.label("turn"))
        .select_from(of.outerjoin(leases, leases.c.scope == literal(org_scope("")) + of.c.org_id))
        .where(free)
        .order_by(turn, of.c.org_id)
        .limit(limit)
    )


def _oldest_due_of_each(now: datetime) -> Select[Any]:
    # One probe of the index for each organization instead of one for each row.
    due = text("due_at IS NOT NULL")
    first = select(inbox.c.org_id).where(_PROVISIONING, due).order_by(inbox.c.org_id).limit(1)
    walk = select(first.scalar_subquery().label("org_id")).cte("walk", recursive=True)
    following = (
        select(inbox.c.org_id)
        .where(_PROVISIONING, due, inbox.c.org_id > walk.c.org_id)
        .order_by(inbox.c.org_id)
        .limit(1)
        .correlate(walk)
    )
    walk = walk.union_all(select(following.scalar_subquery()).where(walk.c.org_id.is_not(None)))
    oldest = (
        select(inbox.c.due_at)
        .where(_PROVISIONING, inbox.c.org_id == walk.c.org_id, inbox.c.due_at.is_not(None))
        .order_by(inbox.c.due_at)
        .limit(1)
        .correlate(walk)
        .scalar_subquery()
    )
    each = select(walk.c.org_id, oldest.label("oldest")).where(walk.c.org_id.is_not(None)).subquery()
    return select(each).where(each.c.oldest <= now)


def _without_litellm(now: datetime, tried_before: datetime | None) -> ColumnElement[bool]:
    columns = inbox.c
    is_member = exists().where(members.c.org_id == columns.org_id, members.c.user_id == columns.subject)
    is_user = columns.type == EventType.USER_JOINED
    is_active = func.coalesce(organizations.c.status, "") == OrgStatus.ACTIVE
    provisioning = columns.phase == Phase.PROVISIONING
    ways = [
        and_(provisioning, columns.type == EventType.ORG_CREATED, is_active),
        and_(provisioning, is_user, is_member),
        and_(provisioning, is_user, ~is_active),
        and_(columns.phase == Phase.COMPENSATING, columns.compensate_until <= now),
    ]
    if tried_before is not None:
        ways.append(and_(provisioning, columns.first_try_at <= tried_before))
    return or_(*ways)


async def due_rows(
    tx: AsyncConnection,
    org_id: str,
    now: datetime,
    limit: int,
    *,
    gate_open: bool = True,
    tried_before: datetime | None = None,
) -> list[InboxRow]:
    """An organization's due events: its own first, then its users' by when they came due.

    With the gate closed, only those that can be decided without LiteLLM: the organization or member stands
    already, the organization is not active, or the time for retries or for taking back has run out.
    """
    if gate_open:
        query = _due(limit)
    else:
        joined = inbox.outerjoin(organizations, organizations.c.org_id == inbox.c.org_id)
        query = _due_of(joined, limit, _without_litellm(now, tried_before))
    return [_row(row) for row in await tx.execute(query, {"of_org": org_id, "now": now})]


@lru_cache(maxsize=8)
def _due(limit: int) -> Select[Any]:
    return _due_of(inbox, limit)


def _due_of(source: FromClause, limit: int, *conditions: ColumnElement[bool]) -> Select[Any]:
    columns = inbox.c
    parts: list[Select[Any]] = [
        select(
            select(columns.inbox_id, columns.due_at, literal_column(str(place)).label("place"))
            .select_from(source)
            .where(_PROVISIONING, columns.org_id == _OF_ORG, columns.due_at <= _NOW, *conditions)
            .where(columns.type == type_)
            .order_by(columns.due_at, columns.inbox_id)
            .limit(limit)
            .subquery()
        )
        for place, type_ in enumerate((EventType.ORG_CREATED, EventType.USER_JOINED))
    ]
    listed = union_all(*parts).subquery()
    return (
        select(*_row_columns)
        .join(listed, listed.c.inbox_id == columns.inbox_id)
        .order_by(listed.c.place, listed.c.due_at, listed.c.inbox_id)
        .limit(limit)
    )


async def note_litellm_down(
    tx: AsyncConnection, now: datetime, *, tried_before: datetime | None = None, limit: int = 5_000
) -> int:
    """Say of due events that wait for nothing but LiteLLM that they wait for it; it is down.

    Only for whoever looks: nothing else goes by it. Rows that somebody else is writing are left out.

    Args:
        tx: The transaction.
        now: The database's clock.
        tried_before: As in `runnable_orgs`.
        limit: How many at most.

    Returns:
        How many there were.
    """
    # A common table expression is computed once; as a subquery, PostgreSQL may lock and find anew.
    found = (
        _waits_for_litellm(now, tried_before)
        .limit(limit)
        .with_for_update(of=inbox, skip_locked=True)
        .cte("waits_for_litellm")
    )
    noted = await tx.execute(
        sql_update(inbox)
        .where(inbox.c.inbox_id.in_(select(found.c.inbox_id)), _WAITING, inbox.c.reason == WaitReason.TURN)
        .values(reason=WaitReason.LITELLM)
        .returning(inbox.c.inbox_id)
    )
    return len(noted.all())


async def has_unnoted(tx: AsyncConnection, now: datetime, *, tried_before: datetime | None = None) -> bool:
    """Whether `note_litellm_down` would find an event."""
    return await tx.scalar(_waits_for_litellm(now, tried_before).limit(1)) is not None


def _waits_for_litellm(now: datetime, tried_before: datetime | None) -> Select[Any]:
    columns = inbox.c
    return (
        select(columns.inbox_id)
        .select_from(inbox.outerjoin(organizations, organizations.c.org_id == columns.org_id))
        .where(
            _PROVISIONING,
            columns.reason == WaitReason.TURN,
            columns.due_at <= now,
            _without_litellm(now, tried_before).is_not(true()),
        )
    )


async def update(tx: AsyncConnection, row: InboxRow) -> None:
    """Write where an event stands: every column but what it is (identity, subject, stored_at, event)."""
    written = {name: getattr(row, name) for name in _CHANGING}
    await tx.execute(_UPDATE, {"of_row": row.inbox_id, **written})


_CHANGING: Final = (
    "state",
    "phase",
    "reason",
    "origin",
    "round",
    "due_at",
    "first_try_at",
    "attempts",
    "compensate_until",
    "failure",
)
_UPDATE: Final = sql_update(inbox).where(inbox.c.inbox_id == _OF_ROW)


async def fail(tx: AsyncConnection, row: InboxRow) -> None:
    """Keep a failed event, with its `failure`, until it is tried again. Then call `release_next_behind`."""
    failed = replace(
        row, state=InboxState.FAILED, reason=WaitReason.FAILED, due_at=None, compensate_until=None
    )
    await update(tx, failed)


async def release_next_behind(
    tx: AsyncConnection,
    org_id: str,
    type: EventType,  # noqa: A002 (the column's name)
    subject: str,
    now: datetime,
) -> bool:
    """Give the next event about a subject its turn, after the one in hand was removed or failed.

    Returns:
        Whether there was one.

    Raises:
        sqlalchemy.exc.IntegrityError: One is in hand still.
    """
    given = {"of_org": org_id, "of_type": type, "of_subject": subject, "now": now}
    return await tx.scalar(_RELEASE_NEXT, given) is not None


_FIRST_BEHIND: Final = (
    select(inbox.c.inbox_id)
    .where(_BEHIND, inbox.c.org_id == _OF_ORG, inbox.c.type == _OF_TYPE, inbox.c.subject == _OF_SUBJECT)
    .order_by(inbox.c.inbox_id)
    .limit(1)
    .scalar_subquery()
)
_RELEASE_NEXT: Final = (
    sql_update(inbox)
    .where(inbox.c.inbox_id == _FIRST_BEHIND)
    .values(due_at=_NOW, reason=WaitReason.TURN)
    .returning(inbox.c.inbox_id)
)


async def has_waiting(tx: AsyncConnection, org_id: str, type: EventType, subject: str) -> bool:  # noqa: A002
    """Whether an event about this subject is in hand or waits behind one."""
    columns = inbox.c
    found = exists().where(
        _PROVISIONING, columns.org_id == org_id, columns.type == type, columns.subject == subject
    )
    return bool(await tx.scalar(select(found)))


async def drainable_orgs(tx: AsyncConnection, now: datetime, limit: int) -> list[str]:
    """The organizations with waiting jobs that can be decided now, the one with the oldest job first.

    Those that are active, and those without an org.created in hand of which a job has waited long enough.
    """
    return list((await tx.scalars(_drainable(limit), {"now": now})).all())


@lru_cache(maxsize=8)
def _drainable(limit: int) -> Select[Any]:
    org = organizations.c
    overdue = exists().where(_JOBS, inbox.c.org_id == org.org_id, inbox.c.due_at <= _NOW)
    oldest = (
        select(inbox.c.inbox_id)
        .where(_JOBS, inbox.c.org_id == org.org_id)
        .order_by(inbox.c.inbox_id)
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(org.org_id)
        .where(
            text("waiting_jobs > 0"),
            or_(
                org.status == OrgStatus.ACTIVE,
                and_(org.status.in_([OrgStatus.UNKNOWN, OrgStatus.FAILED]), overdue),
            ),
        )
        .order_by(oldest)
        .limit(limit)
    )


async def waiting_of(tx: AsyncConnection, org_id: str, *, after: int = 0, limit: int = 500) -> list[InboxRow]:
    """The first `limit` events of an organization that wait, beyond number `after`, in the order received."""
    columns = inbox.c
    # Each part by itself: of a million waiting jobs no more are looked at than are wanted.
    parts = [
        select(
            select(columns.inbox_id)
            .where(kind, columns.org_id == org_id, columns.inbox_id > after)
            .order_by(columns.inbox_id)
            .limit(limit)
            .subquery()
        )
        for kind in (_JOBS, _PROVISIONING)
    ]
    listed = union_all(*parts).subquery()
    query = (
        select(*_row_columns)
        .join(listed, listed.c.inbox_id == columns.inbox_id)
        .order_by(columns.inbox_id)
        .limit(limit)
    )
    return [_row(row) for row in await tx.execute(query)]


async def count_waiting(tx: AsyncConnection, org_id: str) -> int:
    """How many events of one organization wait."""
    counts = [
        select(func.count()).select_from(inbox).where(kind, inbox.c.org_id == org_id).scalar_subquery()
        for kind in (_JOBS, _PROVISIONING)
    ]
    return await tx.scalar(select(counts[0] + counts[1])) or 0


async def failures_of(tx: AsyncConnection, org_id: str, limit: int = 100) -> list[FailedSummary]:
    """Why events of one organization failed, the organization's own first, then the most frequent."""
    columns = inbox.c
    count = func.count()
    own_first = case((columns.type == EventType.ORG_CREATED, 0), else_=1)
    query = (
        select(columns.type, columns.failure, count, func.min(columns.stored_at))
        .where(_FAILED, columns.org_id == org_id)
        .group_by(columns.type, columns.failure)
        .order_by(own_first, count.desc(), columns.type, columns.failure)
        .limit(limit)
    )
    return [FailedSummary(EventType(type_), *rest) for type_, *rest in await tx.execute(query)]


async def of_job(tx: AsyncConnection, org_id: str, job_id: str, limit: int = 100) -> list[InboxRow]:
    """The events about one job that wait or failed, in the order received."""
    columns = inbox.c
    query = (
        select(*_row_columns)
        .where(_OF_A_JOB, columns.org_id == org_id, columns.subject == job_id)
        .order_by(columns.inbox_id)
        .limit(limit)
    )
    return [_row(row) for row in await tx.execute(query)]


async def waiting_for_org(tx: AsyncConnection) -> dict[str, int]:
    """How many events wait for each organization that is not active, the most first."""
    columns = inbox.c
    number = func.count()
    query = (
        select(columns.org_id, number)
        .where(_WAITING, columns.reason == WaitReason.ORGANIZATION)
        .group_by(columns.org_id)
        .order_by(number.desc(), columns.org_id)
    )
    return {org_id: count for org_id, count in await tx.execute(query)}  # noqa: C416 (rows, not pairs)


async def waiting_of_origin(tx: AsyncConnection, origin: Origin) -> dict[WaitReason, int]:
    """How many events wait that came this way, by reason."""
    columns = inbox.c
    query = (
        select(columns.reason, func.count())
        .where(_WAITING, columns.origin == origin)
        .group_by(columns.reason)
    )
    return {WaitReason(reason): count for reason, count in await tx.execute(query)}


async def waiting_summary(tx: AsyncConnection, now: datetime | None = None) -> list[WaitingSummary]:  # noqa: ARG001
    """What waits, counted by reason."""
    columns = inbox.c
    query = (
        select(columns.reason, func.count(), func.min(columns.stored_at))
        .where(_WAITING)
        .group_by(columns.reason)
        .order_by(columns.reason)
    )
    return [
        WaitingSummary(WaitReason(reason), count, oldest) for reason, count, oldest in await tx.execute(query)
    ]


async def failed_rows(
    tx: AsyncConnection,
    *,
    org_id: str | None = None,
    identities: Sequence[UUID] | None = None,
    stored_from: datetime | None = None,
    stored_to: datetime | None = None,
    after: int = 0,
    limit: int = 500,
) -> list[InboxRow]:
    """Failed events beyond number `after` that meet every condition given; `stored_to` is exclusive."""
    columns = inbox.c
    query = (
        select(*_row_columns).where(_FAILED, columns.inbox_id > after).order_by(columns.inbox_id).limit(limit)
    )
    if org_id is not None:
        query = query.where(columns.org_id == org_id)
    if identities is not None:
        query = query.where(among(tx, columns.identity, identities))
    if stored_from is not None:
        query = query.where(columns.stored_at >= stored_from)
    if stored_to is not None:
        query = query.where(columns.stored_at < stored_to)
    return [_row(row) for row in await tx.execute(query)]


async def reopen(
    tx: AsyncConnection,
    row: InboxRow,
    *,
    reason: WaitReason,
    due_at: datetime | None,
    origin: Origin = Origin.RETRY,
) -> InboxRow | None:
    """Give a failed event another round, of an organization locked in this transaction.

    A job counts among its organization's `waiting_jobs` again: that is the caller's to save.

    Returns:
        The row as it stands; behind another one, where one about the same subject waits. None where it isn't
        failed any more.
    """
    current = await get(tx, row.inbox_id)
    if current is None or current.state is not InboxState.FAILED:
        return None
    behind = current.type is not EventType.JOB_COMPLETED and await has_waiting(
        tx, current.org_id, current.type, current.subject
    )
    opened = replace(
        current,
        state=InboxState.WAITING,
        phase=Phase.PROVISIONING,
        reason=WaitReason.BEHIND if behind else reason,
        origin=origin,
        round=current.round + 1,
        due_at=None if behind else due_at,
        first_try_at=None,
        attempts=0,
        compensate_until=None,
        failure=None,
    )
    await update(tx, opened)
    return opened


async def _one(tx: AsyncConnection, query: Select[Any]) -> InboxRow | None:
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else _row(row)


def _row(row: Sequence[Any]) -> InboxRow:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["type"] = EventType(values["type"])
    values["state"] = InboxState(values["state"])
    values["phase"] = Phase(values["phase"])
    values["reason"] = WaitReason(values["reason"])
    values["origin"] = Origin(values["origin"])
    return InboxRow(**values)
