"""What commands print: tables and sentences for people, or one JSON document with ``--json``.

What draws tables is loaded where one is drawn: programs ask for JSON, and often.
"""

import sys
import textwrap
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from consumer.harmless import in_json, replaced
from schemas.timestamps import format_rfc3339

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_WIDE: Final = 240

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


def print_json(document: object) -> None:
    """Print a document for programs, indented, keys in their order."""
    click.echo(_json(document))


async def print_json_list(items: AsyncIterable[object]) -> None:
    """Print a list for programs as `print_json` does, each item as it comes: none is kept."""
    await _stream_list(items, begin="[", indent="  ", end="]")


async def print_json_with_list(head: Mapping[str, object], name: str, items: AsyncIterable[object]) -> None:
    """Print a document whose last member is a list of which no item is kept.

    Args:
        head: The members before it; one at least.
        name: The list's name.
        items: Its items.
    """
    opened = _json(head).removesuffix("\n}")
    await _stream_list(items, begin=f'{opened},\n  "{name}": [', indent="    ", end="  ]", last="\n}")


async def _stream_list(
    items: AsyncIterable[object], *, begin: str, indent: str, end: str, last: str = ""
) -> None:
    empty = True
    async for item in items:
        click.echo(begin if empty else ",")
        click.echo(textwrap.indent(_json(item), indent), nl=False)
        empty = False
    click.echo(f"{begin}]{last}" if empty else f"\n{end}{last}")


def _json(document: object) -> str:
    return in_json(orjson.dumps(document, option=orjson.OPT_INDENT_2, default=str).decode())


def console(*, stderr: bool = False) -> "Console":
    """Return where people read; into a file or a pipe lines are not cut at 80 characters."""
    from rich.console import Console  # noqa: PLC0415 - see above

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream, width=None if stream.isatty() else _WIDE, highlight=False, markup=False, soft_wrap=True
    )


def complain(text: str) -> None:
    """Print a line about what went wrong, on standard error."""
    click.echo(replaced(text), err=True)


def say(text: str) -> None:
    """Print a line for people."""
    click.echo(replaced(text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Print rows for people; nothing is cut off, numbers stand to the right, and an empty cell is a dash."""
    from rich.table import Table  # noqa: PLC0415 - see above

    rows = [list(row) for row in rows]
    table = Table(title=visible(title) if title else None, title_justify="left", box=None, pad_edge=False)
    for number, name in enumerate(columns):
        numeric = bool(rows) and all(row[number] is None or isinstance(row[number], int) for row in rows)
        table.add_column(name, overflow="fold", justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*("-" if cell is None or cell == "" else visible(str(cell)) for cell in row))
    out = console()
    with out.capture() as captured:
        out.print(table, soft_wrap=False)
    # Cells are padded to their column's width, also the last one's: nobody wants that in a file.
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Print names and values, one a line."""
    from rich.text import Text  # noqa: PLC0415 - see above

    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        shown = "-" if value is None or value == "" else str(value)
        console().print(Text(f"{name.ljust(width)}  ", style="bold").append(visible(shown)))


def brief(moment: datetime | None) -> str | None:
    """Say when, to the second: enough for people, and tables stay narrow. Programs get all of it."""
    return None if moment is None else format_rfc3339(moment.replace(microsecond=0)).replace(".000000", "")


def visible(text: str) -> "Text":
    """Show text as it is, but for characters that would steer the terminal."""
    from rich.text import Text  # noqa: PLC0415 - see above

    return Text(replaced(text))
