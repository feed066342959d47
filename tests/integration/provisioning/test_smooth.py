"""Provisioning where nothing goes wrong: what stands, what is told, and how few calls it takes."""

import hashlib
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.provisioning.world import World, event, job_completed, org_created, user_joined


async def test_an_organization_takes_three_calls(world: World) -> None:
    cause = org_created(initial_credits=100, models=["fake"])
    await world.take(cause)
    await world.settle()

    assert world.calls() == ["/team/new", "/key/generate", "/team/info"]
    (key,) = world.live_keys()
    type_, data = await world.outcome_of(cause)
    assert type_ == "org.provisioned"
    assert data["owner"]["key"] == {"name": "default", "alias": key.key_alias, "hash": key.hash}
    assert data == {
        "org_id": "org",
        "name": "Acme",
        "team_id": "org",
        "created": True,
        "adopted": False,
        "max_budget_usd": "25.00",
        "models": ["fake"],
        "account_id": "org",
        "credits_balance": 100,
        "owner": {"user_id": "owner-of-org", "email_set": False, "key": data["owner"]["key"]},
        "base_url": "http://proxy.example",
        "attempts": 1,
        "duration_ms": 0,
    }
    assert world.activated == ["org"]
    assert await world.status() == "active"
    assert (await world.books()).ok
    assert {one.state.value for one in await world.resources()} == {"in_use"}
    (stored,) = await world.keys()
    assert hashlib.sha256(world.vault.decrypt(stored.ciphertext).encode()).hexdigest() == key.hash
    assert key.allowed_routes == ["llm_api_routes"]


async def test_an_owner_with_an_email_takes_four_calls(world: World) -> None:
    cause = org_created(owner_email="Owner@Example.com")
    await world.take(cause)
    await world.settle()

    assert world.calls() == ["/user/new", "/team/new", "/key/generate", "/team/info"]
    assert (await world.outcome_of(cause))[1]["owner"]["email_set"] is True
    assert len(world.standin.state.keys) == 1


@pytest.mark.parametrize(
    ("data", "calls", "email_set"),
    [
        ({}, ["/team/member_add", "/key/generate", "/key/info"], False),
        ({"max_budget_usd": "3"}, ["/team/member_add", "/key/generate", "/key/info"], False),
        ({"email": "a@b.c"}, ["/user/new", "/key/generate", "/team/info"], True),
        ({"email": "a@b.c", "max_budget_usd": "3"}, ["/user/new", "/key/generate", "/team/info"], True),
        ({"max_budget_usd": 0}, ["/team/member_add", "/key/generate", "/key/info"], False),
    ],
)
async def test_a_user_takes_three_calls(
    world: World, data: dict[str, Any], calls: list[str], *, email_set: bool
) -> None:
    await world.take(org_created())
    await world.settle()
    before = len(world.calls())
    cause = user_joined(**data)
    await world.take(cause)
    await world.settle()

    assert world.calls()[before:] == calls
    type_, told = await world.outcome_of(cause)
    (key,) = world.live_keys(user_id="ann")
    assert type_ == "user.provisioned"
    assert told == {
        "org_id": "org",
        "user_id": "ann",
        "team_id": "org",
        "created": True,
        "email_set": email_set,
        "key": {"name": "default", "alias": key.key_alias, "hash": key.hash},
        "base_url": "http://proxy.example",
        "attempts": 1,
        "duration_ms": 0,
    }
    budget = world.standin.state.memberships["org", "ann"].max_budget
    assert budget == (None if "max_budget_usd" not in data else float(data["max_budget_usd"]))


async def test_a_budget_of_zero_blocks_the_team(world: World) -> None:
    await world.take(org_created(max_budget_usd=0))
    await world.settle()
    team = world.standin.state.teams["org"]
    assert (team.max_budget, team.blocked) == (0, True)


async def test_what_the_event_leaves_open_comes_from_the_settings(world: World) -> None:
    world.restart(default_initial_credits=7, default_max_budget_usd=Decimal("1.50"), default_models=("fake",))
    cause = event("org.created", "e", org_id="org", name="A", owner_user_id="o")
    await world.take(cause)
    await world.settle()
    data = (await world.outcome_of(cause))[1]
    assert (data["credits_balance"], data["max_budget_usd"], data["models"]) == (7, "1.50", ["fake"])


async def test_no_limit_and_all_models_are_asked_for_explicitly(world: World) -> None:
    world.restart(default_max_budget_usd=Decimal("1.50"), default_models=("fake",))
    cause = org_created(max_budget_usd=None, models=[])
    await world.take(cause)
    await world.settle()
    data = (await world.outcome_of(cause))[1]
    assert (data["max_budget_usd"], data["models"]) == (None, [])
    assert world.standin.state.teams["org"].max_budget is None


async def test_a_second_event_for_an_active_organization_changes_nothing(world: World) -> None:
    first = org_created(initial_credits=5)
    await world.take(first)
    await world.settle()
    calls = world.calls()
    second = org_created(
        id_="e-2", name="Other", owner_user_id="other", max_budget_usd="99", initial_credits=50
    )
    await world.take(second)
    await world.settle()
    told = (await world.outcome_of(first))[1]
    assert await world.outcome_of(second) == ("org.provisioned", {**told, "created": False, "attempts": 0})
    assert world.calls() == calls


async def test_the_owners_own_joining_and_a_second_joining_change_nothing(world: World) -> None:
    await world.take(
        org_created(), user_joined("owner-of-org", id_="own"), user_joined(), user_joined(id_="twice")
    )
    await world.settle()
    outcomes = {one["causationid"]: one["data"] for one in await world.outcomes()}
    assert outcomes["own"]["created"] is False
    assert outcomes["own"]["key"] == outcomes["e-org"]["owner"]["key"]
    assert [outcomes["e-org-ann"]["created"], outcomes["twice"]["created"]] == [True, False]
    assert outcomes["twice"]["key"] == outcomes["e-org-ann"]["key"]
    assert len(world.calls()) == 6


async def test_users_and_jobs_that_came_first_are_released(world: World) -> None:
    await world.take(user_joined(), job_completed())
    await world.settle()
    assert await world.told() == []
    assert world.calls() == []
    await world.take(org_created(initial_credits=1))
    await world.settle()
    assert [type_ for type_, _ in await world.told()] == ["org.provisioned", "user.provisioned"]
    assert world.activated == ["org"]
    assert set(await world.member_ids()) == {"owner-of-org", "ann"}


async def test_one_user_in_two_organizations_has_two_keys_and_keeps_the_email(world: World) -> None:
    await world.take(org_created("one", "e1"), org_created("two", "e2"))
    await world.settle()
    first, second = (
        user_joined("ann", org_id="one", email="a@b.c"),
        user_joined("ann", org_id="two", email="A@B.C"),
    )
    await world.take(first, second)
    await world.run_for(5, step=1)
    keys = {(await world.outcome_of(one))[1]["key"]["hash"] for one in (first, second)}
    assert len(keys) == 2
    assert [(await world.outcome_of(one))[1]["email_set"] for one in (first, second)] == [True, True]
    assert len([user for user in world.standin.state.users.values() if user.user_email]) == 1


async def test_an_email_that_another_user_holds_is_left_out(world: World) -> None:
    holder, owner = (
        org_created("one", "e1", owner_email="a@b.c"),
        org_created("two", "e2", owner_email="A@b.c"),
    )
    await world.take(holder)
    await world.settle()
    await world.take(owner)
    await world.settle()
    joined = user_joined("bob", org_id="one", email="a@B.c")
    await world.take(joined)
    await world.settle()
    assert (await world.outcome_of(holder))[1]["owner"]["email_set"] is True
    assert (await world.outcome_of(owner))[1]["owner"]["email_set"] is False
    assert (await world.outcome_of(joined))[1]["email_set"] is False
    assert world.standin.state.users["bob"].user_email is None


async def test_a_user_who_joins_an_organization_nobody_hears_of_fails(world: World) -> None:
    cause = user_joined()
    await world.take(cause)
    await world.run_for(310, step=50)
    type_, data = await world.outcome_of(cause)
    assert type_ == "user.provisioning_failed"
    assert (data["error_code"], data["attempts"], data["compensation"]) == ("org_not_found", 0, "not_needed")


async def test_no_key_leaves_in_clear(world: World) -> None:
    await world.take(org_created(), user_joined())
    await world.settle()
    for stored in await world.keys():
        secret = world.vault.decrypt(stored.ciphertext)
        assert secret not in str(await world.outcomes())
        assert secret not in repr(stored)
