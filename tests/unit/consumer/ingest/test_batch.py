"""What is kept of an event, and what is told of a batch: plain values."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumer.ingest.batch import Applied, dead_letter_of, keep, rejection
from consumer.ingest.judging import IngestPolicy
from schemas.dead_letters import DeadLetterReason, dead_letter_digest
from schemas.decode import IncomingRecord, Rejected, decode
from schemas.event import InboundEvent
from schemas.events import EventType
from schemas.json_codec import dump_json
from schemas.outcomes import Origin, OutcomeType
from storage.dead_letters import DeadLetter
from storage.inbox import NewInboxRow, WaitReason
from storage.organizations import OrgState, OrgStatus

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WAIT = timedelta(seconds=60)
POLICY = IngestPolicy(our_source="/quartermaster", credits_per_job=1, dependency_wait=WAIT)

DATA: dict[str, dict[str, Any]] = {
    "org.created": {"org_id": "acme", "name": "Acme", "owner_user_id": "ann"},
    "user.joined": {"org_id": "acme", "user_id": "ben"},
    "job.completed": {"org_id": "acme", "job_id": "j1", "status": "completed"},
}


def event(type_: str) -> InboundEvent:
    envelope = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/platform",
        "type": type_,
        "time": "2026-03-01T11:00:00Z",
        "data": DATA[type_],
    }
    decoded = decode(IncomingRecord("in", 0, 0, 0, b"acme", dump_json(envelope), ()), max_bytes=10_000)
    assert isinstance(decoded, InboundEvent)
    return decoded


def org(status: OrgStatus, **more: Any) -> OrgState:
    return OrgState("acme", status, balance=5, charges=2, entries=3, **more)


DUE: dict[tuple[str, OrgStatus], tuple[WaitReason, datetime | None]] = {
    ("org.created", OrgStatus.UNKNOWN): (WaitReason.TURN, NOW),
    ("org.created", OrgStatus.PROVISIONING): (WaitReason.TURN, NOW),
    ("org.created", OrgStatus.ACTIVE): (WaitReason.TURN, NOW),
    ("org.created", OrgStatus.FAILED): (WaitReason.TURN, NOW),
    ("user.joined", OrgStatus.UNKNOWN): (WaitReason.ORGANIZATION, NOW + WAIT),
    ("user.joined", OrgStatus.PROVISIONING): (WaitReason.ORGANIZATION, None),
    ("user.joined", OrgStatus.ACTIVE): (WaitReason.TURN, NOW),
    ("user.joined", OrgStatus.FAILED): (WaitReason.ORGANIZATION, NOW + WAIT),
    ("job.completed", OrgStatus.UNKNOWN): (WaitReason.ORGANIZATION, NOW + WAIT),
    ("job.completed", OrgStatus.PROVISIONING): (WaitReason.ORGANIZATION, None),
    ("job.completed", OrgStatus.ACTIVE): (WaitReason.TURN, NOW),
    ("job.completed", OrgStatus.FAILED): (WaitReason.ORGANIZATION, NOW + WAIT),
}


@pytest.mark.parametrize(("type_", "status"), DUE)
def test_guarantee_4_what_an_event_waits_for_and_how_long(type_: str, status: OrgStatus) -> None:
    one = event(type_)

    _, row = keep(org(status), one, policy=POLICY, origin=Origin.REPLAY, now=NOW)

    reason, due_at = DUE[type_, status]
    assert row == NewInboxRow(
        identity=one.identity,
        org_id="acme",
        type=EventType(type_),
        subject=one.subject,
        reason=reason,
        origin=Origin.REPLAY,
        round=1,
        stored_at=NOW,
        due_at=due_at,
        event=one.stored,
    )


@pytest.mark.parametrize("status", OrgStatus)
def test_an_org_created_starts_provisioning_where_none_is_in_hand(status: OrgStatus) -> None:
    before = org(status, failed_at=NOW, waiting_jobs=4)

    after, _ = keep(before, event("org.created"), policy=POLICY, origin=Origin.LIVE, now=NOW)

    if status in {OrgStatus.UNKNOWN, OrgStatus.FAILED}:
        assert after == before._replace(status=OrgStatus.PROVISIONING, failed_at=None)
    else:
        assert after == before


@pytest.mark.parametrize("status", OrgStatus)
def test_every_job_that_is_kept_is_counted_and_nothing_else_is(status: OrgStatus) -> None:
    before = org(status, waiting_jobs=4)

    after, _ = keep(before, event("job.completed"), policy=POLICY, origin=Origin.LIVE, now=NOW)
    assert after == before._replace(waiting_jobs=5)

    after, _ = keep(before, event("user.joined"), policy=POLICY, origin=Origin.LIVE, now=NOW)
    assert after == before


def test_guarantee_8_a_dead_letter_keeps_the_record_as_it_was_and_says_what_is_wrong() -> None:
    record = IncomingRecord("in", 3, 17, 1_770_000_000_000, b"key", b"{", (("a", b"1"), ("a", None)))
    rejected = Rejected(DeadLetterReason.INVALID_DATA, "what", "e-1", "/platform", "org.created")

    assert dead_letter_of(record, rejected, origin=Origin.REPLAY, now=NOW) == DeadLetter(
        digest=dead_letter_digest("in", 3, 17, b"{"),
        topic="in",
        partition=3,
        offset=17,
        timestamp_ms=1_770_000_000_000,
        key=b"key",
        value=b"{",
        headers=(("a", b"1"), ("a", None)),
        reason=DeadLetterReason.INVALID_DATA,
        error="what",
        event_id="e-1",
        event_source="/platform",
        event_type="org.created",
        dead_lettered_at=NOW,
        origin=Origin.REPLAY,
    )


def test_a_valid_event_that_is_rejected_names_itself() -> None:
    assert rejection(event("user.joined"), DeadLetterReason.UNPROCESSABLE, "why") == Rejected(
        DeadLetterReason.UNPROCESSABLE, "why", "e-1", "/platform", "user.joined"
    )


def test_two_parts_of_a_batch_come_to_the_sum_of_both() -> None:
    job, user = EventType.JOB_COMPLETED, EventType.USER_JOINED
    first = Applied(
        accepted=Counter({job: 1}),
        duplicates=Counter({job: 2}),
        conflicts=Counter({job: 3}),
        outcomes=Counter({OutcomeType.CREDITS_DEDUCTED: 4}),
        dead_letters=Counter({DeadLetterReason.ID_CONFLICT: 5}),
        rejected=Counter({"": 6}),
    )
    second = Applied(
        accepted=Counter({job: 10, user: 1}),
        duplicates=Counter({job: 20}),
        conflicts=Counter({job: 30}),
        outcomes=Counter({OutcomeType.CREDITS_DEDUCTED: 40}),
        dead_letters=Counter({DeadLetterReason.ID_CONFLICT: 50}),
        rejected=Counter({"": 60}),
    )

    assert first + second == Applied(
        accepted=Counter({job: 11, user: 1}),
        duplicates=Counter({job: 22}),
        conflicts=Counter({job: 33}),
        outcomes=Counter({OutcomeType.CREDITS_DEDUCTED: 44}),
        dead_letters=Counter({DeadLetterReason.ID_CONFLICT: 55}),
        rejected=Counter({"": 66}),
    )


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("other", [False, True])
def test_whoever_one_part_of_a_batch_needs_the_whole_needs(one: bool, other: bool) -> None:  # noqa: FBT001
    provisioning = Applied(needs_provisioning=one) + Applied(needs_provisioning=other)
    draining = Applied(needs_draining=one) + Applied(needs_draining=other)

    assert (provisioning.needs_provisioning, provisioning.needs_draining) == (one or other, False)
    assert (draining.needs_provisioning, draining.needs_draining) == (False, one or other)
