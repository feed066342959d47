from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from consumer.provisioning.footprint import Footprint, intended
from storage.resources import Resource, ResourceKind, ResourceState

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MARGIN = timedelta(seconds=5)
MINE, THEIRS = UUID(int=1), UUID(int=2)
WANTED = Resource("org", ResourceKind.TEAM, "org", MINE)


def begin(standing: Resource | None) -> Footprint:
    return intended(WANTED, standing, NOW, MARGIN)


def left(
    state: ResourceState, doubt_until: datetime | None = None, due_at: datetime | None = None
) -> Resource:
    return replace(WANTED, made_by=THEIRS, state=state, doubt_until=doubt_until, due_at=due_at)


def test_the_first_try_leaves_nothing_where_nothing_was_sent() -> None:
    footprint = begin(None)
    assert not footprint.may_be_ours
    assert footprint.resource == WANTED
    assert footprint.after_failure(NOW, 0.0) is None


def test_a_lost_answer_leaves_a_doubt_until_the_call_has_surely_ended() -> None:
    footprint = begin(None)
    footprint.doubted(settles_at=107.0)
    kept = footprint.after_failure(NOW, monotonic=100.0)
    assert kept == replace(WANTED, doubt_until=NOW + timedelta(seconds=7))
    assert begin(kept).may_be_ours


def test_what_was_made_is_remembered_and_is_in_use_after_success() -> None:
    footprint = begin(None)
    footprint.made()
    made = footprint.after_failure(NOW, 0.0)
    assert made == replace(WANTED, state=ResourceState.MADE)
    assert footprint.after_success(NOW) == replace(WANTED, state=ResourceState.IN_USE)
    assert begin(made).surely_made


def test_what_others_made_is_kept_and_never_ours() -> None:
    footprint = begin(None)
    footprint.foreign()
    kept = footprint.after_failure(NOW, 0.0)
    assert kept is not None
    assert kept.state is ResourceState.KEPT
    again = begin(kept)
    assert not again.may_be_ours
    assert again.after_failure(NOW, 0.0) == kept


def test_what_others_had_and_this_attempt_makes_anew_is_its_events_own() -> None:
    footprint = begin(left(ResourceState.KEPT))
    footprint.made()
    assert footprint.after_failure(NOW, 0.0) == replace(WANTED, state=ResourceState.MADE)


def test_a_change_that_may_come_late_outlasts_the_tries_that_follow() -> None:
    footprint = begin(None)
    footprint.made()
    footprint.changes_until = 7.0
    after = footprint.after_failure(NOW, 3.0)
    assert after == replace(WANTED, state=ResourceState.MADE, doubt_until=NOW + timedelta(seconds=4))

    again = begin(after)
    assert again.surely_made
    assert again.after_failure(NOW, 3.0) == after
    again.made()
    assert again.after_failure(NOW + timedelta(seconds=1), 4.0) == after
    again.changes_until = 9.0
    longer = again.after_failure(NOW + timedelta(seconds=1), 4.0)
    assert longer is not None
    assert longer.doubt_until == NOW + timedelta(seconds=6)
    again.changes_until = 0.0
    settled = again.after_failure(NOW + timedelta(seconds=4), 7.0)
    assert settled is not None
    assert settled.doubt_until is None


def test_an_intent_without_a_doubt_is_of_a_process_that_died() -> None:
    footprint = begin(left(ResourceState.INTENDED))
    assert footprint.may_be_ours
    assert not footprint.surely_made
    after = footprint.after_failure(NOW, 0.0)
    assert after is not None
    assert (after.doubt_until, after.made_by) == (NOW + MARGIN, MINE)


@pytest.mark.parametrize(
    ("standing", "surely"),
    [
        (left(ResourceState.REMOVING, due_at=NOW), True),
        (left(ResourceState.REMOVING, doubt_until=NOW, due_at=NOW), False),
        (left(ResourceState.REMOVED, due_at=NOW), False),
    ],
)
def test_what_was_to_be_removed_is_taken_over(standing: Resource, *, surely: bool) -> None:
    footprint = begin(standing)
    assert footprint.may_be_ours
    assert footprint.surely_made is surely
    assert footprint.resource == WANTED
    after = footprint.after_failure(NOW, 0.0)
    assert after is not None
    assert (after.made_by, after.due_at) == (MINE, None)


def test_what_another_one_was_made_in_place_of_is_removed() -> None:
    late = NOW + MARGIN
    footprint = begin(left(ResourceState.INTENDED, doubt_until=late))
    after = footprint.after_success(NOW)
    assert after is not None
    assert (after.state, after.due_at) == (ResourceState.REMOVING, late)
    assert begin(None).after_success(NOW) is None
