"""Every command of the runbook, run as it stands there, in a world in which its section's trouble is real."""

import shutil
from pathlib import Path

import pytest

from consumer.demo.broker import EmbeddedBroker
from consumer.standin import StandIn
from tests.e2e.desk import MEANWHILE, PREPARED, Desk
from tests.e2e.runbook import Command, Meanwhile, Section, same, sections

RUNBOOK = Path(__file__).parents[2] / "docs" / "operations.md"
SECTIONS = sections(RUNBOOK.read_text())


def test_every_section_has_its_world_and_every_world_its_section() -> None:
    assert [section.title for section in SECTIONS] == list(PREPARED)
    happening = {step.what for section in SECTIONS for step in section.steps if isinstance(step, Meanwhile)}
    assert happening == MEANWHILE.keys()


@pytest.mark.proof
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl, as the runbook does")
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
async def test_every_command_prints_what_the_runbook_says(section: Section, tmp_path: Path) -> None:
    prepare, settings = PREPARED[section.title]
    async with (
        EmbeddedBroker() as broker,
        StandIn() as litellm,
        Desk(broker, litellm, tmp_path, **settings) as desk,
    ):
        await prepare(desk)
        for step in section.steps:
            if isinstance(step, Meanwhile):
                await MEANWHILE[step.what](desk)
            else:
                await _check(desk, step)


async def _check(desk: Desk, step: Command) -> None:
    printed = await desk.do(step)
    assert (printed.code, same(step.expected, printed.lines)) == (step.exits, True), "\n".join(
        [f"{RUNBOOK.name}:{step.line}: exit {printed.code}", f"$ {step.text}", *printed.lines]
    )


@pytest.mark.parametrize(
    ("expected", "printed", "alike"),
    [
        (["a  b", "", "c"], ["a b", "c"], True),
        (["a", "...", "c"], ["a", "x", "y", "c"], True),
        (["a", "...", "c"], ["a", "c"], True),
        (["at 2026-01-01T00:00:00Z"], ["at 2027-12-31T23:59:59.123456Z"], True),
        (["... of 7"], ["5 of 7"], True),
        (["a"], ["b"], False),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
        (["a.c"], ["abc"], False),
    ],
)
def test_what_is_printed_is_compared_line_by_line(
    expected: list[str],
    printed: list[str],
    alike: bool,  # noqa: FBT001 - a table
) -> None:
    assert same(tuple(expected), tuple(printed)) is alike


def test_a_document_is_read_in_its_order() -> None:
    document = """
## One
```console
$ first |
    still first
printed
$ second
```
<!-- meanwhile: something -->
<!-- exits 1 -->
```console
$ third
Error: no
```
## Nothing to run
## Two
```console
$ fourth
```
"""
    one, two = sections(document)
    assert one.steps == [
        Command(4, "first |\n    still first", ("printed",)),
        Command(7, "second", ()),
        Meanwhile(9, "something"),
        Command(12, "third", ("Error: no",), exits=1),
    ]
    assert two.steps == [Command(18, "fourth", ())]
