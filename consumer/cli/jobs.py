"""`quartermaster job show`: what became of one job."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import shlex
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.cli.arguments import Identifier, org_id_argument
from consumer.cli.command import CommandFailed, asynchronous, database_of_environment
from consumer.cli.output import brief, json_option, print_facts, print_json, print_table, say
from consumer.cli.paging import MOST
from consumer.cli.waiting import failing, waits_for
from schemas.json_codec import parse_trusted_json
from schemas.outcomes import OutcomeType
from schemas.timestamps import format_rfc3339
from schemas.transactions import charge_id
from storage import inbox, ledger, organizations, outcomes
from storage.inbox import InboxRow, InboxState
from storage.outcomes import StoredOutcome

_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event that names the job; without outcome it waits, `waits_for` and `due_at` saying how.

    Where it waits again, after a refusal, the outcome of the round before stands beside it.
    """

    source: str
    id: str
    status: str
    outcome: str | None = None
    decided_at: datetime | None = None
    outcome_id: UUID | None = None
    round: int = 1
    origin: str | None = None
    reason: str | None = None
    waits_for: str | None = None
    since: datetime | None = None
    due_at: datetime | None = None
    can_be_retried: bool = False

    def document(self) -> dict[str, object]:
        """Return the JSON form."""
        members: dict[str, object] = {}
        for member in fields(self):
            value = getattr(self, member.name)
            members[member.name] = format_rfc3339(value) if isinstance(value, datetime) else value
        return members


@click.group("job")
def job_group() -> None:
    """Look at jobs."""


@job_group.command("show")
@org_id_argument
@click.argument("job_id", metavar="JOB_ID", type=Identifier())
@click.option(
    "--limit",
    type=click.IntRange(1, MOST),
    default=_SHOWN,
    show_default=True,
    help="At most so many outcomes.",
)
@click.option("--after", type=click.IntRange(0, MOST), default=0, help="Only outcomes numbered beyond this.")
@json_option
@asynchronous
async def show(org_id: str, job_id: str, limit: int, after: int, *, as_json: bool) -> None:
    """Show what became of job JOB_ID of organization ORG_ID: its charge, and every event that names it.

    An event that waits says what for and until when. A charge is kept for good, the outcomes of its events
    for QM_KEEP_DAYS.

    \b
    Example:
      quartermaster job show acme job-0042
      quartermaster job show acme job-0042 --json | jq '.events[].outcome'
    """
    async with database_of_environment() as database, database.reading() as tx:
        charge = await ledger.find(tx, charge_id(org_id, job_id))
        told = await outcomes.of_job(tx, org_id, charge_id(org_id, job_id), after=after, limit=limit + 1)
        kept = await inbox.of_job(tx, org_id, job_id, limit=limit)
        if charge is None and not told and not kept:
            raise CommandFailed(await _absence(tx, org_id, job_id))
    events = _events(told[:limit], kept)
    more = told[limit - 1].outcome_seq if len(told) > limit else None
    transaction_id = None if charge is None else charge.transaction_id
    price = 0 if charge is None else -charge.credits
    if as_json:
        print_json(
            {
                "org_id": org_id,
                "job_id": job_id,
                "transaction_id": transaction_id,
                "credits": price,
                "charged_at": None if charge is None else format_rfc3339(charge.created_at),
                "balance_after": None if charge is None else charge.balance_after,
                "events": [event.document() for event in events],
                "more_after": more,
            }
        )
        return
    facts: list[tuple[str, object]] = [
        ("organization", org_id),
        ("job", job_id),
        ("transaction", transaction_id or "not charged"),
        ("credits", price),
    ]
    if charge is not None:
        facts += [("charged at", brief(charge.created_at)), ("balance after", charge.balance_after)]
    print_facts(facts)
    _print_events(events)
    if more is not None:
        say(f"... and more: --after {more} goes on")
    for event in events:
        if event.can_be_retried:
            words = ("--org", org_id, "--event-id", event.id, "--reason", str(event.reason))
            say("")
            say(f"To have it tried again: quartermaster replay --retry-failed {shlex.join(words)}")


def _print_events(events: list[JobEvent]) -> None:
    if not events:
        return
    say("")
    print_table(
        ("source", "id", "status", "outcome", "decided at", "round", "why, or what it waits for", "until"),
        [
            (
                event.source,
                event.id,
                event.status,
                event.outcome or "(waiting)",
                brief(event.decided_at),
                event.round,
                event.reason if event.waits_for is None else f"waits for {event.waits_for}",
                brief(event.due_at),
            )
            for event in events
        ],
    )


def _events(told: list[StoredOutcome], kept: list[InboxRow]) -> list[JobEvent]:
    events: dict[tuple[str, str], JobEvent] = {}
    # In the order decided, so that of several rounds the last one stands.
    for stored in told:
        event = _decided(stored)
        events[event.source, event.id] = event
    for row in kept:
        envelope = cast("dict[str, Any]", parse_trusted_json(row.event))
        key = (envelope["source"], envelope["id"])
        event = events.get(key) or JobEvent(*key, status=envelope["data"]["status"], round=row.round)
        events[key] = _with_row(event, row)
    return list(events.values())


def _decided(stored: StoredOutcome) -> JobEvent:
    envelope = cast("dict[str, Any]", parse_trusted_json(stored.value))
    return JobEvent(
        source=envelope["causationsource"],
        id=envelope["causationid"],
        status=envelope["data"]["status"],
        outcome=stored.type,
        decided_at=stored.decided_at,
        outcome_id=stored.outcome_id,
        round=stored.round,
        origin=envelope["origin"],
        reason=envelope["data"].get("reason"),
    )


def _with_row(event: JobEvent, row: InboxRow) -> JobEvent:
    if row.state is InboxState.FAILED:
        why = failing(row.failure)
        return replace(
            event,
            # Its outcome may be older than what is kept of outcomes.
            outcome=event.outcome or OutcomeType.CREDITS_DEDUCTION_FAILED,
            reason=None if why is None else why.error_code,
            can_be_retried=True,
        )
    return replace(
        event,
        waits_for=waits_for(row),
        since=row.stored_at,
        due_at=row.due_at,
        round=row.round,
        origin=row.origin,
    )


async def _absence(tx: AsyncConnection, org_id: str, job_id: str) -> str:
    absence = f"there is no job {job_id!r} of organization {org_id!r}"
    known = org_id in await organizations.read(tx, [org_id])
    return absence if known else f"{absence}, nor any organization of that id"
