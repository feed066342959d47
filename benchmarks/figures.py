"""Figures: medians, ratios, and tables of them for people, for programs and for the documents."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Cell = str | float | int | None


@dataclass(frozen=True, slots=True)
class Goal:
    """What was to be reached, and what was.

    Attributes:
        name: Which goal.
        wanted: In words.
        measured: The figure.
        least: The figure is to be at least this.
        most: The figure is to be at most this.
    """

    name: str
    wanted: str
    measured: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return (self.least is None or self.measured >= self.least) and (
            self.most is None or self.measured <= self.most
        )


@dataclass(slots=True)
class Table:
    """What a part found.

    Attributes:
        title: What was asked.
        columns: The heads; the first column names the program or the case.
        rows: A row for each, as long as `columns`.
        notes: What a reader must know beside it.
        goals: What was to be reached.
        data: Everything measured, for programs.
        guards: Whether a goal that is not met is a failure.
    """

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    guards: bool = False

    def text(self) -> str:
        """Write it for a terminal."""
        cells = [list(self.columns), *([_shown(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[number]) for row in cells) for number in range(len(self.columns))]
        lines = [self.title]
        lines += [
            "  "
            + "  ".join(
                cell.ljust(width) if number == 0 else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
        lines += [f"  {note}" for note in self.notes]
        lines += [f"  {_verdict(goal)}" for goal in self.goals]
        return "\n".join(lines)

    def markdown(self) -> str:
        """Write it for a document."""
        lines = [f"**{self.title}**", ""]
        lines += ["| " + " | ".join(self.columns) + " |"]
        lines += ["| --- |" + " ---: |" * (len(self.columns) - 1)]
        lines += ["| " + " | ".join(_shown(cell) for cell in row) + " |" for row in self.rows]
        if self.notes:
            lines += ["", *self.notes]
        if self.goals:
            lines += ["", *(f"- {_verdict(goal)}" for goal in self.goals)]
        return "\n".join(lines) + "\n"

    def plain(self) -> dict[str, Any]:
        """Give it as what JSON can hold."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "notes": self.notes,
            "goals": [asdict(goal) | {"met": goal.met} for goal in self.goals],
            "data": self.data,
        }


def median(values: Iterable[float]) -> float:
    """Return the middle of these values."""
    return statistics.median(values)


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of these do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _verdict(goal: Goal) -> str:
    return f"{goal.name}: {_shown(goal.measured)} ({goal.wanted}): {'met' if goal.met else 'NOT met'}"


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or abs(cell) >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.2f}" if abs(cell) < 10 else f"{cell:.1f}"
