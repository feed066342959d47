"""`quartermaster ledger show`, `export` and `verify`: the books, and the proof that they balance."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Final

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.cli.arguments import org_id_argument, since_option, until_option
from consumer.cli.command import asynchronous, database_of_environment, no_organization
from consumer.cli.ledger_csv import print_csv
from consumer.cli.output import brief, complain, json_option, print_json, print_json_list, print_table, say
from consumer.cli.paging import MOST, limit_option, paged
from consumer.cli.told_entries import ToldEntry, tell
from schemas.timestamps import format_rfc3339
from storage import ledger, organizations
from storage.ledger import LedgerEntry
from storage.organizations import OrgStatus

_SHOWN: Final = 200


@click.group("ledger")
def ledger_group() -> None:
    """Look at the books, and prove that they balance."""


@ledger_group.command("show")
@org_id_argument
@since_option
@until_option
@limit_option(_SHOWN)
@click.option("--after", type=click.IntRange(0, MOST), default=0, help="Only entries numbered beyond this.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV (RFC 4180, UTF-8), for a spreadsheet.")
@json_option
@asynchronous
async def show(
    org_id: str,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    after: int,
    *,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show the ledger of ORG_ID, in order. A charge is negative, and names its job, event and outcome.

    Entries are kept for good, and with each charge its job; the event and the outcome that charged it are
    known for QM_KEEP_DAYS. In CSV a text that a spreadsheet would take for a formula (it begins with =, +, -,
    @ or a control character) has an apostrophe before it; --json gives every text as it is.

    \b
    Example:
      quartermaster ledger show acme
      quartermaster ledger show acme --since 2026-03-01 --until 2026-04-01 --csv > acme-2026-03.csv
      quartermaster ledger show acme --json | jq 'map(.credits) | add'
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    async with database_of_environment() as database:
        async with database.reading() as tx:
            state = (await organizations.read(tx, [org_id])).get(org_id)
        if state is None or state.status is OrgStatus.UNKNOWN:
            raise no_organization(org_id)

        async def read(tx: AsyncConnection, *, after: int, limit: int) -> list[ToldEntry]:
            return await tell(tx, await ledger.entries_of(tx, org_id, after, limit, since=since, until=until))

        place = attrgetter("entry.entry")
        if as_csv or as_json:
            told = paged(database, read, place, after=after, limit=limit)
            await (print_csv(told) if as_csv else print_json_list(_document(one) async for one in told))
            return
        limit = limit or _SHOWN
        found = [one async for one in paged(database, read, place, after=after, limit=limit + 1)]
    if not found:
        say(f"The ledger of {org_id!r} is empty." if not state.entries else "There are no entries like that.")
        return
    _print_told(found[:limit])
    if len(found) > limit:
        say(f"... of {state.entries} entries: --after {found[limit - 1].entry.entry} goes on")


@ledger_group.command("export")
@since_option
@until_option
@json_option
@asynchronous
async def export(since: datetime | None, until: datetime | None, *, as_json: bool) -> None:
    """Print the entries of all organizations as CSV (RFC 4180, UTF-8), by organization and number.

    The columns, and what becomes of texts that a spreadsheet would take for a formula, are those of `ledger
    show --csv`. It is streamed: nothing of it is kept in memory.

    \b
    Example:
      quartermaster ledger export --since 2026-03-01 --until 2026-04-01 > 2026-03.csv
    """

    async def read(tx: AsyncConnection, *, after: tuple[str, int], limit: int) -> list[ToldEntry]:
        page = await ledger.entries_of_all(tx, after=after, limit=limit, since=since, until=until)
        return await tell(tx, page)

    async with database_of_environment() as database:
        told = paged(database, read, attrgetter("entry.org_id", "entry.entry"), after=("", 0))
        if as_json:
            await print_json_list({"org_id": one.entry.org_id, **_document(one)} async for one in told)
        else:
            await print_csv(told)


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


def _print_told(told: Sequence[ToldEntry]) -> None:
    print_table(
        (*_COLUMNS, "by event"),
        [(*_cells(one.entry), one.event_id) for one in told],
    )


def _document(one: ToldEntry) -> dict[str, object]:
    entry = one.entry
    return ledger_document(entry) | {
        "entry": entry.entry,
        "booked_at": format_rfc3339(entry.created_at),
        "reason": entry.reason,
        "corrects": entry.corrects,
        "event_source": one.event_source,
        "event_id": one.event_id,
        "outcome_id": one.outcome_id,
    }


def print_ledger(entries: Sequence[LedgerEntry]) -> None:
    """Show entries to people."""
    print_table(
        _COLUMNS,
        [_cells(entry) for entry in entries],
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


_COLUMNS: Final = ("entry", "kind", "credits", "balance", "charge", "job / reason", "transaction", "at")


def _cells(entry: LedgerEntry) -> tuple[object, ...]:
    return (
        entry.entry,
        entry.kind,
        entry.credits,
        entry.balance_after,
        entry.sequence,
        entry.job_id or entry.reason,
        entry.transaction_id,
        brief(entry.created_at),
    )
