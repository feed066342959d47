"""One batch, one transaction: identities, charges, waiting rows, outcomes and dead letters together.

Everything an event causes at ingest stands in the database after this transaction, or nothing does. That is
what lets offsets be committed afterwards without a thought for what is still under way: nothing is.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.decisions.jobs import must_wait
from consumer.decisions.waiting import join_queue
from consumer.ingest.judging import IngestPolicy, Judge, job_key
from schemas.dead_letters import DeadLetterReason, dead_letter_digest
from schemas.decode import IncomingRecord, Rejected
from schemas.event import InboundEvent
from schemas.events import EventType
from schemas.outcomes import Origin, OutcomeType
from storage import identities, inbox, ledger, organizations, outbox
from storage.dead_letters import DeadLetter
from storage.inbox import NewInboxRow
from storage.organizations import OrgState, OrgStatus

# A member of an enumeration is looked up by a Python function before 3.12: here once, not once an event.
_JOB = EventType.JOB_COMPLETED

JUDGED_PER_TURN = 500
"""After how many judged events the event loop gets its turn (heartbeats, the next fetch): ten milliseconds.

No sooner, for others wait at the locks meanwhile, and decoding the next batch can."""
WRITE_AT = 500
"""From how many outcomes on the database is given them while more are decided: both then work at once."""


class Received(NamedTuple):
    """A valid event with the record that brought it, kept in case the event turns out to conflict."""

    event: InboundEvent
    record: IncomingRecord


class RejectedRecord(NamedTuple):
    """A record that is no valid event, with what is wrong with it."""

    rejected: Rejected
    record: IncomingRecord


@dataclass(slots=True)
class Applied:
    """What a batch came to, for metrics and for waking those who go on with it."""

    accepted: Counter[EventType] = field(default_factory=Counter)
    duplicates: Counter[EventType] = field(default_factory=Counter)
    conflicts: Counter[EventType] = field(default_factory=Counter)
    """New dead letters of valid events whose identity stands for other data."""
    outcomes: Counter[OutcomeType] = field(default_factory=Counter)
    dead_letters: Counter[DeadLetterReason] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    """New dead letters that are no conflicts, by the event's type as far as it could be read."""
    written: dict[int, bytes] = field(default_factory=dict)
    """The values of its outcomes, by their numbers: for the relay, once this is committed."""
    needs_provisioning: bool = False
    needs_draining: bool = False

    def __add__(self, other: "Applied") -> "Applied":
        """Return what two parts of one batch came to together."""
        return Applied(
            accepted=self.accepted + other.accepted,
            duplicates=self.duplicates + other.duplicates,
            conflicts=self.conflicts + other.conflicts,
            outcomes=self.outcomes + other.outcomes,
            dead_letters=self.dead_letters + other.dead_letters,
            rejected=self.rejected + other.rejected,
            written=self.written | other.written,
            needs_provisioning=self.needs_provisioning or other.needs_provisioning,
            needs_draining=self.needs_draining or other.needs_draining,
        )


async def apply_batch(
    tx: AsyncConnection,
    received: Sequence[Received],
    rejected: Sequence[RejectedRecord],
    *,
    policy: IngestPolicy,
    origin: Origin,
    now: datetime,
) -> Applied:
    """Apply a batch within the transaction `tx`; all of it takes effect, or none.

    Guarantees: an identity that is known has no effect; the same identity with other data becomes a dead
    letter; jobs of one organization are judged in the order of `received`; rows are locked in sorted order.

    Args:
        tx: an open transaction.
        received: valid events, in the order in which they were read.
        rejected: records that are no valid events.
        policy: the settings that decide.
        origin: how the events came here.
        now: when this is decided, UTC, on the database's clock.

    Raises:
        storage.database.DataRefused: the database refuses some record's data; nothing was applied.
    """
    applied = Applied()
    fresh, conflicting = await _resolve_identities(tx, received, applied)
    await _apply_events(tx, fresh, policy=policy, origin=origin, now=now, applied=applied)

    letters = [dead_letter_of(r.record, r.rejected, origin=origin, now=now) for r in rejected]
    letters += [dead_letter_of(r.record, contradiction(r.event), origin=origin, now=now) for r in conflicting]
    if letters:
        stored = await outbox.append_dead_letters(tx, letters)
        for letter, new in zip(letters, stored, strict=True):
            if new:
                applied.dead_letters[letter.reason] += 1
                if letter.reason is DeadLetterReason.ID_CONFLICT:
                    applied.conflicts[EventType(letter.event_type or "")] += 1
                else:
                    applied.rejected[letter.event_type or ""] += 1
    return applied


async def _resolve_identities(
    tx: AsyncConnection, received: Sequence[Received], applied: Applied
) -> tuple[list[Received], list[Received]]:
    """Split events into those seen for the first time and those that contradict an earlier one."""
    first: dict[UUID, bytes] = {}
    for one in received:
        first.setdefault(one.event.identity, one.event.fingerprint)
    if not first:
        return [], []
    registered = await identities.register(tx, first.items())

    fresh: list[Received] = []
    conflicting: list[Received] = []
    duplicates: list[EventType] = []
    unseen = set(registered.new)
    for one in received:
        event = one.event
        if event.identity in unseen:
            unseen.discard(event.identity)
            fresh.append(one)
        elif event.fingerprint == registered.known.get(event.identity, first[event.identity]):
            duplicates.append(event.type)
        else:
            conflicting.append(one)
    applied.accepted.update(one.event.type for one in fresh)
    applied.duplicates.update(duplicates)
    return fresh, conflicting


async def _apply_events(
    tx: AsyncConnection,
    fresh: Sequence[Received],
    *,
    policy: IngestPolicy,
    origin: Origin,
    now: datetime,
    applied: Applied,
) -> None:
    if not fresh:
        return
    before = await organizations.lock(tx, sorted({one.event.org_id for one in fresh}))
    states = dict(before)
    keys = {job_key(one.event) for one in fresh if one.event.type is _JOB}
    judge = Judge(policy, now, charged=await ledger.charged(tx, sorted(keys)) if keys else set())
    rows: list[NewInboxRow] = []
    async with _writing(judge, tx) as write_beside:
        for number, one in enumerate(fresh, start=1):
            event = one.event
            state = states[event.org_id]
            if event.type is _JOB and not must_wait(state):
                states[event.org_id] = judge.judge(state, event, origin=origin, stored_at=now)
            else:
                states[event.org_id], row = keep(state, event, policy=policy, origin=origin, now=now)
                rows.append(row)
            if number % JUDGED_PER_TURN == 0:
                if judge.gathered >= WRITE_AT and number < len(fresh):
                    await write_beside()
                await asyncio.sleep(0)

    if rows:
        await inbox.add(tx, rows)
        # Where their org.created is in the database now, whoever waits for it waits without a deadline.
        arrived = [org_id for org_id, state in states.items() if state.status is not before[org_id].status]
        await inbox.hold_dependents(tx, arrived)
    changed = [state for org_id, state in states.items() if state != before[org_id]]
    await judge.write(tx, changed)

    applied.outcomes = judge.outcomes
    applied.written = judge.written
    applied.needs_provisioning = any(row.type is not _JOB for row in rows)
    applied.needs_draining = any(
        row.type is _JOB and states[row.org_id].status is OrgStatus.ACTIVE for row in rows
    )


@contextlib.asynccontextmanager
async def _writing(judge: Judge, tx: AsyncConnection) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Give what has the database write what was judged so far, while the next jobs are judged.

    One write at a time; at the end of the block the last has ended, whatever the block came to.
    """
    writing: asyncio.Future[None] | None = None

    async def write_beside() -> None:
        nonlocal writing
        if writing is not None:
            await writing
        writing = asyncio.ensure_future(judge.write(tx))

    try:
        yield write_beside
    except BaseException:
        if writing is not None:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        raise
    if writing is not None:
        await writing


def keep(
    state: OrgState, event: InboundEvent, *, policy: IngestPolicy, origin: Origin, now: datetime
) -> tuple[OrgState, NewInboxRow]:
    """Return the row that keeps an event which must wait or needs LiteLLM, and the state with it."""
    state, reason, due_at = join_queue(state, event.type, now=now, dependency_wait=policy.dependency_wait)
    row = NewInboxRow(
        identity=event.identity,
        org_id=event.org_id,
        type=event.type,
        subject=event.subject,
        reason=reason,
        origin=origin,
        round=1,
        stored_at=now,
        due_at=due_at,
        event=event.stored,
    )
    return state, row


def dead_letter_of(
    record: IncomingRecord, rejected: Rejected, *, origin: Origin, now: datetime
) -> DeadLetter:
    """Return the dead letter of a record: its bytes and headers untouched, beside what is wrong with it."""
    return DeadLetter(
        digest=dead_letter_digest(record.topic, record.partition, record.offset, record.value),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        key=record.key,
        value=record.value,
        headers=record.headers,
        reason=rejected.reason,
        error=rejected.error,
        event_id=rejected.event_id,
        event_source=rejected.event_source,
        event_type=rejected.event_type,
        dead_lettered_at=now,
        origin=origin,
    )


def rejection(event: InboundEvent, reason: DeadLetterReason, error: str) -> Rejected:
    """Return the rejection of a valid event that can't be taken all the same."""
    return Rejected(
        reason=reason, error=error, event_id=event.id, event_source=event.source, event_type=event.type
    )


def contradiction(event: InboundEvent) -> Rejected:
    """Return the rejection of an event whose identity stands for other data."""
    error = "id: an event with this source and id but other data was accepted before"
    return rejection(event, DeadLetterReason.ID_CONFLICT, error)
