"""What an event waits for that is kept: decided alike at ingest and when it is tried once more."""

from datetime import datetime, timedelta

from schemas.events import EventType
from storage.inbox import WaitReason
from storage.organizations import OrgState, OrgStatus


def join_queue(
    state: OrgState, type_: EventType, *, now: datetime, dependency_wait: timedelta
) -> tuple[OrgState, WaitReason, datetime | None]:
    """Say what an event waits for and until when, and give its organization's state with it.

    An `org.created` starts provisioning. A dependent of an organization of which no `org.created` is in hand
    gets the deadline of its wait; one that is being provisioned has none.

    Args:
        state: The organization under its lock.
        type_: The event's type.
        now: When this is decided, UTC.
        dependency_wait: How long an event waits for an organization of which no `org.created` is in hand.
    """
    reason = WaitReason.TURN
    due_at: datetime | None = now
    if type_ is EventType.ORG_CREATED:
        if state.status in {OrgStatus.UNKNOWN, OrgStatus.FAILED}:
            state = state._replace(status=OrgStatus.PROVISIONING, failed_at=None)
    elif state.status is not OrgStatus.ACTIVE:
        reason = WaitReason.ORGANIZATION
        due_at = None if state.status is OrgStatus.PROVISIONING else now + dependency_wait
    if type_ is EventType.JOB_COMPLETED:
        state = state._replace(waiting_jobs=state.waiting_jobs + 1)
    return state, reason, due_at
