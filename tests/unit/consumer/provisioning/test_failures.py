from datetime import UTC, datetime, timedelta

import pytest

from consumer.litellm.errors import (
    AlreadyExists,
    Doubtful,
    Existing,
    LiteLLMError,
    NotFound,
    NotSent,
    RateLimited,
    Rejected,
    Unauthorized,
)
from consumer.provisioning.failures import (
    Conflict,
    ErrorCode,
    Failure,
    Step,
    Unsettled,
    judge,
    next_try,
    pause,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "code", "final", "outage"),
    [
        (NotSent("/team/new", "x"), ErrorCode.LITELLM_UNAVAILABLE, False, True),
        (Doubtful("/team/new", "x", status=500), ErrorCode.LITELLM_UNAVAILABLE, False, True),
        (RateLimited("/team/new", "x", status=429), ErrorCode.LITELLM_UNAVAILABLE, False, False),
        (Unauthorized("/team/new", "x", status=401), ErrorCode.LITELLM_UNAUTHORIZED, False, True),
        (Rejected("/team/new", "x", status=400), ErrorCode.LITELLM_REJECTED, True, False),
        (NotFound("/team/info", "x", status=404), ErrorCode.LITELLM_UNAVAILABLE, False, True),
        (
            AlreadyExists("/key/update", Existing.KEY_ALIAS, status=400),
            ErrorCode.LITELLM_UNAVAILABLE,
            False,
            False,
        ),
        (Conflict(ErrorCode.TEAM_CONFLICT, "x"), ErrorCode.TEAM_CONFLICT, True, False),
        (Unsettled("x"), ErrorCode.LITELLM_UNAVAILABLE, False, True),
        (ValueError("sk-secret"), ErrorCode.INTERNAL, False, False),
    ],
)
def test_what_an_error_means(error: Exception, code: ErrorCode, *, final: bool, outage: bool) -> None:
    verdict = judge(error, Step.TEAM)
    assert (verdict.failure.error_code, verdict.final, verdict.outage) == (code, final, outage)
    assert verdict.failure.step == "team"


def test_a_message_holds_nothing_of_an_answer() -> None:
    upstream = "User already in team: ann@b.c sk-1234567890"
    errors: list[LiteLLMError] = [
        Rejected("/team/member_add", "refused", status=400, upstream=upstream),
        Doubtful("/team/new", "failed", status=500, upstream=upstream),
    ]
    for error in errors:
        message = judge(error, Step.KEY).failure.message
        assert "ann" not in message
        assert "sk-" not in message
    assert judge(RuntimeError(upstream), Step.KEY).failure.message == "unexpected RuntimeError"


def test_a_failure_is_read_as_it_was_written() -> None:
    failure = Failure(Step.KEY, ErrorCode.KEY_CONFLICT, 'a "quoted" message')
    assert Failure.from_json(failure.to_json()) == failure


def test_pauses_grow_to_a_minute_and_are_jittered() -> None:
    assert [pause(n, lambda: 0.0).total_seconds() for n in (1, 2, 3, 8, 9, 1000)] == [
        0.25,
        0.5,
        1.0,
        30,
        30,
        30,
    ]
    assert pause(1, lambda: 0.999999) <= timedelta(seconds=0.5)
    assert pause(20, lambda: 0.999999) <= timedelta(seconds=60)


def test_the_last_try_is_made_when_the_time_runs_out() -> None:
    deadline = NOW + timedelta(seconds=10)
    later = next_try(NOW, attempts=20, deadline=deadline, retry_after=None, random=lambda: 0.5)
    assert later == deadline
    assert next_try(deadline, attempts=21, deadline=deadline, retry_after=None, random=lambda: 0.5) is None


def test_a_pause_that_no_time_span_holds_is_no_error() -> None:
    error = RateLimited("/team/new", "later", status=429, retry_after_s=float("9" * 400))
    assert judge(error, Step.TEAM).retry_after == timedelta(seconds=60)


def test_the_pause_litellm_asks_for_is_kept_up_to_a_minute() -> None:
    deadline = NOW + timedelta(hours=1)

    def due(retry_after: float) -> timedelta:
        at = next_try(
            NOW,
            attempts=1,
            deadline=deadline,
            retry_after=timedelta(seconds=retry_after),
            random=lambda: 0.0,
        )
        assert at is not None
        return at - NOW

    assert due(7) == timedelta(seconds=7)
    assert due(0.01) == timedelta(seconds=0.25)
    assert due(3000) == timedelta(seconds=60)
