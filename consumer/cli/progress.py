"""How far a long command is: a bar on a terminal, else a line now and then. Always on standard error."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

import click
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from consumer.cli.output import console

_LINE_EVERY_S: Final = 5.0

Advance = Callable[[int], None]
"""Told how many more are done."""


@contextlib.contextmanager
def progress(what: str, total: int, *, monotonic: Callable[[], float] = time.monotonic) -> Iterator[Advance]:
    """Show how many of `total` are done, how fast that goes and how long the rest takes."""
    out = console(stderr=True)
    if not out.is_terminal:
        yield _lines(what, total, monotonic)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _lines(what: str, total: int, monotonic: Callable[[], float]) -> Advance:
    began = said = monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, said
        done += count
        now = monotonic()
        if now - said < _LINE_EVERY_S:
            return
        said = now
        rate = done / (now - began)
        left = max(total - done, 0) / rate if rate else 0
        click.echo(f"{what}: {done:,} of {total:,}, {rate:,.0f} a second, {left:,.0f} s left", err=True)

    return advance
