"""Rows as the tests want them: only what a test is about has to be said."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.dead_letters import DeadLetterReason, dead_letter_digest
from schemas.events import EventType
from schemas.outcomes import EncodedOutcome, Origin, OutcomeType, Stream
from schemas.transactions import charge_id
from storage import organizations
from storage.dead_letters import DeadLetter
from storage.inbox import NewInboxRow, WaitReason
from storage.ledger import EntryKind, LedgerEntry
from storage.organizations import OrgProfile, OrgState

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def first_column(parameters: Any) -> list[str]:
    """The keys of the rows that a statement inserts, in their order, as the driver is given them."""
    if isinstance(parameters, list):  # SQLite: a row each
        return [str(row[0]) for row in parameters]
    # PostgreSQL: a column each, joined into one text.
    return next(p for p in parameters if isinstance(p, str) and "\x1f" in p).split("\x1f")


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def event(org_id: str = "acme", **given: Any) -> NewInboxRow:
    row = NewInboxRow(
        identity=uuid4(),
        org_id=org_id,
        type=EventType.USER_JOINED,
        subject="u-1",
        reason=WaitReason.TURN,
        origin=Origin.LIVE,
        event=b"{}",
        stored_at=NOON,
        due_at=NOON,
    )
    return replace(row, **given)


def org_event(org_id: str = "acme", **given: Any) -> NewInboxRow:
    return event(org_id, **{"type": EventType.ORG_CREATED, "subject": "", **given})


def job_event(org_id: str = "acme", job_id: str = "j-1", **given: Any) -> NewInboxRow:
    row: dict[str, Any] = {
        "type": EventType.JOB_COMPLETED,
        "subject": job_id,
        "reason": WaitReason.ORGANIZATION,
        "due_at": None,
    }
    return event(org_id, **{**row, **given})


def outcome(org_id: str = "acme", value: bytes = b"{}", **given: Any) -> EncodedOutcome:
    encoded = EncodedOutcome(
        id=uuid4(),
        type=OutcomeType.CREDITS_DEDUCTED,
        stream=Stream.CREDITS,
        org_id=org_id,
        value=value,
        decided_at=NOON,
        round=1,
        cause_identity=uuid4(),
        job_key=None,
    )
    return encoded._replace(**given)


def letter(offset: int = 0, **given: Any) -> DeadLetter:
    value = given.get("value", b"\x00not json")
    found = DeadLetter(
        digest=dead_letter_digest("job.completed", 0, offset, value),
        topic="job.completed",
        partition=0,
        offset=offset,
        timestamp_ms=1_770_000_000_000,
        key=b"acme",
        value=value,
        headers=(("trace", b"\xff"), ("nothing", None), ("trace", b"again")),
        reason=DeadLetterReason.INVALID_JSON,
        error="not UTF-8",
        event_id=None,
        event_source=None,
        event_type=None,
        dead_lettered_at=NOON,
        origin=Origin.LIVE,
    )
    return replace(found, **given)


def entry(state: OrgState, credits_: int, *, job_id: str | None = None, **given: Any) -> LedgerEntry:
    """The entry that follows a state."""
    kind = EntryKind.CHARGE if job_id is not None else EntryKind.GRANT
    following = LedgerEntry(
        transaction_id=uuid4() if job_id is None else charge_id(state.org_id, job_id),
        org_id=state.org_id,
        entry=state.entries + 1,
        kind=kind,
        credits=credits_,
        balance_after=state.balance + credits_,
        sequence=None if job_id is None else state.charges + 1,
        job_id=job_id,
        reason=None,
        corrects=None,
        created_at=NOON,
    )
    return following._replace(**given)


def booked(state: OrgState, made: LedgerEntry) -> OrgState:
    """The state that follows an entry."""
    return state._replace(
        balance=made.balance_after,
        entries=made.entry,
        charges=state.charges if made.sequence is None else made.sequence,
    )


def profile(org_id: str = "acme") -> OrgProfile:
    return OrgProfile(
        org_id=org_id,
        name="Acme, Ltd.",
        owner_user_id="owner",
        team_id=org_id,
        adopted=False,
        max_budget_usd="25.00",
        models=("gpt-ö", "a"),
        metadata='{"tier":"gold"}',
        provisioned_at=NOON,
    )


async def put_org(tx: AsyncConnection, org_id: str = "acme", **given: Any) -> OrgState:
    """An organization in a state of the test's choice."""
    stub = (await organizations.lock(tx, [org_id]))[org_id]
    state = stub._replace(**given)
    await organizations.save(tx, [state])
    return state


async def put_active_org(tx: AsyncConnection, org_id: str = "acme") -> OrgState:
    stub = (await organizations.lock(tx, [org_id]))[org_id]
    return await organizations.activate(tx, stub, profile(org_id))


def fingerprints(ids: Iterable[UUID], version: bytes = b"\x01") -> list[tuple[UUID, bytes]]:
    return [(identity, version + identity.bytes * 2) for identity in ids]
