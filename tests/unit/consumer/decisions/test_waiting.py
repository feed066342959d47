"""What an event waits for: the same at ingest and in another round."""

from datetime import UTC, datetime, timedelta

import pytest

from consumer.decisions.waiting import join_queue
from schemas.events import EventType
from storage.inbox import WaitReason
from storage.organizations import OrgState, OrgStatus

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WAIT = timedelta(hours=1)


@pytest.mark.parametrize(
    ("status", "type_", "status_after", "reason", "due_at"),
    [
        ("unknown", "org.created", "provisioning", "turn", NOW),
        ("failed", "org.created", "provisioning", "turn", NOW),
        ("provisioning", "org.created", "provisioning", "turn", NOW),
        ("active", "org.created", "active", "turn", NOW),
        ("unknown", "user.joined", "unknown", "organization", NOW + WAIT),
        ("failed", "user.joined", "failed", "organization", NOW + WAIT),
        ("provisioning", "user.joined", "provisioning", "organization", None),
        ("active", "user.joined", "active", "turn", NOW),
        ("unknown", "job.completed", "unknown", "organization", NOW + WAIT),
        ("failed", "job.completed", "failed", "organization", NOW + WAIT),
        ("provisioning", "job.completed", "provisioning", "organization", None),
        ("active", "job.completed", "active", "turn", NOW),
    ],
)
def test_whoever_depends_on_an_organization_waits_for_it(
    status: str, type_: str, status_after: str, reason: str, due_at: datetime | None
) -> None:
    before = OrgState(
        "acme", OrgStatus(status), failed_at=NOW if status == "failed" else None, waiting_jobs=2
    )
    after, waits_for, until = join_queue(before, EventType(type_), now=NOW, dependency_wait=WAIT)
    assert (after.status, waits_for, until) == (status_after, WaitReason(reason), due_at)
    assert after.waiting_jobs == (3 if type_ == "job.completed" else 2)
    assert (after.failed_at is None) == (after.status is not OrgStatus.FAILED)
