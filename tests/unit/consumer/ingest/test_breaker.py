"""The breaker of one topic, driven record by record."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from consumer.ingest.breaker import TRIAL, WINDOW, Breaker


def breaker(bad_limit: int = 100) -> Breaker:
    return Breaker(bad_limit=bad_limit, pause=60.0)


def test_it_opens_at_the_limit_and_not_before() -> None:
    one = breaker(bad_limit=3)
    assert [one.observe(bad=True, now=0.0) for _ in range(3)] == [False, False, True]


def test_bad_records_that_left_the_window_are_forgotten() -> None:
    one = breaker(bad_limit=2)
    one.observe(bad=True, now=0.0)
    for _ in range(WINDOW):
        one.observe(bad=False, now=0.0)
    assert not one.observe(bad=True, now=0.0)


def test_ten_good_records_of_a_trial_close_it_and_clear_its_history() -> None:
    one = breaker(bad_limit=1)
    one.observe(bad=True, now=0.0)
    assert not one.trial_due(59.9)
    assert one.trial_due(60.0)
    for _ in range(TRIAL):
        one.observe(bad=False, now=60.0)
    assert not one.is_open
    assert not breaker(bad_limit=2).observe(bad=True, now=61.0), "the history begins anew"


def test_a_bad_record_in_a_trial_keeps_it_open_for_another_pause() -> None:
    one = breaker(bad_limit=1)
    one.observe(bad=True, now=0.0)
    for number in range(TRIAL):
        one.observe(bad=number == TRIAL - 1, now=60.0)
    one.trial_over(60.0)
    assert one.is_open
    assert not one.trial_due(119.9)
    assert one.trial_due(120.0)


def test_a_trial_that_found_too_few_records_goes_on_in_the_next() -> None:
    one = breaker(bad_limit=1)
    one.observe(bad=True, now=0.0)
    for _ in range(TRIAL - 1):
        one.observe(bad=False, now=60.0)
    one.trial_over(60.0)
    assert one.is_open
    one.observe(bad=False, now=120.0)
    assert not one.is_open


@given(st.lists(st.booleans(), max_size=3 * WINDOW), st.integers(1, WINDOW))
def test_it_opens_exactly_where_a_plain_count_of_the_last_200_says(records: list[bool], limit: int) -> None:
    one = breaker(bad_limit=limit)
    last: deque[bool] = deque(maxlen=WINDOW)
    for bad in records:
        last.append(bad)
        assert one.observe(bad=bad, now=0.0) == (sum(last) >= limit)
        if one.is_open:
            return
