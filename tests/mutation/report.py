"""What became of the mutants: how each stands with the list of survivors, a table, and the same as JSON."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tests.mutation.survivors import Change, Survivor
from tests.mutation.verdicts import Mutant, Verdict

LEAST: Final = 0.90
"""The share of a target's mutants that the tests have to notice."""


class Standing(StrEnum):
    """How a mutant stands."""

    KILLED = "killed"
    EQUIVALENT = "equivalent"  # by the list
    ELSEWHERE = "elsewhere"  # by the list: only tests on PostgreSQL can reach it, and there is none
    OPEN = "open"  # nobody has said why it may live
    UNTRIED = "untried"


def standings(
    mutants: Sequence[Mutant], survivors: Sequence[Survivor], *, on_postgresql: bool
) -> list[Standing]:
    """Say of each mutant how it stands."""
    equivalent = Counter(one.change for one in survivors if one.on is None)
    elsewhere = Counter(one.change for one in survivors if one.on == "sqlite" and not on_postgresql)
    found = []
    for one in mutants:
        if one.verdict is Verdict.UNTRIED:
            found.append(Standing.UNTRIED)
        elif one.verdict.noticed:
            found.append(Standing.KILLED)
        elif equivalent[one.change]:
            equivalent[one.change] -= 1
            found.append(Standing.EQUIVALENT)
        elif elsewhere[one.change]:
            elsewhere[one.change] -= 1
            found.append(Standing.ELSEWHERE)
        else:
            found.append(Standing.OPEN)
    return found


def no_longer(mutants: Sequence[Mutant], survivors: Sequence[Survivor]) -> list[Change]:
    """Give what is listed as equivalent, and is noticed all the same or is no mutant any more."""
    files = {one.change.file for one in mutants}
    alive = Counter(one.change for one in mutants if not one.verdict.noticed)
    listed = Counter(one.change for one in survivors if one.on is None and one.change.file in files)
    return list(listed - alive)


@dataclass(frozen=True, slots=True)
class Row:
    """A file's mutants, or a target's; `file` is empty for a whole target, and both for everything."""

    target: str
    file: str
    counts: Mapping[Standing, int]
    looped: int

    @property
    def mutants(self) -> int:
        """How many could be tried here."""
        return sum(self.counts[one] for one in (Standing.KILLED, Standing.EQUIVALENT, Standing.OPEN))

    @property
    def raw(self) -> float:
        """The share that was killed, of all."""
        return self.counts[Standing.KILLED] / self.mutants if self.mutants else 1.0

    @property
    def score(self) -> float:
        """The share that was killed, of those that are not equivalent."""
        killable = self.mutants - self.counts[Standing.EQUIVALENT]
        return self.counts[Standing.KILLED] / killable if killable else 1.0


def rows(mutants: Sequence[Mutant], found: Sequence[Standing]) -> Iterator[Row]:
    """Sum up: each file, each target behind its files, and everything at last."""
    places = dict.fromkeys((one.target, one.change.file) for one in mutants)
    targets = dict.fromkeys(target for target, _ in places)
    for target in [*targets, ""]:
        for file in [*(file for of, file in places if of == target), ""]:
            of_row = [
                (one, standing)
                for one, standing in zip(mutants, found, strict=True)
                if target in {"", one.target} and file in {"", one.change.file}
            ]
            counts = Counter(standing for _, standing in of_row)
            looped = sum(one.verdict is Verdict.LOOPED for one, _ in of_row)
            yield Row(target, file, {standing: counts[standing] for standing in Standing}, looped)


def table(of: Sequence[Row]) -> str:
    """Write the rows for people."""
    titles = ("mutants", "killed", "equivalent", "open", "elsewhere", "killed/all", "less equivalent")
    lines = [f"{'':32}" + "".join(f"{title:>16}" if " " in title else f"{title:>11}" for title in titles)]
    for row in of:
        name = f"  {row.file}" if row.file else row.target or "all"
        counts = (row.counts[one] for one in (Standing.EQUIVALENT, Standing.OPEN, Standing.ELSEWHERE))
        numbers = "".join(f"{count:11}" for count in (row.mutants, row.counts[Standing.KILLED], *counts))
        lines.append(f"{name:32}{numbers}{100 * row.raw:9.1f} %{100 * row.score:14.1f} %")
    return "\n".join(lines)


def save(path: Path, mutants: Sequence[Mutant], found: Sequence[Standing], **about: Any) -> None:
    """Write everything as JSON."""
    report = about | {
        "targets": [
            {"target": row.target, "file": row.file, "looped": row.looped, "raw": row.raw, "score": row.score}
            | row.counts
            for row in rows(mutants, found)
        ],
        "mutants": [
            {
                "target": one.target,
                "file": one.change.file,
                "function": one.change.function,
                "mutant": one.change.text,
                "verdict": one.verdict,
                "standing": standing,
            }
            for one, standing in zip(mutants, found, strict=True)
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")


def killed_in(path: Path) -> Counter[Change]:
    """Read which mutants a report calls killed."""
    return Counter(
        Change(one["file"], one["function"], one["mutant"])
        for one in json.loads(path.read_text("utf-8"))["mutants"]
        if Verdict(one["verdict"]).noticed
    )
