"""The ledger as CSV: RFC 4180, UTF-8, and nothing in it that a spreadsheet would run."""

import csv
import io
import sys
from collections.abc import AsyncIterable
from typing import Final

import click

from consumer.cli.told_entries import ToldEntry
from consumer.harmless import replaced
from schemas.timestamps import format_rfc3339

_COLUMNS: Final = (
    "org_id",
    "entry",
    "booked_at",
    "kind",
    "credits",
    "balance_after",
    "sequence",
    "job_id",
    "reason",
    "corrects",
    "transaction_id",
    "event_source",
    "event_id",
    "outcome_id",
)
_FORMULAS: Final = frozenset(
    "=+-@\t\r\n\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
    "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)


async def print_csv(told: AsyncIterable[ToldEntry]) -> None:
    """Print entries as CSV, a line as each comes: none is kept."""
    _print_line(_COLUMNS)
    async for one in told:
        entry = one.entry
        _print_line(
            (
                as_text(entry.org_id),
                entry.entry,
                format_rfc3339(entry.created_at),
                entry.kind.value,
                entry.credits,
                entry.balance_after,
                entry.sequence,
                as_text(entry.job_id),
                as_text(entry.reason),
                entry.corrects,
                entry.transaction_id,
                as_text(one.event_source),
                as_text(one.event_id),
                one.outcome_id,
            )
        )


def as_text(text: str | None) -> str | None:
    """Put an apostrophe before a text that a spreadsheet would take for a formula: it is shown, not run."""
    return f"'{text}" if text and text[0] in _FORMULAS else text


def _print_line(cells: tuple[object, ...]) -> None:
    line = io.StringIO()
    if sys.stdout.isatty():
        cells = tuple(replaced(cell) if isinstance(cell, str) else cell for cell in cells)
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    # As bytes: a text stream of some systems would write another line end.
    click.echo(line.getvalue().encode(), nl=False)
