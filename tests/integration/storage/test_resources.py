from dataclasses import replace
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from storage import resources
from storage.resources import Resource, ResourceKind, ResourceState
from tests.integration.storage.rows import NOON, after

FIRST, SECOND = UUID(int=1), UUID(int=2)


def team(org_id: str = "acme", made_by: UUID = FIRST) -> Resource:
    return Resource(org_id, ResourceKind.TEAM, org_id, made_by)


async def test_what_stands_at_first_is_the_intent(tx: AsyncConnection) -> None:
    assert await resources.intend(tx, "acme", ResourceKind.TEAM, "acme", FIRST) == team()
    assert await resources.intend(tx, "acme", ResourceKind.TEAM, "acme", SECOND) == team()
    assert await resources.get(tx, "acme", ResourceKind.KEY, "acme") is None


async def test_one_that_was_removed_is_intended_anew(tx: AsyncConnection) -> None:
    await resources.save(tx, [replace(team(), state=ResourceState.REMOVED, due_at=NOON, doubt_until=NOON)])
    assert await resources.intend(tx, "acme", ResourceKind.TEAM, "acme", SECOND) == team(made_by=SECOND)


async def test_doubt_is_as_late_as_the_latest_call_and_ends_once_it_is_seen(tx: AsyncConnection) -> None:
    found = await resources.intend(tx, "acme", ResourceKind.TEAM, "acme", FIRST)
    found = await resources.doubt(tx, found, after(30))
    found = await resources.doubt(tx, found, after(10))
    assert found.doubt_until == after(30)
    found = await resources.mark_made(tx, found)
    assert (found.state, found.doubt_until) == (ResourceState.MADE, None)
    assert await resources.get(tx, "acme", ResourceKind.TEAM, "acme") == found


async def test_one_to_be_removed_is_due_until_a_later_event_takes_it_over(tx: AsyncConnection) -> None:
    made = await resources.mark_made(tx, team())
    key = replace(
        team(), kind=ResourceKind.KEY, resource_id="hash", state=ResourceState.REMOVED, due_at=after(9)
    )
    in_use = replace(team("used"), state=ResourceState.IN_USE, due_at=NOON)
    await resources.save(tx, [key, in_use])
    removing = await resources.set_state(tx, made, ResourceState.REMOVING, due_at=after(5))

    assert await resources.removable_due(tx, after(4), 10) == []
    assert await resources.removable_due(tx, after(9), 10) == [removing, key]
    assert await resources.removable_due(tx, after(9), 1) == [removing]
    assert await resources.removable_due(tx, after(9), 10, org_id="other") == []

    taken = await resources.take_over(tx, removing, SECOND)
    assert taken == replace(made, made_by=SECOND)
    assert await resources.removable_due(tx, after(9), 10) == [key]


async def test_one_taken_over_stays_doubtful(tx: AsyncConnection) -> None:
    removing = replace(team(), state=ResourceState.REMOVING, doubt_until=after(5), due_at=NOON)
    taken = await resources.take_over(tx, removing, SECOND)
    assert (taken.state, taken.doubt_until) == (ResourceState.INTENDED, after(5))


async def test_they_are_found_by_event_and_by_organization_and_forgotten(tx: AsyncConnection) -> None:
    mine, theirs = team(), replace(team(), kind=ResourceKind.MEMBER, resource_id="u", made_by=SECOND)
    await resources.save(tx, [mine, theirs, team("other")])
    assert set(await resources.of_event(tx, FIRST)) == {mine, team("other")}
    assert set(await resources.of_org(tx, "acme")) == {mine, theirs}
    await resources.forget(tx, mine)
    assert await resources.of_org(tx, "acme") == [theirs]
