"""The breaker of one topic, driven record by record."""

import random
from collections import deque

import pytest
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


def test_guarantee_8_a_closed_breaker_begins_with_an_empty_history() -> None:
    one = breaker(bad_limit=3)
    for _ in range(3):
        one.observe(bad=True, now=0.0)
    for _ in range(TRIAL):
        one.observe(bad=False, now=60.0)

    assert [one.observe(bad=True, now=61.0) for _ in range(3)] == [False, False, True]
    assert not one.trial_due(120.9)
    assert one.trial_due(121.0)


def test_a_closed_breaker_looks_at_200_records_anew() -> None:
    one = breaker(bad_limit=2)
    for _ in range(WINDOW):
        one.observe(bad=False, now=0.0)
    one.observe(bad=True, now=0.0)
    one.observe(bad=True, now=0.0)
    for _ in range(TRIAL):
        one.observe(bad=False, now=60.0)

    one.observe(bad=True, now=61.0)
    for _ in range(WINDOW - 1):
        assert not one.observe(bad=False, now=61.0)
    assert not one.observe(bad=True, now=61.0), "the first one has left the last 200"
    assert one.observe(bad=True, now=61.0)


def test_ten_good_records_close_it_only_in_a_row() -> None:
    one = breaker(bad_limit=1)
    one.observe(bad=True, now=0.0)
    trial = [*[False] * (TRIAL - 1), True, *[False] * (TRIAL - 1)]

    assert all(one.observe(bad=bad, now=60.0) for bad in trial)
    assert not one.observe(bad=False, now=60.0)


def test_a_second_time_it_takes_ten_good_records_again() -> None:
    one = breaker(bad_limit=1)
    for _ in range(3):
        assert one.observe(bad=True, now=0.0)
        assert [one.observe(bad=False, now=60.0) for _ in range(TRIAL)] == [True] * (TRIAL - 1) + [False]


@pytest.mark.parametrize("seed", range(5))
def test_over_many_records_it_agrees_with_a_plain_count(seed: int) -> None:
    chance = random.Random(seed)
    one = breaker(bad_limit=75)
    last: deque[bool] = deque(maxlen=WINDOW)
    for number in range(50 * WINDOW):
        last.append(chance.random() < 0.3)
        assert one.observe(bad=last[-1], now=0.0) == (sum(last) >= 75), number
        if one.is_open:
            return


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


@given(st.lists(st.one_of(st.booleans(), st.integers(0, 2 * WINDOW)), max_size=20), st.integers(1, WINDOW))
def test_many_good_records_at_once_are_as_many_one_by_one(observed: list[bool | int], limit: int) -> None:
    at_once, one_by_one = breaker(bad_limit=limit), breaker(bad_limit=limit)
    for what in [*observed, *([True] * limit)]:
        if isinstance(what, bool):
            assert at_once.observe(bad=what, now=0.0) == one_by_one.observe(bad=what, now=0.0)
            if at_once.is_open:
                return
        else:
            at_once.observe_good(what)
            for _ in range(what):
                one_by_one.observe(bad=False, now=0.0)
