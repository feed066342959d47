"""Outcomes as kept: what became of an event or a job, and what can be published again.

Guarantee: the bytes are those that were published, for as long as they are kept (`storage.retention`).
New ones enter through `storage.outbox.append_outcomes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.outcomes import OutcomeType, Stream
from storage.bulk import among
from storage.tables import outcomes


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """An outcome with its number; `value` is the record's value on Kafka."""

    outcome_seq: int
    outcome_id: UUID
    org_id: str
    type: OutcomeType
    stream: Stream
    cause_identity: UUID
    job_key: UUID | None
    round: int
    decided_at: datetime
    value: bytes


_columns = [outcomes.c[field.name] for field in fields(StoredOutcome)]
_query = select(*_columns).order_by(outcomes.c.outcome_seq)


async def of_job(
    tx: AsyncConnection, org_id: str, job_key: UUID, *, after: int = 0, limit: int = 500
) -> list[StoredOutcome]:
    """What was said of one job (its `charge_id`) beyond number `after`, in the order decided."""
    columns = outcomes.c
    query = _query.where(
        columns.job_key == job_key, columns.org_id == org_id, columns.outcome_seq > after
    ).limit(limit)
    return [_stored(row) for row in await tx.execute(query)]


async def of_charges(tx: AsyncConnection, job_keys: Sequence[UUID]) -> dict[UUID, StoredOutcome]:
    """The outcome that told of the charge of each of these jobs, as far as it is kept."""
    if not job_keys:
        return {}
    columns = outcomes.c
    query = _query.where(among(tx, columns.job_key, job_keys), columns.type == OutcomeType.CREDITS_DEDUCTED)
    rows = map(_stored, await tx.execute(query))
    return {stored.job_key: stored for stored in rows if stored.job_key is not None}


async def of_event(tx: AsyncConnection, identity: UUID) -> list[StoredOutcome]:
    """The outcomes of one event, one a round, in the order decided."""
    return [_stored(row) for row in await tx.execute(_query.where(outcomes.c.cause_identity == identity))]


async def latest_of_events(tx: AsyncConnection, identities: Sequence[UUID]) -> dict[UUID, StoredOutcome]:
    """The last outcome of each of these events that has one."""
    if not identities:
        return {}
    rows = await tx.execute(_query.where(among(tx, outcomes.c.cause_identity, identities)))
    return {stored.cause_identity: stored for stored in map(_stored, rows)}


async def last_number(tx: AsyncConnection) -> int:
    """The number of the last outcome there is; 0 where there is none."""
    return await tx.scalar(select(func.max(outcomes.c.outcome_seq))) or 0


async def page(
    tx: AsyncConnection,
    *,
    org_id: str | None = None,
    identities: Sequence[UUID] | None = None,
    decided_from: datetime | None = None,
    decided_to: datetime | None = None,
    after: int = 0,
    limit: int = 500,
) -> list[StoredOutcome]:
    """Outcomes beyond number `after` that meet every condition given; `decided_to` is exclusive."""
    columns = outcomes.c
    query = _query.where(columns.outcome_seq > after).limit(limit)
    if org_id is not None:
        query = query.where(columns.org_id == org_id)
    if identities is not None:
        query = query.where(among(tx, columns.cause_identity, identities))
    if decided_from is not None:
        query = query.where(columns.decided_at >= decided_from)
    if decided_to is not None:
        query = query.where(columns.decided_at < decided_to)
    return [_stored(row) for row in await tx.execute(query)]


def _stored(row: Sequence[Any]) -> StoredOutcome:
    number, outcome_id, org_id, type_, stream, *rest = row
    return StoredOutcome(number, outcome_id, org_id, OutcomeType(type_), Stream(stream), *rest)
