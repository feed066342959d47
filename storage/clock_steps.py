"""What a step back of the database's clock leaves behind, put right.

Leases, pauses and doubts are points in time on that clock. Where it was ahead and is set right (a machine
that came up with a wrong clock, a fail-over to a server whose clock is behind), those that were written
before lie further ahead than any of them is long: a dead holder's lease would keep an organization from all
others, and an event would rest, for as long as the step was. They are cut to their full length, counted from
now; what is cut so is at most as long as if it had just begun. Nothing is lost by a step forward: it ends
pauses early, and whoever loses a lease by it writes nothing more.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Column, ColumnElement, Table
from sqlalchemy import update as sql_update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.inbox import InboxState, WaitReason
from storage.tables import inbox, leases, litellm_resources

SLACK: Final = timedelta(seconds=10)
"""What lies too far ahead by less than this is left: others write their moments, rightly, between the clock's
reading and the statement that looks for them, which may wait for their rows. A lease cut then would end
before its holder believes; one that is left lasts this much longer than it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Longest:
    """How far ahead of now each kind of moment is ever set.

    Attributes:
        relay_lease: The end of a relay's lease.
        other_lease: The end of any other lease.
        pause: When an event, or what is to be removed, is tried next; until when a call is in doubt.
        compensation: How long taking back is tried, from its beginning.
        dependency_wait: Until when an event waits for its organization.
    """

    relay_lease: timedelta
    other_lease: timedelta
    pause: timedelta
    compensation: timedelta
    dependency_wait: timedelta


async def cut_to_length(tx: AsyncConnection, now: datetime, longest: Longest) -> int:
    """Bring everything that lies too far ahead back to its full length from now.

    May be called at any time, by any number of instances: without a step it finds nothing, nor after one of
    less than `SLACK`.

    Returns:
        How many moments it found.
    """
    waiting, of_relay = inbox.c.state == InboxState.WAITING, leases.c.scope.like("relay:%")
    for_organization = inbox.c.reason == WaitReason.ORGANIZATION
    held = leases.c.token.is_not(None)
    end, due, give_up = leases.c.expires_at, inbox.c.due_at, inbox.c.compensate_until
    found = [
        await _cut(tx, leases, end, now + longest.relay_lease, held, of_relay),
        await _cut(tx, leases, end, now + longest.other_lease, held, ~of_relay),
        await _cut(tx, inbox, due, now + longest.dependency_wait, waiting, for_organization),
        await _cut(tx, inbox, due, now + longest.pause, waiting, ~for_organization),
        await _cut(tx, inbox, give_up, now + longest.pause + longest.compensation, waiting),
        await _cut(tx, inbox, inbox.c.first_try_at, now, waiting),
        await _cut(tx, litellm_resources, litellm_resources.c.due_at, now + longest.pause),
        await _cut(tx, litellm_resources, litellm_resources.c.doubt_until, now + longest.pause),
    ]
    return sum(found)


async def _cut(
    tx: AsyncConnection,
    table: Table,
    column: Column[datetime],
    latest: datetime,
    *conditions: ColumnElement[bool],
) -> int:
    cut = sql_update(table).where(column > latest + SLACK, *conditions).values({column: latest})
    return (await tx.execute(cut)).rowcount
