"""`quartermaster dead-letters`: look at what could not be taken, and send it through again."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import functools
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Final

import click

from consumer.cli.command import CommandFailed, asynchronous, database_of_environment
from consumer.cli.letter_filters import letter_filters
from consumer.cli.letter_view import letter_document, listed_document, print_letter, print_letters
from consumer.cli.output import brief, json_option, print_json, print_json_list, print_table, say
from consumer.cli.paging import MOST, limit_option, paged
from consumer.cli.redrive import redrive, stored_letter
from consumer.harmless import escaped
from schemas.timestamps import format_rfc3339
from storage import dead_letters
from storage.database import Database
from storage.dead_letters import ListedDeadLetter, StoredDeadLetter, Wanted

_SHOWN: Final = 50
"""Dead letters that people see at once, unless they ask for more."""


@click.group("dead-letters")
def dead_letters_group() -> None:
    """Look at what could not be taken, and send it through again once it can."""


@dead_letters_group.command("list")
@letter_filters
@click.option("--redriven", is_flag=True, help="Those that were sent through again, instead of the others.")
@click.option("--all", "every", is_flag=True, help="Those that were sent through again, too.")
@click.option("--counts", is_flag=True, help="How many there are of each reason and topic.")
@limit_option(_SHOWN)
@click.option("--after", type=click.IntRange(0, MOST), default=0, help="Only those numbered beyond this.")
@json_option
@asynchronous
async def list_(
    wanted: Wanted,
    *,
    redriven: bool,
    every: bool,
    counts: bool,
    limit: int | None,
    after: int,
    as_json: bool,
) -> None:
    """List dead letters that are still to be dealt with, oldest first.

    Those that were sent through again are left out, unless --redriven or --all asks for them.

    \b
    Example:
      quartermaster dead-letters list
      quartermaster dead-letters list --counts --since 2026-03-01
      quartermaster dead-letters list --reason invalid_data --topic job.completed --limit 200
      quartermaster dead-letters list --json | jq -r '.[] | select(.reason == "too_large") | .id'
    """
    if redriven and every:
        raise click.UsageError("--redriven and --all exclude each other")
    wanted = replace(wanted, redriven=None if every else redriven)
    async with database_of_environment() as database:
        if counts:
            await _print_counts(database, wanted, as_json=as_json)
        elif as_json:
            await print_json_list(
                listed_document(one) async for one in _listed(database, wanted, after, limit)
            )
        else:
            await _print_list(database, wanted, after, limit or _SHOWN)


@dead_letters_group.command("show")
@click.argument("number", metavar="ID", type=click.IntRange(1, MOST))
@click.option("--full", is_flag=True, help="Do not cut the value, however long it is.")
@click.option("--raw", is_flag=True, help="Write the value's bytes as they are, and nothing else.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the value's bytes as they are to this file.",
)
@json_option
@asynchronous
async def show(number: int, *, full: bool, raw: bool, output: Path | None, as_json: bool) -> None:
    """Show dead letter ID: why it was refused, where it stood, its headers and its value.

    A value in UTF-8 is shown as text (JSON indented), any other in hexadecimal; whatever would steer the
    terminal is spelled out. Long values are cut; --raw and --output give the very bytes, to be mended.

    \b
    Example:
      quartermaster dead-letters show 17
      quartermaster dead-letters show 17 --output event.json
      quartermaster dead-letters show 17 --raw | jq .data
    """
    if as_json and (raw or output is not None):
        raise click.UsageError("--json excludes --raw and --output")
    async with database_of_environment() as database:
        stored = await stored_letter(database, number)
    if output is not None:
        _write_file(output, _value_of(stored))
    elif raw:
        _write_raw(_value_of(stored))
    elif as_json:
        print_json(letter_document(stored))
    else:
        print_letter(stored, full=full)


dead_letters_group.add_command(redrive)


async def _listed(
    database: Database, wanted: Wanted, after: int, limit: int | None
) -> AsyncIterator[ListedDeadLetter]:
    """Give those wanted that there are now."""
    async with database.reading() as tx:
        _, last = await dead_letters.extent(tx, wanted)
    read = functools.partial(dead_letters.page, wanted=replace(wanted, last=last))
    async for one in paged(database, read, attrgetter("dead_letter_id"), after=after, limit=limit):
        yield one


async def _print_list(database: Database, wanted: Wanted, after: int, limit: int) -> None:
    found = [one async for one in _listed(database, wanted, after, limit + 1)]
    if not found:
        say("There are no dead letters like that.")
        return
    print_letters(found[:limit])
    if len(found) > limit:
        say(f"... and more: --after {found[limit - 1].dead_letter_id} goes on, --counts counts them")


async def _print_counts(database: Database, wanted: Wanted, *, as_json: bool) -> None:
    async with database.reading() as tx:
        counted = await dead_letters.counts(tx, wanted)
    if as_json:
        print_json(
            [
                {
                    "reason": one.reason,
                    "topic": one.topic,
                    "count": one.count,
                    "oldest": format_rfc3339(one.oldest),
                }
                for one in counted
            ]
        )
        return
    if not counted:
        say("There are no dead letters like that.")
        return
    print_table(
        ("reason", "topic", "count", "oldest"),
        [(one.reason, one.topic, one.count, brief(one.oldest)) for one in counted],
    )
    say(f"{sum(one.count for one in counted)} in all")


def _value_of(stored: StoredDeadLetter) -> bytes:
    if stored.letter.value is None:
        raise CommandFailed(
            f"dead letter {stored.dead_letter_id} has no value: its record had none that could be kept"
        )
    return stored.letter.value


def _write_file(path: Path, value: bytes) -> None:
    try:
        path.write_bytes(value)
    except OSError as error:
        raise CommandFailed(f"{path} can't be written: {error.strerror}") from error
    say(f"{len(value)} bytes written to {path}.")


def _write_raw(value: bytes) -> None:
    if sys.stdout.isatty() and not _is_harmless(value):
        raise CommandFailed(
            "this value would steer the terminal: send it to a file (--output FILE) or through a pipe"
        )
    sys.stdout.buffer.write(value)
    sys.stdout.buffer.flush()


def _is_harmless(value: bytes) -> bool:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return False
    return escaped(text, keep="\n\t") == text
