"""Users."""

from decimal import Decimal
from typing import Any

import pytest

from consumer.litellm.client import LiteLLMClient
from consumer.litellm.errors import AlreadyExists, Existing, NotFound
from tests.conformance.proxy import Proxy


async def make_user(proxy: Proxy, **fields: object) -> Any:
    body = {"user_id": proxy.user, "auto_create_key": False, **fields}
    return await proxy.ok("POST", "/user/new", json=body)


async def test_new_makes_a_user(proxy: Proxy) -> None:
    made = await make_user(proxy, user_email=proxy.email)

    assert (made["user_id"], made["user_email"], made["key"]) == (proxy.user, proxy.email, "")
    user = await proxy.user_info()
    assert (user["user_id"], user["user_email"], user["teams"]) == (proxy.user, proxy.email, [])


async def test_new_also_makes_a_key_unless_told_otherwise(proxy: Proxy) -> None:
    made = await proxy.ok("POST", "/user/new", json={"user_id": proxy.user})

    assert made["key"].startswith("sk-")


async def test_new_joins_the_teams_there_are(proxy: Proxy) -> None:
    await proxy.make_team()

    teams = [{"team_id": proxy.team, "user_role": "user", "max_budget_in_team": 2}, {"team_id": "absent"}]
    made = await make_user(proxy, user_email=proxy.email, teams=teams)

    assert made["teams"] == [proxy.team]
    info = await proxy.team_info()
    row = next(row for row in info["team_memberships"] if row["user_id"] == proxy.user)
    assert row["litellm_budget_table"]["max_budget"] == 2
    member = next(m for m in info["team_info"]["members_with_roles"] if m["user_id"] == proxy.user)
    assert (member["role"], member["user_email"]) == ("user", proxy.email)


async def test_an_absent_team_is_left_out_in_silence(proxy: Proxy) -> None:
    assert (await make_user(proxy, teams=[{"team_id": proxy.team, "user_role": "user"}]))["teams"] == []


async def test_a_user_id_is_given_once_and_the_repeat_joins_no_team(
    proxy: Proxy, client: LiteLLMClient
) -> None:
    await proxy.make_team()
    await make_user(proxy)

    answer = await proxy.post("/user/new", {"user_id": proxy.user, "teams": [{"team_id": proxy.team}]})

    assert (answer.status, answer.shape) == (409, "E")
    assert answer.text == repr({"error": f"User with id {proxy.user} already exists"})
    assert (await proxy.user_info())["teams"] == []
    with pytest.raises(AlreadyExists) as caught:
        await client.user_new(proxy.user)
    assert caught.value.existing is Existing.USER_ID


async def test_an_email_is_given_once_whatever_its_case(proxy: Proxy, client: LiteLLMClient) -> None:
    await make_user(proxy, user_email=proxy.email)

    other = {"user_id": f"{proxy.user}-2", "user_email": proxy.email.upper(), "auto_create_key": False}
    answer = await proxy.post("/user/new", other)

    assert (answer.status, answer.shape) == (409, "E")
    assert answer.text == repr({"error": f"User with email {proxy.email} already exists"})
    with pytest.raises(AlreadyExists) as caught:
        await client.user_new(f"{proxy.user}-2", user_email=proxy.email)
    assert caught.value.existing is Existing.USER_EMAIL
    assert proxy.email.lower() not in str(caught.value).lower()


async def test_where_id_and_email_exist_the_id_is_named(proxy: Proxy, client: LiteLLMClient) -> None:
    await make_user(proxy, user_email=proxy.email)

    with pytest.raises(AlreadyExists) as caught:
        await client.user_new(proxy.user, user_email=proxy.email)
    assert caught.value.existing is Existing.USER_ID


async def test_an_absent_user_is_not_found(proxy: Proxy, client: LiteLLMClient) -> None:
    assert (await proxy.get("/v2/user/info", user_id=proxy.user)).text == f"User not found: {proxy.user}"
    assert (await proxy.get("/user/info", user_id=proxy.user)).text == f"User {proxy.user} not found"
    with pytest.raises(NotFound):
        await client.user_info(proxy.user)


async def test_an_email_given_to_member_add_is_not_the_users_own(proxy: Proxy) -> None:
    await proxy.make_team()

    await proxy.make_member(member={"role": "user", "user_id": proxy.user, "user_email": proxy.email})

    assert (await proxy.user_info())["user_email"] is None


async def test_update_of_an_absent_user_makes_it(proxy: Proxy) -> None:
    assert (await proxy.post("/user/update", {"user_id": proxy.user, "max_budget": 1})).status == 200

    user = await proxy.user_info()
    assert (user["max_budget"], user["user_role"]) == (1, None)


@pytest.mark.parametrize("budget", [None, 0, -1, 7])
async def test_update_takes_any_budget(proxy: Proxy, budget: float | None) -> None:
    await make_user(proxy, max_budget=3)
    await proxy.ok("POST", "/user/update", json={"user_id": proxy.user, "max_budget": budget})

    assert (await proxy.user_info())["max_budget"] == budget


async def test_update_passes_over_what_is_empty(proxy: Proxy) -> None:
    await make_user(proxy, user_email=proxy.email, models=["fake"], metadata={"a": 1})

    body: dict[str, object] = {"user_id": proxy.user, "user_email": None, "models": [], "metadata": {}}
    await proxy.ok("POST", "/user/update", json=body)

    user = await proxy.user_info()
    assert (user["user_email"], user["models"], user["metadata"]) == (proxy.email, ["fake"], {"a": 1})


async def test_delete_ends_memberships_and_keys_of_all_teams(proxy: Proxy) -> None:
    await proxy.make_team()
    await proxy.make_member()
    key = await proxy.make_key()

    assert (await proxy.post("/user/delete", {"user_ids": [proxy.user]})).status == 200

    assert (await proxy.chat(key)).status == 401
    info = await proxy.team_info()
    assert proxy.user not in [member["user_id"] for member in info["team_info"]["members_with_roles"]]
    again = await proxy.post("/user/delete", {"user_ids": [proxy.user]})
    assert (again.status, again.shape) == (404, "D")


async def test_one_absent_id_and_no_user_is_deleted_but_the_teams_are_left(proxy: Proxy) -> None:
    await proxy.make_team()
    await proxy.make_member()

    answer = await proxy.post("/user/delete", {"user_ids": [proxy.user, f"{proxy.user}-absent"]})

    assert answer.status == 404
    assert (await proxy.user_info())["user_id"] == proxy.user
    team = (await proxy.team_info())["team_info"]
    assert proxy.user not in [member["user_id"] for member in team["members_with_roles"]]


async def test_update_has_to_name_a_user(proxy: Proxy) -> None:
    assert (await proxy.post("/user/update", {"max_budget": 1})).shape == "V"


async def test_the_client_makes_a_user_with_a_membership(proxy: Proxy, client: LiteLLMClient) -> None:
    await proxy.make_team()

    user = await client.user_new(
        proxy.user, user_email=proxy.email, team_id=proxy.team, max_budget_in_team=Decimal("0.25")
    )

    assert (user.user_id, user.user_email, user.teams) == (proxy.user, proxy.email, (proxy.team,))
    membership = (await client.team_info(proxy.team)).membership(proxy.user)
    assert membership is not None
    assert membership.max_budget == Decimal("0.25")
