"""`quartermaster ledger show` and `ledger verify`: the books, and the proof that they balance."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import click

from consumer.cli.arguments import org_id_argument
from consumer.cli.command import CommandFailed, asynchronous, database_of_environment
from consumer.cli.output import complain, json_option, print_json, print_table, say
from schemas.timestamps import format_rfc3339
from storage import ledger, organizations
from storage.ledger import LedgerEntry
from storage.organizations import OrgStatus


@click.group("ledger")
def ledger_group() -> None:
    """Look at the books, and prove that they balance."""


@ledger_group.command("show")
@org_id_argument
@json_option
@asynchronous
async def show(org_id: str, *, as_json: bool) -> None:
    """Show every entry in the ledger of ORG_ID, in order. A charge is negative.

    \b
    Example:
      quartermaster ledger show acme
      quartermaster ledger show acme --json | jq 'map(.credits) | add'
    """
    async with database_of_environment() as database, database.reading() as tx:
        state = (await organizations.read(tx, [org_id])).get(org_id)
        if state is None or state.status is OrgStatus.UNKNOWN:
            raise CommandFailed(f"there is no organization {org_id!r}")
        entries = await ledger.entries_of(tx, org_id)
    if as_json:
        print_json([ledger_document(entry) for entry in entries])
        return
    if not entries:
        say(f"The ledger of {org_id!r} is empty.")
        return
    print_ledger(entries)


@ledger_group.command("verify")
@json_option
@click.pass_context
@asynchronous
async def verify(ctx: click.Context, *, as_json: bool) -> None:
    """Prove for the whole database that the books balance; exit 1 where they do not, with what is wrong.

    Every balance is the sum of its entries and never negative, entries and charges are numbered without
    gaps, no job is charged twice, and a correction names an entry of its own organization.

    \b
    Example:
      quartermaster ledger verify
    """
    async with database_of_environment() as database, database.reading() as tx:
        found = await ledger.verify(tx)
    if as_json:
        print_json(
            {
                "ok": found.ok,
                "organizations": found.organizations,
                "entries": found.entries,
                "problems": found.problems,
            }
        )
    elif found.ok:
        say(f"The books balance: {found.organizations} organizations, {found.entries} entries.")
    else:
        for problem in found.problems:
            say(problem)
    if not found.ok:
        complain(f"Error: the books do not balance: {len(found.problems)} problem(s)")
        ctx.exit(1)


def print_ledger(entries: list[LedgerEntry]) -> None:
    """Show entries to people."""
    print_table(
        ("entry", "kind", "credits", "balance", "charge", "job / reason", "transaction", "at"),
        [
            (
                entry.entry,
                entry.kind,
                entry.credits,
                entry.balance_after,
                entry.sequence,
                entry.job_id or entry.reason,
                entry.transaction_id,
                format_rfc3339(entry.created_at),
            )
            for entry in entries
        ],
    )


def ledger_document(entry: LedgerEntry) -> dict[str, object]:
    """Return the JSON form of an entry."""
    return {
        "transaction_id": entry.transaction_id,
        "kind": entry.kind,
        "job_id": entry.job_id,
        "credits": entry.credits,
        "balance_after": entry.balance_after,
        "sequence": entry.sequence,
    }
