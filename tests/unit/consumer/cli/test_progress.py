"""How far a long command is, where nobody watches a terminal."""

import pytest

from consumer.cli.progress import shown_progress


def test_without_a_terminal_a_line_is_said_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with shown_progress("Redriving", "dead letters", monotonic=lambda: now[0]) as shown:
        for done in range(4):
            now[0] += 2.0
            shown.update(1_000 * (done + 1), 10_000, "3 still bad")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == ("Redriving: 3,000 of 10,000 dead letters, 500/s, about 14 s left, 3 still bad\n")


def test_what_is_done_quickly_is_done_silently(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress("Redriving", "dead letters") as shown:
        shown.update(10, 10)
    assert capsys.readouterr() == ("", "")
