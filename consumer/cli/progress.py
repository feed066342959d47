"""How far a long command has come: a bar on a terminal, a line now and then where there is none.

Both go to standard error: what the command has to say in the end stands alone on standard output.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self

from consumer.cli.output import complain

LINE_EVERY_S: Final = 5.0


class ShownProgress(Protocol):
    """Shows how far something has come, from `__enter__` to `__exit__`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, done: int, total: int, note: str = "") -> None:
        """Say how much is done, of how much, and what came of it."""


def shown_progress(
    what: str, unit: str, *, begun: int = 0, monotonic: Callable[[], float] = time.monotonic
) -> ShownProgress:
    """Make a bar where standard error is a terminal, and lines where it is not.

    Args:
        what: What is done, in a word: "Replaying".
        unit: What is counted: "records".
        begun: How much was done before: the rate counts from there.
        monotonic: A clock in seconds.
    """
    if sys.stderr.isatty():
        from consumer.cli.progress_bar import Bar  # noqa: PLC0415 - what draws it takes its time to load

        return Bar(what, unit, begun)
    return ProgressLines(what, unit, begun=begun, monotonic=monotonic)


class ProgressLines:
    """A plain line every few seconds, and none where it took less."""

    def __init__(
        self,
        what: str,
        unit: str,
        *,
        begun: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = complain,
    ) -> None:
        """Begin to count; `say` is handed the lines."""
        self._what = what
        self._unit = unit
        self._begun = begun
        self._monotonic = monotonic
        self._say = say
        self._started_at = self._said_at = monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def update(self, done: int, total: int, note: str = "") -> None:
        """Say it where the last line is some seconds old."""
        now = self._monotonic()
        if now - self._said_at < LINE_EVERY_S:
            return
        self._said_at = now
        rate = (done - self._begun) / (now - self._started_at)
        parts = [f"{self._what}: {done:,} of {total:,} {self._unit}", f"{rate:,.0f}/s"]
        if rate > 0:
            parts.append(f"about {duration((total - done) / rate)} left")
        if note:
            parts.append(note)
        self._say(", ".join(parts))


def duration(seconds: float) -> str:
    """Say how long something takes, as people do: 40 s, 3 min, 2 h 5 min."""
    whole = round(seconds)
    if whole < 100:  # noqa: PLR2004 - below, minutes say too little
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 100:  # noqa: PLR2004 - the same of hours
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
