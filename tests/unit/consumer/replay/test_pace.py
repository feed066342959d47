import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.replay.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_a_rate_nothing_waits() -> None:
    assert Pace(None).spend(10**9) == 0


@given(
    st.lists(st.tuples(st.integers(1, 500), st.floats(0, 0.2)), min_size=1, max_size=40),
    st.floats(1, 10_000),
)
def test_never_more_than_the_rate_on_average(steps: list[tuple[int, float]], rate: float) -> None:
    """Whoever waits as told has passed no more than the rate allows, however long its own work takes."""
    clock = Clock()
    pace = Pace(rate, monotonic=clock)
    passed = 0
    for count, work in steps:
        passed += count
        clock.now += work
        clock.now += pace.spend(count)
        assert passed <= rate * clock.now * (1 + 1e-9) + 1e-6


def test_a_rest_is_not_saved_up() -> None:
    clock = Clock()
    pace = Pace(10, monotonic=clock)
    clock.now = 100
    assert pace.spend(10) == pytest.approx(1)
    assert pace.spend(10) == pytest.approx(2)
