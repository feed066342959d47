"""A runbook that is run: a document's console blocks, carried out in order and compared with what they print.

A section (`## Title`) is a world of its own. In its console blocks a line that begins with `$ ` is a command,
and the lines up to the next one are what it prints, standard error too. `...` stands for anything: within a
line for a part of it, alone for any lines. Between blocks comments say what happens besides (`<!-- meanwhile:
... -->`), and how the commands of the next block end (`<!-- exits 1 -->`).
"""

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_HEADING: Final = re.compile(r"## (.+)")
_MEANWHILE: Final = re.compile(r"<!-- meanwhile: (.+) -->")
_EXITS: Final = re.compile(r"<!-- exits (\d+) -->")
_LOOKS: Final = re.compile(
    r"(quartermaster (org|job|ledger|keys show|doctor|dead-letters (list|show))|curl -s [^-])"
)
_PATIENCE_S: Final = 60.0

_ANY_LINES: Final = "..."
_ALIKE: Final = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{10,}"), "<key>"),
    (re.compile(r"-{3,}|\s+"), " "),
)
"""What differs from run to run, and means the same."""
_PROGRESS: Final = re.compile(r"\w+: [\d,]+ (?:of [\d,]+ )?\w+, [\d,]+/s\b")
"""Said where a command takes longer than a few seconds, which is the machine's doing."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command with what it is to print, and the line of the document it stands on."""

    line: int
    text: str
    expected: tuple[str, ...]
    exits: int = 0

    @property
    def only_looks(self) -> bool:
        """Whether giving it once more does no harm: what it shows may still be on its way."""
        return _LOOKS.match(self.text) is not None and " > " not in self.text


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Something that happens besides."""

    line: int
    what: str


@dataclass(slots=True)
class Section:
    """One world: what is done in it, in order."""

    title: str
    steps: list[Command | Meanwhile] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Printed:
    """What a command printed, and how it ended."""

    lines: tuple[str, ...]
    code: int


def sections(document: str) -> list[Section]:
    """Read a document's sections that have something to run."""
    found: list[Section] = []
    lines = document.splitlines()
    at = exits = 0
    while at < len(lines):
        line = lines[at]
        if heading := _HEADING.fullmatch(line):
            found.append(Section(heading[1]))
        elif meanwhile := _MEANWHILE.fullmatch(line):
            found[-1].steps.append(Meanwhile(at + 1, meanwhile[1]))
        elif told := _EXITS.fullmatch(line):
            exits = int(told[1])
        elif line == "```console":
            end = lines.index("```", at)
            found[-1].steps += _commands(lines[at + 1 : end], at + 2, exits)
            at, exits = end, 0
        at += 1
    return [section for section in found if section.steps]


def _commands(block: list[str], first_line: int, exits: int) -> list[Command]:
    commands: list[Command] = []
    text: list[str] = []
    printed: list[str] = []
    begun = first_line

    def close() -> None:
        if text:
            commands.append(Command(begun, "\n".join(text), tuple(printed), exits))

    for number, line in enumerate(block, start=first_line):
        if line.startswith("$ "):
            close()
            text, printed, begun = [line.removeprefix("$ ")], [], number
        elif text and not printed and text[-1].endswith(("\\", "|")):
            text.append(line)
        else:
            printed.append(line)
    close()
    return commands


def same(expected: tuple[str, ...], printed: tuple[str, ...]) -> bool:
    """Whether a command printed what the document says."""
    pattern = "".join(
        r"(?:.*\n)*"
        if line.strip() == _ANY_LINES
        else ".*".join(map(re.escape, _alike(line).split("..."))) + "\n"
        for line in _trimmed(expected)
    )
    told = [line for line in _trimmed(printed) if not _PROGRESS.match(line)]
    text = "".join(f"{_alike(line)}\n" for line in told)
    return re.fullmatch(pattern, text) is not None


def _trimmed(lines: tuple[str, ...]) -> list[str]:
    return [line for line in lines if line.strip()]


def _alike(line: str) -> str:
    for pattern, alike in _ALIKE:
        line = pattern.sub(alike, line)
    return line.strip()


async def carry_out(
    command: Command, *, folder: Path, environment: dict[str, str], spell: Callable[[str], str]
) -> Printed:
    """Run a command in a shell.

    Args:
        command: The command.
        folder: Where.
        environment: Its environment.
        spell: Turns the addresses of this world into those of the document, in what is printed.
    """
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-o",
        "pipefail",
        "-c",
        command.text,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return Printed(tuple(spell(out.decode()).splitlines()), process.returncode)


async def run(
    command: Command, *, folder: Path, environment: dict[str, str], spell: Callable[[str], str]
) -> Printed:
    """Run a command; one that only looks is repeated until it prints what it is to, or time is up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_S
    while True:
        printed = await carry_out(command, folder=folder, environment=environment, spell=spell)
        right = printed.code == command.exits and same(command.expected, printed.lines)
        if right or not command.only_looks or loop.time() >= deadline:
            return printed
        await asyncio.sleep(0.2)  # between two looks at other processes; nothing is assumed of them


def environment_of(settings: dict[str, str], *, programs: Path) -> dict[str, str]:
    """Make a shell's environment: the settings, and our programs before all others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
    return inherited | settings | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "240"}
