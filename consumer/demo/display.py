"""How the demo shows what goes in and what comes out: live on a terminal, else a line each."""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from consumer.cli.output import console, say
from consumer.demo.watch import PublishedEvent, SeenOutcome


class Display(Protocol):
    """What the demo tells its audience."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End: what was shown stays."""
        ...

    def event(self, event: PublishedEvent) -> None:
        """Show an event that went in."""
        ...

    def outcome(self, outcome: SeenOutcome) -> None:
        """Show an outcome that came out."""
        ...


class PlainDisplay:
    """A line for each event and each outcome, for files and pipes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def event(self, event: PublishedEvent) -> None:
        """Print a line."""
        say(f"in   {event.id:<12} {event.type:<26} {event.title}")

    def outcome(self, outcome: SeenOutcome) -> None:
        """Print a line."""
        say(f"out  {outcome.cause:<12} {outcome.type:<26} {outcome.says}")


class SilentDisplay(PlainDisplay):
    """Nothing: for programs, which get one document at the end."""

    def event(self, event: PublishedEvent) -> None:
        """Say nothing."""

    def outcome(self, outcome: SeenOutcome) -> None:
        """Say nothing."""


class LiveDisplay:
    """A table that grows on the terminal: each event beside the outcome it comes to."""

    def __init__(self) -> None:
        self._events: list[PublishedEvent] = []
        self._outcomes: dict[str, SeenOutcome] = {}
        self._spinner = Spinner("dots")
        self._live = Live(
            console=console(), auto_refresh=True, refresh_per_second=10, get_renderable=self._table
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def event(self, event: PublishedEvent) -> None:
        """Add a row."""
        self._events.append(event)

    def outcome(self, outcome: SeenOutcome) -> None:
        """Complete its event's row."""
        self._outcomes.setdefault(outcome.cause, outcome)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("in", "what happened", "out", "what it says"):
            table.add_column(name, overflow="fold")
        for event in self._events:
            table.add_row(event.type, event.title, *self._cells(event))
        return table

    def _cells(self, event: PublishedEvent) -> Sequence[Text | Spinner]:
        if event.expected is None:
            return Text("-", style="dim"), Text("nothing new", style="dim")
        outcome = self._outcomes.get(event.id)
        if outcome is None:
            return self._spinner, Text("")
        style = "green" if outcome.type.endswith(("provisioned", "deducted")) else "yellow"
        return Text(outcome.type, style=style), Text(outcome.says)
