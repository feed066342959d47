"""After a step back of the database's clock no moment lies further ahead than it would ever be set."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select

from schemas.events import EventType
from schemas.outcomes import Origin
from storage import inbox, leases, organizations, resources
from storage.clock_steps import Longest, cut_to_length
from storage.database import Database
from storage.inbox import NewInboxRow, WaitReason
from storage.resources import Resource, ResourceKind, ResourceState
from storage.tables import inbox as inbox_rows
from storage.tables import leases as lease_rows

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BEFORE = NOW + timedelta(hours=1)
"""What the clock said before it was set right."""
LONGEST = Longest(
    relay_lease=timedelta(seconds=15),
    other_lease=timedelta(seconds=30),
    pause=timedelta(seconds=60),
    compensation=timedelta(seconds=60),
    dependency_wait=timedelta(hours=1),
)


async def test_a_dead_holders_lease_ends_after_its_time_and_not_after_the_step(database: Database) -> None:
    dead, other = uuid4(), uuid4()
    scopes = {"relay:3": 15, leases.org_scope("org"): 30, "email:digest": 30}
    async with database.transaction() as tx:
        for scope, ttl in scopes.items():
            assert await leases.acquire(tx, scope, ttl=timedelta(seconds=ttl), token=dead, now=BEFORE)
    async with database.transaction() as tx:
        assert await cut_to_length(tx, NOW, LONGEST) == 3
    for scope, ttl in scopes.items():
        async with database.transaction() as tx:
            just_before = NOW + timedelta(seconds=ttl - 1)
            assert not await leases.acquire(tx, scope, ttl=timedelta(1), token=other, now=just_before)
            assert await leases.renew(tx, scope, dead, timedelta(seconds=ttl), NOW), "who lives, keeps it"
            afterwards = NOW + timedelta(seconds=ttl)
            assert await leases.acquire(tx, scope, ttl=timedelta(1), token=other, now=afterwards)


async def test_a_lease_taken_after_the_look_at_the_clock_is_none_of_a_steps(database: Database) -> None:
    """A look goes on while others work: cut, a lease would end before its holder believes."""
    holder, scope = uuid4(), leases.org_scope("org")
    taken_at = NOW + timedelta(seconds=5)
    async with database.transaction() as tx:
        assert await leases.acquire(tx, scope, ttl=LONGEST.other_lease, token=holder, now=taken_at)
    async with database.transaction() as tx:
        assert await cut_to_length(tx, NOW, LONGEST) == 0
        ends_at = await tx.scalar(select(lease_rows.c.expires_at).where(lease_rows.c.scope == scope))
    assert ends_at == taken_at + LONGEST.other_lease


@pytest.mark.parametrize(
    ("reason", "due_after"),
    [
        (WaitReason.TURN, timedelta(seconds=60)),
        (WaitReason.RETRY, timedelta(seconds=60)),
        (WaitReason.LITELLM, timedelta(seconds=60)),
        (WaitReason.ORGANIZATION, timedelta(hours=1)),
    ],
)
async def test_an_event_is_due_after_its_longest_pause_and_not_after_the_step(
    database: Database, reason: WaitReason, due_after: timedelta
) -> None:
    async with database.transaction() as tx:
        await organizations.lock(tx, ["org"])
        row = NewInboxRow(
            identity=uuid4(),
            org_id="org",
            type=EventType.USER_JOINED,
            subject="ann",
            reason=reason,
            origin=Origin.LIVE,
            event=b"{}",
            stored_at=BEFORE,
            due_at=BEFORE + due_after,
        )
        await inbox.add(tx, [row])
    async with database.transaction() as tx:
        assert await cut_to_length(tx, NOW, LONGEST) == 1
        assert await cut_to_length(tx, NOW, LONGEST) == 0
        assert await tx.scalar(select(inbox_rows.c.due_at)) == NOW + due_after


async def test_what_is_in_doubt_or_to_be_removed_is_looked_at_in_time(database: Database) -> None:
    async with database.transaction() as tx:
        far = BEFORE + timedelta(seconds=15)
        left = Resource(
            "org", ResourceKind.TEAM, "org", uuid4(), ResourceState.REMOVING, doubt_until=far, due_at=far
        )
        await resources.save(tx, [left])
        assert await cut_to_length(tx, NOW, LONGEST) == 2
        [found] = await resources.of_org(tx, "org")
    assert found.due_at == found.doubt_until == NOW + LONGEST.pause


async def test_without_a_step_nothing_is_touched(database: Database) -> None:
    async with database.transaction() as tx:
        await leases.acquire(tx, "relay:0", ttl=LONGEST.relay_lease, token=uuid4(), now=NOW)
        await leases.acquire(tx, "org:a", ttl=LONGEST.other_lease, token=uuid4(), now=NOW)
        assert await cut_to_length(tx, NOW, LONGEST) == 0
        assert len((await tx.execute(select(lease_rows))).all()) == 2
