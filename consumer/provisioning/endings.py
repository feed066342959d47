"""How an event ends: its outcome, and whatever was waiting for that, in the same transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from consumer.provisioning.context import Moment
from consumer.provisioning.failures import Failure
from consumer.provisioning.outcomes import (
    CompensationEnd,
    Effort,
    OrganizationFacts,
    UserFacts,
    org_provisioned,
    provisioning_failed,
    user_provisioned,
)
from consumer.provisioning.todo import Decided
from schemas.event import from_stored
from schemas.events import EventType
from schemas.outcomes import OutcomeType, cause_of, encode_outcome
from storage import inbox, organizations, outbox
from storage.inbox import InboxRow
from storage.organizations import OrgStatus


async def end_organization(
    moment: Moment, row: InboxRow, facts: OrganizationFacts, *, created: bool
) -> Decided:
    """End an `org.created` in what stands; others about the same organization have their turn."""
    effort = Effort.since(row.stored_at, moment.now, row.attempts)
    data = org_provisioned(facts, created=created, base_url=moment.context.policy.base_url, effort=effort)
    await _tell(moment, row, OutcomeType.ORG_PROVISIONED, data)
    await _leave(moment, row)
    return Decided(OutcomeType.ORG_PROVISIONED, activated=created)


async def end_user(moment: Moment, row: InboxRow, facts: UserFacts, *, created: bool) -> Decided:
    """End a `user.joined` in what stands; others about the same user have their turn."""
    effort = Effort.since(row.stored_at, moment.now, row.attempts)
    data = user_provisioned(facts, created=created, base_url=moment.context.policy.base_url, effort=effort)
    await _tell(moment, row, OutcomeType.USER_PROVISIONED, data)
    await _leave(moment, row)
    return Decided(OutcomeType.USER_PROVISIONED)


async def end_failed(
    moment: Moment,
    row: InboxRow,
    failure: Failure,
    *,
    compensation: CompensationEnd,
    orphans: Sequence[tuple[str, str]] = (),
) -> Decided:
    """End an event in failure; it is kept for another round.

    Another event about the same subject has its turn. Where no other `org.created` is left, the organization
    has failed, and the wait of its dependents begins.
    """
    is_organization = row.type is EventType.ORG_CREATED
    subject = {"org_id": row.org_id} if is_organization else {"org_id": row.org_id, "user_id": row.subject}
    data = provisioning_failed(
        subject,
        failure,
        effort=Effort.since(row.stored_at, moment.now, row.attempts),
        compensation=compensation,
        orphans=orphans,
    )
    outcome = OutcomeType.ORG_PROVISIONING_FAILED if is_organization else OutcomeType.USER_PROVISIONING_FAILED
    await _tell(moment, row, outcome, data)
    tx, now = moment.tx, moment.now
    await inbox.fail(tx, replace(row, failure=failure.to_json()))
    another = await inbox.release_next_behind(tx, row.org_id, row.type, row.subject, moment.now)
    if is_organization and not another:
        await organizations.save(tx, [moment.state._replace(status=OrgStatus.FAILED, failed_at=now)])
        await inbox.start_dependents_wait(tx, row.org_id, now + moment.context.policy.dependency_wait)
    return Decided(outcome)


async def _leave(moment: Moment, row: InboxRow) -> None:
    tx = moment.tx
    await inbox.remove(tx, [row.inbox_id])
    await inbox.release_next_behind(tx, row.org_id, row.type, row.subject, moment.now)


async def _tell(moment: Moment, row: InboxRow, outcome: OutcomeType, data: Mapping[str, object]) -> None:
    encoded = encode_outcome(
        outcome,
        data,
        org_id=row.org_id,
        cause=cause_of(from_stored(row.event)),
        decided_at=moment.now,
        origin=row.origin,
        round=row.round,
        our_source=moment.context.policy.our_source,
    )
    await outbox.append_outcomes(moment.tx, [encoded])
