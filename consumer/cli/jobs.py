"""`quartermaster job show`: what became of one job."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

from dataclasses import dataclass
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.cli.arguments import Identifier, org_id_argument
from consumer.cli.command import CommandFailed, asynchronous, database_of_environment
from consumer.cli.output import json_option, print_facts, print_json, print_table, say
from schemas.event import from_stored
from schemas.events import EventType, JobCompleted
from schemas.json_codec import parse_json
from schemas.timestamps import format_rfc3339
from schemas.transactions import charge_id
from storage import inbox, ledger, outcomes
from storage.outcomes import StoredOutcome


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event that names the job; without outcome it waits."""

    source: str
    id: str
    status: str
    outcome: str | None
    decided_at: str | None


@click.group("job")
def job_group() -> None:
    """Look at jobs."""


@job_group.command("show")
@org_id_argument
@click.argument("job_id", metavar="JOB_ID", type=Identifier())
@json_option
@asynchronous
async def show(org_id: str, job_id: str, *, as_json: bool) -> None:
    """Show what became of job JOB_ID of organization ORG_ID: its charge, and every event that names it.

    A charge is kept for good, the outcomes of its events for QM_KEEP_DAYS.

    \b
    Example:
      quartermaster job show acme job-0042
    """
    async with database_of_environment() as database, database.reading() as tx:
        charge = await ledger.find(tx, charge_id(org_id, job_id))
        events = await _events(tx, org_id, job_id)
    if charge is None and not events:
        raise CommandFailed(f"there is no job {job_id!r} of organization {org_id!r}")
    transaction_id = None if charge is None else charge.transaction_id
    price = 0 if charge is None else -charge.credits
    if as_json:
        print_json(
            {
                "org_id": org_id,
                "job_id": job_id,
                "transaction_id": transaction_id,
                "credits": price,
                "events": [
                    {
                        "source": event.source,
                        "id": event.id,
                        "status": event.status,
                        "outcome": event.outcome,
                        "decided_at": event.decided_at,
                    }
                    for event in events
                ],
            }
        )
        return
    print_facts(
        [
            ("organization", org_id),
            ("job", job_id),
            ("transaction", transaction_id or "not charged"),
            ("credits", price),
        ]
    )
    if events:
        say("")
        print_table(
            ("source", "id", "status", "outcome", "decided at"),
            [
                (event.source, event.id, event.status, event.outcome or "(waiting)", event.decided_at)
                for event in events
            ],
        )


async def _events(tx: AsyncConnection, org_id: str, job_id: str) -> list[JobEvent]:
    decided: dict[tuple[str, str], JobEvent] = {}
    # In the order decided, so that of several rounds the last one stands.
    for stored in await outcomes.of_job(tx, org_id, charge_id(org_id, job_id)):
        event = _decided(stored)
        decided[event.source, event.id] = event
    waiting = [
        _waiting(row)
        for row in await inbox.waiting_of(tx, org_id)
        if row.type == EventType.JOB_COMPLETED and row.subject == job_id
    ]
    return [*decided.values(), *waiting]


def _decided(stored: StoredOutcome) -> JobEvent:
    envelope = parse_json(stored.value)
    assert isinstance(envelope, dict)
    return JobEvent(
        source=envelope["causationsource"],
        id=envelope["causationid"],
        status=envelope["data"]["status"],
        outcome=stored.type,
        decided_at=format_rfc3339(stored.decided_at),
    )


def _waiting(row: inbox.InboxRow) -> JobEvent:
    event: Any = from_stored(row.event)
    assert isinstance(event.data, JobCompleted)
    return JobEvent(event.source, event.id, event.data.status, None, None)
