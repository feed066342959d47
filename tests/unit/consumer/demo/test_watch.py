"""What the demo expects, and what it says of an outcome."""

from consumer.demo.watch import DEAD_LETTER, Expectations, PublishedEvent, SeenOutcome

EVENTS = [
    PublishedEvent("org", "created", "org.created", "org.provisioned"),
    PublishedEvent("job", "completes", "job.completed", "credits.deducted"),
    PublishedEvent("job", "again", "job.completed", None),
    PublishedEvent("bad", "broken", "job.completed", DEAD_LETTER),
]


def test_every_event_that_is_no_repeat_is_to_come_to_something() -> None:
    expectations = Expectations(EVENTS)

    assert not expectations.complete
    assert expectations.unmet == [
        "org: no org.provisioned",
        "job: no credits.deducted",
        "bad: no dead letter",
    ]


def test_what_came_is_crossed_off_and_repeats_change_nothing() -> None:
    expectations = Expectations(EVENTS)
    for cause, type_ in [
        ("bad", DEAD_LETTER),
        ("org", "org.provisioned"),
        ("org", "org.provisioned"),
        ("job", "credits.deducted"),
        ("another", "credits.deducted"),
    ]:
        expectations.came(SeenOutcome(cause, type_, ""))

    assert expectations.complete
    assert expectations.unmet == []


def test_another_outcome_than_expected_completes_but_is_unmet() -> None:
    expectations = Expectations(EVENTS[:1])

    expectations.came(SeenOutcome("org", "org.provisioning_failed", "litellm_unavailable"))

    assert expectations.complete
    assert expectations.unmet == [
        "org: org.provisioning_failed instead of org.provisioned (litellm_unavailable)"
    ]
