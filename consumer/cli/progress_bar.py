"""The bar on a terminal, for `consumer.cli.progress`."""

from types import TracebackType
from typing import Final, Self

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from consumer.cli.output import console

_SPEED_OVER_S: Final = 10.0


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Bar:
    """Moves while something is done, says how fast, and is gone in the end."""

    def __init__(self, what: str, unit: str, begun: int) -> None:
        """Take what is done, what is counted, and how much was done before."""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} " + unit),
            _Speed(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console(stderr=True),
            speed_estimate_period=_SPEED_OVER_S,
            transient=True,
        )
        self._task = self._bar.add_task(what, total=None, completed=begun, note="", visible=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, done: int, total: int, note: str = "") -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, total=total, note=note, visible=True)
