"""The mutants that may survive, with the reason why each is no hole: `survivors.toml`.

A mutant is named by its file, its function and the lines it changes, so that the list outlives edits
elsewhere in the file.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LISTED: Final = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True, slots=True)
class Change:
    """What a mutant is, without line numbers. `text` reads `before => after`."""

    file: str
    function: str
    text: str


@dataclass(frozen=True, slots=True)
class Survivor:
    """A mutant that no test kills, and why it may live.

    `on` is the database on which the tests can't reach it (SQLite: what is sent to PostgreSQL alone); none
    where it is equivalent on every one.
    """

    change: Change
    reason: str
    on: str | None


def listed(path: Path = LISTED) -> list[Survivor]:
    """Read the list."""
    entries = tomllib.loads(path.read_text("utf-8")).get("survivor", [])
    return [
        Survivor(Change(entry["file"], entry["function"], text), entry["reason"], entry.get("on"))
        for entry in entries
        for text in entry["mutants"]
    ]


def change_of(file: str, function: str, diff: Iterable[str]) -> Change:
    """Name a mutant by the lines of a unified diff that are not in both versions."""
    lines = [line for line in diff if line[:1] in {"+", "-"} and line[:3] not in {"+++", "---"}]
    before = [line[1:].strip() for line in lines if line[0] == "-"]
    after = [line[1:].strip() for line in lines if line[0] == "+"]
    # A line that only moved, or changed its indent, is no part of the change.
    same = Counter(before) & Counter(after)
    return Change(file, function, f"{_joined(before, same)} => {_joined(after, same)}".strip())


def _joined(lines: Iterable[str], without: Mapping[str, int]) -> str:
    left = dict(without)
    kept = []
    for line in lines:
        if left.get(line, 0):
            left[line] -= 1
        elif line:
            kept.append(line)
    return " ;; ".join(kept)
