import pytest

from consumer.readiness import Facts, reasons_against


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
