"""Events that wait for others: behind an earlier one, or for their organization."""

from datetime import timedelta

from consumer.standin import Fault
from tests.integration.provisioning.world import World, job_completed, org_created, user_joined


async def test_a_second_org_created_takes_over_where_the_first_fails(world: World) -> None:
    world.standin.fail(Fault("/key/generate", status=400))
    first, second = org_created(), org_created(id_="e-2", name="Second", initial_credits=9)
    await world.take(first, second, user_joined())
    await world.run_for(60)
    assert (await world.outcome_of(first))[0] == "org.provisioning_failed"
    type_, data = await world.outcome_of(second)
    assert (type_, data["created"], data["name"], data["credits_balance"]) == (
        "org.provisioned",
        True,
        "Second",
        9,
    )
    assert [type_ for type_, _ in await world.told()] == [
        "org.provisioning_failed",
        "org.provisioned",
        "user.provisioned",
    ]
    await world.run_for(60)
    assert len(world.live_keys(user_id="owner-of-org")) == 1
    assert {one.state.value for one in await world.resources()} == {"in_use"}


async def test_a_second_user_joined_takes_over_where_the_first_fails(world: World) -> None:
    await world.take(org_created())
    await world.settle()
    world.standin.fail(Fault("/key/generate", status=400))
    first, second = user_joined(), user_joined(id_="e-2")
    await world.take(first, second)
    await world.run_for(60)
    assert (await world.outcome_of(first))[0] == "user.provisioning_failed"
    type_, data = await world.outcome_of(second)
    assert (type_, data["created"]) == ("user.provisioned", True)
    assert len(world.live_keys(user_id="ann")) == 1


async def test_dependents_wait_while_the_organization_is_tried_and_their_wait_begins_when_it_fails(
    world: World,
) -> None:
    world.restart(retry_for=timedelta(seconds=1000), dependency_wait=timedelta(seconds=100))
    world.standin.fail(Fault("/team/new", times=1000, status=500))
    cause, user = org_created(), user_joined()
    await world.take(cause, user, job_completed())
    await world.run_for(900, step=50)
    assert await world.told() == []
    await world.run_for(250, step=10)
    assert (await world.outcome_of(cause))[0] == "org.provisioning_failed"
    failed_at = next(one["time"] for one in await world.outcomes())
    assert await world.status() == "failed"
    await world.run_for(150, step=10)
    type_, data = await world.outcome_of(user)
    assert (type_, data["error_code"], data["step"]) == (
        "user.provisioning_failed",
        "org_not_active",
        "organization",
    )
    told_at = (await world.outcomes())[-1]["time"]
    assert told_at > failed_at


async def test_a_retry_of_the_organization_serves_those_who_still_wait(world: World) -> None:
    world.standin.fail(Fault("/key/generate", status=400))
    await world.take(org_created(), user_joined())
    await world.run_for(30)
    assert await world.status() == "failed"
    await world.retry_failed()
    await world.settle()
    assert [type_ for type_, _ in await world.told()] == [
        "org.provisioning_failed",
        "org.provisioned",
        "user.provisioned",
    ]


async def test_a_joining_that_comes_after_the_failure_waits_for_another_org_created(world: World) -> None:
    world.standin.fail(Fault("/key/generate", status=400))
    await world.take(org_created())
    await world.run_for(30)
    user = user_joined()
    await world.take(user)
    await world.settle()
    assert len(await world.told()) == 1
    await world.take(org_created(id_="e-2"))
    await world.settle()
    assert (await world.outcome_of(user))[0] == "user.provisioned"
