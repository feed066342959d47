import pytest

from consumer.cli.progress import ProgressLines, duration


def test_a_line_every_few_seconds_with_rate_and_remaining_time() -> None:
    now, said = [100.0], list[str]()
    with ProgressLines(
        "Replaying", "records", begun=1_000, monotonic=lambda: now[0], say=said.append
    ) as lines:
        for second in range(1, 21):
            now[0] = 100.0 + second
            lines.update(1_000 + 100 * second, 10_000, f"{second} new")
    assert said == [
        "Replaying: 1,500 of 10,000 records, 100/s, about 85 s left, 5 new",
        "Replaying: 2,000 of 10,000 records, 100/s, about 80 s left, 10 new",
        "Replaying: 2,500 of 10,000 records, 100/s, about 75 s left, 15 new",
        "Replaying: 3,000 of 10,000 records, 100/s, about 70 s left, 20 new",
    ]


def test_without_any_progress_no_time_is_promised() -> None:
    now, said = [0.0], list[str]()
    lines = ProgressLines("Waiting", "events", monotonic=lambda: now[0], say=said.append)
    now[0] = 6
    lines.update(0, 4)
    assert said == ["Waiting: 0 of 4 events, 0/s"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5_900, "98 min"), (6_000, "1 h 40 min")],
)
def test_durations_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
