"""How the demo shows its chain."""

import io

import pytest
from rich.console import Console

from consumer.demo import display
from consumer.demo.display import LiveDisplay, PlainDisplay, SilentDisplay
from consumer.demo.watch import PublishedEvent, SeenOutcome

JOB = PublishedEvent("job-1", "job 1 completes", "job.completed", "credits.deducted")
AGAIN = PublishedEvent("job-1", "job 1 again", "job.completed", None)
TAKEN = SeenOutcome("job-1", "credits.deducted", "1 taken, 2 left")


def test_plainly_each_event_and_outcome_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainDisplay() as shown:
        shown.event(JOB)
        shown.outcome(TAKEN)

    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["in", "job-1", "job.completed", "job", "1", "completes"],
        ["out", "job-1", "credits.deducted", "1", "taken,", "2", "left"],
    ]


def test_for_programs_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with SilentDisplay() as shown:
        shown.event(JOB)
        shown.outcome(TAKEN)

    assert capsys.readouterr().out == ""


def test_live_an_outcome_stands_beside_its_event(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(display, "console", lambda: Console(file=screen, force_terminal=True, width=120))

    with LiveDisplay() as shown:
        shown.event(JOB)
        shown.event(AGAIN)
        shown.outcome(TAKEN)

    lines = screen.getvalue().splitlines()
    assert any("job 1 completes" in line and "1 taken, 2 left" in line for line in lines)
    assert any("job 1 again" in line and "nothing new" in line for line in lines)
