"""How far a long command is, where nobody watches a terminal."""

import pytest

from consumer.cli.progress import progress


def test_without_a_terminal_a_line_is_said_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with progress("redriving", 10_000, monotonic=lambda: now[0]) as advance:
        for _ in range(4):
            now[0] += 2.0
            advance(1_000)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "redriving: 3,000 of 10,000, 500 a second, 14 s left\n"


def test_what_is_done_quickly_is_done_silently(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("redriving", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")
