"""`quartermaster credits add` and `credits adjust`: an operator's entries in the ledger."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

from typing import Final
from uuid import UUID

import click
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.cli.arguments import Identifier, Line, TransactionId
from consumer.cli.command import CommandFailed, asynchronous, opened_database
from consumer.cli.output import json_option, print_facts, print_json, say
from consumer.decisions.credits import (
    MAX_BALANCE,
    AlreadyBooked,
    CreditCommand,
    Refused,
    decide_credits,
)
from consumer.settings import load_settings
from schemas.outcomes import Origin, encode_outcome, operator_cause
from schemas.transactions import operator_entry_id
from storage import ledger, organizations, outbox
from storage.database import Database, database_now
from storage.ledger import EntryKind, LedgerEntry

_LONGEST_REASON: Final = 500
_LONGEST_ID: Final = 512

_org_id = click.argument("org_id", metavar="ORG_ID", type=Identifier())
_reason = click.option(
    "--reason", required=True, type=Line(_LONGEST_REASON), help="Why; stands in the books."
)
_id = click.option(
    "--id",
    "command_id",
    required=True,
    type=Line(_LONGEST_ID),
    help="Names this command over all organizations: given again it changes nothing.",
)


@click.group("credits")
def credits_group() -> None:
    """Give credits, or put a balance right."""


@credits_group.command("add")
@_org_id
@click.argument("credits_", metavar="CREDITS", type=click.IntRange(1, MAX_BALANCE))
@_reason
@_id
@json_option
@asynchronous
async def add(org_id: str, credits_: int, reason: str, command_id: str, *, as_json: bool) -> None:
    """Add CREDITS to the account of ORG_ID and publish `credits.granted`.

    Once per --id: the same command again exits 0 and shows the first entry; other values under the same
    id exit 1. The outcome is published by the next `quartermaster run`, at once where one is running.

    \b
    Example:
      quartermaster credits add acme 500 --reason "invoice 2026-118" --id invoice-2026-118
    """
    command = CreditCommand(
        kind=EntryKind.GRANT, org_id=org_id, credits=credits_, reason=reason, command_id=command_id
    )
    await _carry_out(command, as_json=as_json)


# A negative number is an argument here, not a bundle of options.
@credits_group.command("adjust", context_settings={"ignore_unknown_options": True})
@_org_id
@click.argument("credits_", metavar="CREDITS", type=click.IntRange(-MAX_BALANCE, MAX_BALANCE))
@_reason
@_id
@click.option("--corrects", type=TransactionId(), help="The entry this one puts right.")
@json_option
@asynchronous
async def adjust(
    org_id: str, credits_: int, reason: str, command_id: str, corrects: UUID | None, *, as_json: bool
) -> None:
    """Change the balance of ORG_ID by CREDITS, up or down, and publish `credits.adjusted`.

    The balance never goes below zero: an adjustment that would take it there exits 1 and changes nothing.
    Entries are never changed; --corrects names the one that this one puts right.

    \b
    Example:
      quartermaster credits adjust acme -5 --reason "double report" --id ticket-77 \\
        --corrects 6f0f5c1e-4b6e-5d0e-9d53-6a1f3c8f0b11
    """
    if credits_ == 0:
        raise click.BadParameter("an adjustment of 0 changes nothing", param_hint="CREDITS")
    command = CreditCommand(
        kind=EntryKind.ADJUSTMENT,
        org_id=org_id,
        credits=credits_,
        reason=reason,
        command_id=command_id,
        corrects=corrects,
    )
    await _carry_out(command, as_json=as_json)


async def _carry_out(command: CreditCommand, *, as_json: bool) -> None:
    settings = load_settings()
    async with opened_database(settings) as database:
        entry, new = await book(database, command, our_source=settings.source)
    _show(entry, new=new, as_json=as_json)


async def book(database: Database, command: CreditCommand, *, our_source: str) -> tuple[LedgerEntry, bool]:
    """Book a command in one transaction: the entry, the new balance and the outcome, or nothing.

    Returns:
        The entry that stands under the command's id, and whether it is new.

    Raises:
        CommandFailed: the command is refused, with the reason.
    """

    async def work(tx: AsyncConnection) -> tuple[LedgerEntry, bool]:
        # Looked at before it is locked: locking makes a row, and a mistyped organization is to leave none.
        known = await organizations.read(tx, [command.org_id])
        states = await organizations.lock(tx, [command.org_id]) if known else {}
        corrected = None if command.corrects is None else await ledger.find(tx, command.corrects)
        now = await database_now(tx)
        decision = decide_credits(
            command,
            state=states.get(command.org_id),
            same_id=await ledger.find(tx, operator_entry_id(command.command_id)),
            corrected=corrected,
            now=now,
        )
        if isinstance(decision, Refused):
            raise CommandFailed(decision.why)
        if isinstance(decision, AlreadyBooked):
            return decision.entry, False
        outcome = encode_outcome(
            decision.outcome,
            decision.data,
            org_id=command.org_id,
            cause=operator_cause(our_source, command.command_id),
            decided_at=now,
            origin=Origin.OPERATOR,
            round=1,
            our_source=our_source,
        )
        await ledger.append(tx, [decision.entry])
        await organizations.save(tx, [decision.state])
        await outbox.append_outcomes(tx, [outcome])
        return decision.entry, True

    try:
        return await database.run(work)
    except IntegrityError:
        # The same id was booked at the same moment for another organization: now it can be seen.
        return await database.run(work)


def _show(entry: LedgerEntry, *, new: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "transaction_id": entry.transaction_id,
                "org_id": entry.org_id,
                "kind": entry.kind,
                "credits": entry.credits,
                "balance_after": entry.balance_after,
                "reason": entry.reason,
                "corrects": entry.corrects,
                "new": new,
            }
        )
        return
    say("Booked." if new else "This command was booked before; nothing changed. Its entry:")
    print_facts(
        [
            ("organization", entry.org_id),
            ("transaction", entry.transaction_id),
            ("credits", f"{entry.credits:+d}"),
            ("balance after", entry.balance_after),
            ("reason", entry.reason),
            ("corrects", entry.corrects),
        ]
    )
