"""What tries that failed have left at LiteLLM: taken back before the failure is told, the rest afterwards.

Only what an event's own tries wrote down as intended is touched. What was removed is looked at once more
later: a call whose answer was lost may take effect after the removal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.provisioning.claim import Claim
from consumer.provisioning.context import Context, Moment
from consumer.provisioning.endings import end_failed
from consumer.provisioning.failures import ErrorCode, Failure, Step, pause
from consumer.provisioning.outcomes import CompensationEnd
from consumer.provisioning.removal import Removal
from consumer.provisioning.todo import Compensation, Decided, Leftovers, Postponed
from storage import inbox, members, resources, virtual_keys
from storage.inbox import InboxRow, Phase, WaitReason
from storage.resources import Resource, ResourceKind, ResourceState
from storage.virtual_keys import KeyState

_TRIES = 4
"""Where the pauses of compensation stand in the schedule of retries: a few seconds."""
_ORPHAN_TRIES = 6
"""The same for what is left over afterwards."""
_PER_SWEEP = 20
"""Leftovers of one organization looked at under one lease."""

_REMOVABLE = frozenset({ResourceState.INTENDED, ResourceState.MADE, ResourceState.REMOVING})
_ORDER = {ResourceKind.KEY: 0, ResourceKind.MEMBER: 1, ResourceKind.TEAM: 2}


@dataclass(frozen=True, slots=True)
class Attended:
    """One leftover after a try to remove it.

    Attributes:
        resource: As it was before.
        end: How that ended; None: it may still be there.
        doubtful: Whether a call to remove it may still take effect.
    """

    resource: Resource
    end: Removal | None
    doubtful: bool = False


async def give_up(moment: Moment, row: InboxRow, failure: Failure) -> Decided | Postponed:
    """Begin to take back what an event's tries made; where they made nothing, end the event.

    Nothing is taken back before the last call whose answer was lost has surely taken effect or never will.
    """
    context, tx, now = moment.context, moment.tx, moment.now
    mine = await _left_by(tx, row)
    if not mine:
        return await end_failed(moment, row, failure, compensation=CompensationEnd.NOT_NEEDED)
    begins = now
    removing = []
    for one in mine:
        doubt = one.doubt_until
        if one.state is ResourceState.INTENDED and doubt is None:  # its try never ended
            doubt = now + context.policy.doubt_margin
        if doubt is not None:
            begins = max(begins, doubt)
        removing.append(replace(one, state=ResourceState.REMOVING, doubt_until=doubt, due_at=None))
        if one.kind is ResourceKind.KEY:
            await virtual_keys.mark(tx, one.resource_id, KeyState.REMOVED)
    await resources.save(tx, removing)
    await inbox.update(
        tx,
        replace(
            row,
            phase=Phase.COMPENSATING,
            reason=WaitReason.COMPENSATION,
            due_at=begins,
            compensate_until=begins + context.policy.compensate_for,
            failure=failure.to_json(),
        ),
    )
    return Postponed()


async def plan_compensation(moment: Moment, row: InboxRow, *, gate_open: bool) -> Decided | Compensation:
    """Say what there is to take back; with LiteLLM down and the time over, end the event with its orphans."""
    tx = moment.tx
    mine = await _left_by(tx, row)
    if not gate_open and mine:
        return await _end_pending(moment, row, mine, ())
    if not mine:
        return await end_failed(moment, row, last_failure(row), compensation=CompensationEnd.DONE)
    return Compensation(row, await _leftovers(tx, row.org_id, mine))


async def compensated(
    context: Context, claim: Claim, todo: Compensation, attended: Sequence[Attended]
) -> Decided | Postponed:
    """Write down how far taking back came: it is done, tried again, or its time is over."""

    async def work(moment: Moment) -> Decided | Postponed:
        row, now = todo.row, moment.now
        left, stays = await _settle(moment, attended, due_at=None)
        if not left:
            return await end_failed(
                moment, row, last_failure(row), compensation=CompensationEnd.DONE, orphans=_named(stays)
            )
        assert row.compensate_until is not None
        if now >= row.compensate_until:
            return await _end_pending(moment, row, left, stays)
        due_at = min(now + pause(_TRIES, context.random), row.compensate_until)
        await inbox.update(moment.tx, replace(row, due_at=due_at, reason=WaitReason.COMPENSATION))
        return Postponed()

    return await context.transaction(claim, work)


async def orphans_due(context: Context, claim: Claim) -> Leftovers | None:
    """Say what ended events of an organization have left that is due to be removed or looked at once more."""

    async def work(moment: Moment) -> Leftovers | None:
        tx, now = moment.tx, moment.now
        due = await resources.removable_due(tx, now, _PER_SWEEP, org_id=claim.org_id)
        if not due:
            return None
        free = []
        for one in due:
            if one.kind is ResourceKind.MEMBER and await members.get(tx, one.org_id, one.resource_id):
                await resources.save(tx, [replace(one, state=ResourceState.IN_USE, due_at=None)])
            else:
                free.append(one)
        return await _leftovers(tx, claim.org_id, free)

    return await context.transaction(claim, work)


async def orphans_attended(context: Context, claim: Claim, attended: Sequence[Attended]) -> None:
    """Write down what became of an organization's orphans."""

    async def work(moment: Moment) -> None:
        due_at = moment.now + pause(_ORPHAN_TRIES, context.random)
        await _settle(moment, attended, due_at=due_at)

    await context.transaction(claim, work)


def last_failure(row: InboxRow) -> Failure:
    """Say why an event's last try failed."""
    if row.failure is not None:
        return Failure.from_json(row.failure)
    return Failure(Step.ORGANIZATION, ErrorCode.LITELLM_UNAVAILABLE, "LiteLLM could not be reached")


async def _left_by(tx: AsyncConnection, row: InboxRow) -> list[Resource]:
    return [one for one in await resources.of_event(tx, row.identity) if one.state in _REMOVABLE]


async def _leftovers(tx: AsyncConnection, org_id: str, found: Sequence[Resource]) -> Leftovers:
    keys = await virtual_keys.of_org(tx, org_id)
    return Leftovers(
        resources=sorted(found, key=lambda one: _ORDER[one.kind]),
        known_keys=frozenset(key.key_hash for key in keys),
        our_users=frozenset(key.user_id for key in keys),
    )


async def _end_pending(
    moment: Moment, row: InboxRow, left: Sequence[Resource], stays: Sequence[Resource]
) -> Decided:
    due_at = moment.now + pause(_ORPHAN_TRIES, moment.context.random)
    await resources.save(moment.tx, [replace(one, due_at=due_at) for one in left])
    return await end_failed(
        moment,
        row,
        last_failure(row),
        compensation=CompensationEnd.PENDING,
        orphans=_named([*left, *stays]),
    )


async def _settle(
    moment: Moment, attended: Sequence[Attended], *, due_at: datetime | None
) -> tuple[list[Resource], list[Resource]]:
    """Write down how removals ended; give what is left to remove, and what stays because others use it."""
    tx, now, reach = moment.tx, moment.now, moment.context.reach
    saved: list[Resource] = []
    forgotten: list[Resource] = []
    left: list[Resource] = []
    stays: list[Resource] = []
    for one in attended:
        resource = one.resource
        match one.end:
            case None:
                doubt = now + reach if one.doubtful else resource.doubt_until
                left.append(replace(resource, doubt_until=doubt, due_at=due_at))
            case Removal.IN_USE:
                stays.append(replace(resource, state=ResourceState.KEPT, doubt_until=None, due_at=None))
            case Removal.ABSENT if resource.state is ResourceState.REMOVED:
                forgotten.append(resource)
            case Removal.ABSENT | Removal.REMOVED:
                look_again = now + reach
                saved.append(replace(resource, state=ResourceState.REMOVED, due_at=look_again))
    await resources.save(tx, [*saved, *left, *stays])
    for resource in forgotten:
        await resources.forget(tx, resource)
    return left, stays


def _named(left: Sequence[Resource]) -> list[tuple[str, str]]:
    return [(one.kind.value, one.resource_id) for one in left]
