import pytest

from consumer.readiness import Facts, Progress, reasons_against


def test_a_member_with_everything_in_order_is_ready() -> None:
    assert reasons_against(Facts(member=True)) == []


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (Facts(member=False), "not in the consumer group"),
        (Facts(member=True, database_error="refused"), "database: refused"),
        (Facts(member=True, broker_error="no answer"), "broker: no answer"),
        (Facts(member=True, missing_topics=("b", "a")), "topics missing: a, b"),
        (Facts(member=True, lag_stalled_s=60.0), "records to read, none read for 60 s"),
        (Facts(member=True, outbox_stalled_s=61.0), "records to publish, none acknowledged for 61 s"),
        (Facts(member=True, open_breakers=("job.completed",)), "breaker open: job.completed"),
        (Facts(member=True, stopping=True), "shutting down"),
    ],
)
def test_each_fact_against_readiness_is_named(facts: Facts, reason: str) -> None:
    assert reasons_against(facts) == [reason]


def test_a_short_standstill_does_not_count() -> None:
    assert reasons_against(Facts(member=True, lag_stalled_s=59.9, outbox_stalled_s=59.9)) == []


def test_all_reasons_are_given_at_once() -> None:
    assert len(reasons_against(Facts(member=False, database_error="x", broker_error="y"))) == 3


def test_progress_counts_from_when_work_first_waited() -> None:
    progress = Progress()

    assert progress.observe(waiting=5, done=100, now=10.0) == 0.0
    assert progress.observe(waiting=7, done=100, now=40.0) == 30.0


def test_any_progress_starts_the_count_anew() -> None:
    progress = Progress()
    progress.observe(waiting=5, done=100, now=0.0)

    assert progress.observe(waiting=9, done=101, now=59.0) == 0.0
    assert progress.observe(waiting=9, done=101, now=60.0) == 1.0


def test_nothing_waiting_is_no_standstill() -> None:
    progress = Progress()
    progress.observe(waiting=0, done=100, now=0.0)

    assert progress.observe(waiting=0, done=100, now=1000.0) == 0.0
    assert progress.observe(waiting=1, done=100, now=1001.0) == 0.0
    assert progress.observe(waiting=1, done=100, now=1061.0) == 60.0
