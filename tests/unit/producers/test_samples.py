from collections import Counter
from datetime import UTC, datetime

import pytest

from producers.envelope import InvalidEvent, check
from producers.samples import PAID_JOBS, Sample, SampleIds, samples
from schemas.events import EventType, OrgCreated
from schemas.outcomes import OutcomeType

START = datetime(2026, 1, 2, tzinfo=UTC)
IDS = SampleIds(org_id="acme", owner_user_id="olga", user_ids=("ann", "ben"), prefix="s1")


def story() -> list[Sample]:
    return samples(IDS, source="/demo", start=START, price=2)


def test_every_sample_but_the_broken_one_is_valid() -> None:
    for sample in story():
        if sample.dead_letter:
            with pytest.raises(InvalidEvent, match=f"^{sample.reason}: "):
                check(sample.value, max_bytes=10_000)
        else:
            ready = check(sample.value, max_bytes=10_000)
            assert (ready.type, ready.key) == (sample.type, sample.key)


def test_the_story_has_each_kind_of_event_and_outcome() -> None:
    assert Counter(sample.type for sample in story()) == {
        EventType.ORG_CREATED: 1,
        EventType.USER_JOINED: 2,
        EventType.JOB_COMPLETED: PAID_JOBS + 4,
    }
    assert {sample.outcome for sample in story()} == {
        OutcomeType.ORG_PROVISIONED,
        OutcomeType.USER_PROVISIONED,
        OutcomeType.CREDITS_DEDUCTED,
        OutcomeType.CREDITS_DEDUCTION_SKIPPED,
        OutcomeType.CREDITS_DEDUCTION_FAILED,
        None,
    }


def test_only_the_repetition_bears_an_identity_twice() -> None:
    valid = [sample for sample in story() if not sample.dead_letter]
    identities = Counter(check(sample.value, max_bytes=10_000).event.identity for sample in valid)

    assert sorted(identities.values()) == [1] * (len(valid) - 2) + [2]


def test_the_credits_pay_for_the_jobs_that_are_to_be_charged() -> None:
    created = check(story()[0].value, max_bytes=10_000).event.data
    charged = sum(sample.outcome is OutcomeType.CREDITS_DEDUCTED for sample in story())

    assert isinstance(created, OrgCreated)
    assert created.initial_credits == 2 * charged


def test_telling_it_again_gives_the_same_bytes() -> None:
    assert story() == story()
