"""The verdict on a run: every guarantee that can be seen from outside, held against what was left behind.

In the manner of Jepsen's checkers: the history is plain values, the checks are pure functions, and none of
the program's own decisions is asked. `schemas.decode` says what a record is; the rest is the contract, again.
"""

from collections.abc import Callable, Iterator
from typing import Final

from tests.checker import books, events, provisioning
from tests.checker.history import History, Policy, Violation
from tests.checker.reading import Reading, read

CHECKS: Final[tuple[Callable[[Reading], Iterator[Violation]], ...]] = (
    events.nothing_is_left_undone,
    events.every_event_has_its_outcome,
    events.no_event_has_two_outcomes,
    events.outcomes_say_what_they_follow_from,
    events.outcomes_stand_where_they_belong,
    events.repeats_are_identical,
    events.conflicts_are_refused,
    events.bad_records_are_dead_letters,
    events.nothing_secret_is_emitted,
    books.balances_are_sums,
    books.a_job_is_charged_once,
    books.ledger_and_outcomes_agree,
    books.the_first_grant_is_what_was_asked_for,
    books.outcomes_follow_the_model,
    books.outcomes_carry_the_facts,
    books.jobs_are_charged_in_the_order_received,
    provisioning.provisioning_only_fails_with_reason,
    provisioning.each_is_created_once,
    provisioning.created_as_asked,
    provisioning.a_user_has_one_key,
    provisioning.litellm_has_what_outcomes_tell,
    provisioning.litellm_has_nothing_else,
    provisioning.litellm_has_no_key_twice,
)


def check(history: History, *, policy: Policy) -> list[Violation]:
    """Every violation of a guarantee that the history shows; none proves nothing beyond this history."""
    reading = read(history, policy)
    return [violation for one in CHECKS for violation in one(reading)]
