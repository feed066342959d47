from collections import Counter

import pytest
from prometheus_client import CollectorRegistry

from consumer.ingest.batch import Applied
from consumer.metrics import EventResult, Metrics, Waiting
from schemas.dead_letters import DeadLetterReason
from schemas.decode import PassedOver
from schemas.events import EventType
from schemas.outcomes import OutcomeType


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"quartermaster_{name}", labels)


def test_the_metrics_of_the_contract_are_declared(metrics: Metrics) -> None:
    declared = {one.name: tuple(one.labels) for one in metrics.declarations}

    assert (
        declared.items()
        >= {
            "quartermaster_events_total": ("type", "result"),
            "quartermaster_outcomes_total": ("type",),
            "quartermaster_waiting": ("reason",),
            "quartermaster_waiting_oldest_seconds": ("reason",),
            "quartermaster_outbox_pending": (),
            "quartermaster_litellm_requests_total": ("endpoint", "status"),
        }.items()
    )


def test_every_metric_that_is_registered_is_declared(metrics: Metrics) -> None:
    collected = {family.name for family in metrics.registry.collect()}

    assert collected == {one.name.removesuffix("_total") for one in metrics.declarations}


def test_two_instances_live_in_one_process() -> None:
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    one.outbox_pending(3)

    assert value(one, "outbox_pending") == 3
    assert value(other, "outbox_pending") == 0


def test_events_are_counted_by_type_and_result(metrics: Metrics) -> None:
    metrics.events({"org.created": 2, "job.completed": 1}, EventResult.ACCEPTED)
    metrics.events({"org.created": 1}, EventResult.DUPLICATE)

    assert value(metrics, "events_total", type="org.created", result="accepted") == 2
    assert value(metrics, "events_total", type="org.created", result="duplicate") == 1


def test_unknown_types_are_counted_by_name_but_not_without_end(metrics: Metrics) -> None:
    for number in range(60):
        metrics.passed_over(PassedOver("unknown_type", f"made.up.{number}"))
    metrics.passed_over(PassedOver("unknown_type", "made.up.3"))

    assert value(metrics, "events_total", type="unknown", result="unknown") == 61
    assert value(metrics, "unknown_types_total", type="made.up.3") == 2
    assert value(metrics, "unknown_types_total", type="other") == 10


def test_a_reason_nothing_waits_for_any_more_goes_back_to_zero(metrics: Metrics) -> None:
    metrics.waiting([Waiting("litellm", 4, 12.5)])
    metrics.waiting([Waiting("organization", 1, 3.0)])

    assert value(metrics, "waiting", reason="litellm") == 0
    assert value(metrics, "waiting_oldest_seconds", reason="litellm") == 0
    assert value(metrics, "waiting", reason="organization") == 1
    assert value(metrics, "waiting_oldest_seconds", reason="organization") == 3


def test_a_batch_is_counted_as_a_whole(metrics: Metrics) -> None:
    metrics.applied(
        Applied(
            accepted=Counter({EventType.JOB_COMPLETED: 3}),
            conflicts=Counter({EventType.USER_JOINED: 1}),
            outcomes=Counter({OutcomeType.CREDITS_DEDUCTED: 3}),
            dead_letters=Counter({DeadLetterReason.ID_CONFLICT: 1, DeadLetterReason.INVALID_JSON: 2}),
            rejected=Counter({"": 1, "a type that somebody made up": 1, "org.created": 1}),
        )
    )

    assert value(metrics, "events_total", type="job.completed", result="accepted") == 3
    assert value(metrics, "events_total", type="user.joined", result="dead_letter") == 1
    assert value(metrics, "events_total", type="unknown", result="dead_letter") == 2
    assert value(metrics, "events_total", type="org.created", result="dead_letter") == 1
    assert value(metrics, "outcomes_total", type="credits.deducted") == 3
    assert value(metrics, "dead_letters_total", reason="invalid_json") == 2


def test_a_topic_read_to_its_end_has_no_lag(metrics: Metrics) -> None:
    metrics.lag({"a": 5, "b": 1})
    metrics.lag({"b": 2})

    assert value(metrics, "lag", topic="a") == 0
    assert value(metrics, "lag", topic="b") == 2


def test_null_records_are_no_events(metrics: Metrics) -> None:
    metrics.passed_over(PassedOver("null", None))

    assert value(metrics, "null_records_total") == 1
    assert value(metrics, "events_total", type="unknown", result="unknown") is None
