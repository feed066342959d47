"""Teams, and who belongs to them."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from consumer.litellm.client import LiteLLMClient
from consumer.litellm.errors import AlreadyExists, Existing, NotFound, Rejected
from consumer.litellm.models import Team
from tests.conformance.proxy import Proxy


def members_of(team: dict[str, Any]) -> dict[str, str]:
    return {member["user_id"]: member["role"] for member in team["members_with_roles"]}


def membership(info: dict[str, Any], user_id: str) -> Any:
    return next((row for row in info["team_memberships"] if row["user_id"] == user_id), None)


async def test_one_call_makes_a_team_with_its_owner(proxy: Proxy) -> None:
    made = await proxy.make_team(
        team_alias="The team",
        max_budget=25.5,
        blocked=False,
        models=["fake", "no-such-model"],
        metadata={"quartermaster": {"mark": "/quartermaster"}},
        members_with_roles=[{"role": "user", "user_id": proxy.user}],
    )
    info = await proxy.team_info()

    assert made["team_id"] == proxy.team
    team = info["team_info"]
    assert (team["team_alias"], team["max_budget"], team["spend"], team["blocked"]) == (
        "The team",
        25.5,
        0,
        False,
    )
    assert team["models"] == ["fake", "no-such-model"]
    assert team["metadata"] == {"quartermaster": {"mark": "/quartermaster"}}
    assert members_of(team) == {proxy.user: "user", "default_user_id": "admin"}
    assert membership(info, proxy.user)["litellm_budget_table"] is None
    assert membership(info, proxy.user)["budget_source"] == "none"
    user = await proxy.user_info()
    assert (user["user_role"], user["user_email"], user["teams"]) == ("internal_user", None, [proxy.team])


async def test_a_known_owner_is_used_unchanged(proxy: Proxy) -> None:
    await proxy.ok(
        "POST",
        "/user/new",
        json={"user_id": proxy.user, "user_email": proxy.email, "max_budget": 3, "auto_create_key": False},
    )

    await proxy.make_team(members_with_roles=[{"role": "user", "user_id": proxy.user}])

    user = await proxy.user_info()
    assert (user["user_email"], user["max_budget"], user["teams"]) == (proxy.email, 3, [proxy.team])


async def test_a_team_id_is_given_once_and_the_repeat_changes_nothing(
    proxy: Proxy, client: LiteLLMClient
) -> None:
    await proxy.make_team(max_budget=1)

    answer = await proxy.post(
        "/team/new",
        {
            "team_id": proxy.team,
            "max_budget": 2,
            "members_with_roles": [{"role": "user", "user_id": proxy.user}],
        },
    )

    assert (answer.status, answer.shape) == (400, "E")
    expected = f"Team id = {proxy.team} already exists. Please use a different team id."
    assert answer.text == repr({"error": expected})
    info = await proxy.team_info()
    assert info["team_info"]["max_budget"] == 1
    assert members_of(info["team_info"]) == {"default_user_id": "admin"}
    with pytest.raises(AlreadyExists) as caught:
        await client.team_new(
            proxy.team, team_alias="", max_budget=None, blocked=False, models=(), metadata={}, members=()
        )
    assert caught.value.existing is Existing.TEAM_ID


async def test_quotes_in_an_id_are_told_in_the_other_quotes(proxy: Proxy, client: LiteLLMClient) -> None:
    odd = f"{proxy.team}-O'Brien"
    await proxy.ok("POST", "/team/new", json={"team_id": odd})

    with pytest.raises(AlreadyExists) as caught:
        await client.team_new(odd, team_alias="", max_budget=None, blocked=False, models=(), metadata={})

    assert caught.value.existing is Existing.TEAM_ID


async def test_team_aliases_are_not_unique(proxy: Proxy) -> None:
    await proxy.make_team(team_alias=proxy.alias)

    twin = await proxy.post("/team/new", {"team_id": f"{proxy.team}-2", "team_alias": proxy.alias})

    assert twin.status == 200


async def test_an_empty_team_id_is_replaced(proxy: Proxy) -> None:
    made = await proxy.ok("POST", "/team/new", json={"team_id": "", "team_alias": proxy.alias})

    assert len(made["team_id"]) == 36


@pytest.mark.parametrize(("asked", "stored"), [(None, None), (0, 0.0), ("5", 5.0)])
async def test_budgets_of_a_new_team(proxy: Proxy, asked: object, stored: float | None) -> None:
    assert (await proxy.make_team(max_budget=asked))["max_budget"] == stored


async def test_a_negative_budget_is_refused(proxy: Proxy) -> None:
    answer = await proxy.post("/team/new", {"team_id": proxy.team, "max_budget": -1})

    assert (answer.status, answer.shape) == (400, "E")
    assert "max_budget must be a non-negative finite number" in answer.text


async def test_spend_cannot_be_set(proxy: Proxy) -> None:
    await proxy.make_team(spend=9)
    await proxy.post("/team/update", {"team_id": proxy.team, "spend": 9})

    assert (await proxy.team_info())["team_info"]["spend"] == 0


async def test_an_absent_team_is_not_found(proxy: Proxy, client: LiteLLMClient) -> None:
    answer = await proxy.get("/team/info", team_id=proxy.team)

    assert (answer.status, answer.shape) == (404, "E")
    assert f"Team not found, passed team id: {proxy.team}" in answer.text
    with pytest.raises(NotFound):
        await client.team_info(proxy.team)


async def test_update_sets_what_is_sent_and_keeps_the_rest(proxy: Proxy) -> None:
    await proxy.make_team(max_budget=5, models=["fake"], metadata={"a": 1, "b": 2})

    answer = await proxy.ok("POST", "/team/update", json={"team_id": proxy.team, "max_budget": None})
    assert answer["data"]["max_budget"] is None
    assert answer["data"]["models"] == ["fake"]

    await proxy.ok("POST", "/team/update", json={"team_id": proxy.team, "metadata": {"b": 3}})
    team = (await proxy.team_info())["team_info"]
    assert (team["max_budget"], team["models"], team["metadata"]) == (None, ["fake"], {"b": 3})


@pytest.mark.parametrize("field", ["models", "blocked"])
async def test_update_to_null_crashes_for_some_fields(proxy: Proxy, field: str) -> None:
    await proxy.make_team()

    assert (await proxy.post("/team/update", {"team_id": proxy.team, field: None})).status == 500


async def test_update_of_an_absent_team_is_not_found(proxy: Proxy, client: LiteLLMClient) -> None:
    answer = await proxy.post("/team/update", {"team_id": proxy.team, "max_budget": 1})

    assert (answer.status, answer.shape) == (404, "E")
    assert answer.text == repr({"error": f"Team not found, passed team_id={proxy.team}"})
    with pytest.raises(NotFound):
        await client.team_update(proxy.team, blocked=True)


async def test_delete_takes_the_keys_along_and_the_users_stay(proxy: Proxy, client: LiteLLMClient) -> None:
    await proxy.make_team()
    await proxy.make_member()
    key = await proxy.make_key()

    assert (await proxy.post("/team/delete", {"team_ids": [proxy.team]})).body == {
        "deleted_teams": [proxy.team]
    }

    assert (await proxy.key_info(key))["status"] == "deleted"
    assert (await proxy.chat(key)).body["error"]["type"] == "token_not_found_in_db"
    assert (await proxy.user_info())["teams"] == []
    answer = await proxy.post("/team/delete", {"team_ids": [proxy.team]})
    assert (answer.status, answer.shape) == (404, "D")
    assert answer.text == f"Team not found, passed team_id={proxy.team}"
    with pytest.raises(NotFound):
        await client.team_delete(proxy.team)


async def test_one_absent_id_and_no_team_is_deleted(proxy: Proxy) -> None:
    await proxy.make_team()

    answer = await proxy.post("/team/delete", {"team_ids": [proxy.team, f"{proxy.team}-absent"]})

    assert answer.status == 404
    assert (await proxy.team_info())["team_id"] == proxy.team


async def test_a_deleted_id_can_be_used_again(proxy: Proxy) -> None:
    await proxy.make_team()
    await proxy.post("/team/delete", {"team_ids": [proxy.team]})

    assert (await proxy.make_team())["team_id"] == proxy.team


async def test_block_and_unblock_can_be_repeated(proxy: Proxy) -> None:
    await proxy.make_team()
    for path, blocked in (("block", True), ("block", True), ("unblock", False), ("unblock", False)):
        answer = await proxy.post(f"/team/{path}", {"team_id": proxy.team})
        assert (answer.status, answer.body["blocked"]) == (200, blocked)
    absent = await proxy.post("/team/block", {"team_id": f"{proxy.team}-absent"})
    assert (absent.status, absent.shape) == (404, "D")


async def test_block_does_not_reach_calls_yet_but_update_does(proxy: Proxy) -> None:
    await proxy.make_team()
    key = await proxy.make_key()
    assert (await proxy.chat(key)).status == 200

    await proxy.post("/team/block", {"team_id": proxy.team})
    assert (await proxy.chat(key)).status == 200

    await proxy.post("/team/update", {"team_id": proxy.team, "blocked": True})
    assert (await proxy.chat(key)).status == 401


async def test_teams_are_listed_by_pages_of_a_hundred_at_most(proxy: Proxy) -> None:
    await proxy.make_team(metadata={"quartermaster": {}})

    listed = await proxy.ok("GET", "/v2/team/list", params={"team_id": proxy.team})
    assert (listed["total"], listed["total_pages"], listed["teams"][0]["metadata"]) == (
        1,
        1,
        {"quartermaster": {}},
    )
    assert (await proxy.get("/v2/team/list", page_size=101)).shape == "V"


async def test_member_add_makes_user_and_membership(proxy: Proxy) -> None:
    await proxy.make_team()

    added = await proxy.make_member(max_budget_in_team=3)

    assert proxy.user in members_of(added)
    (row,) = added["updated_team_memberships"]
    assert (row["user_id"], row["litellm_budget_table"]["max_budget"]) == (proxy.user, 3)
    info = await proxy.team_info()
    assert membership(info, proxy.user)["litellm_budget_table"]["max_budget"] == 3
    assert membership(info, proxy.user)["budget_source"] == "custom"
    assert (await proxy.user_info())["teams"] == [proxy.team]


async def test_a_teams_default_for_its_members_is_told_from_a_budget_of_their_own(
    proxy: Proxy, client: LiteLLMClient
) -> None:
    await proxy.make_team(metadata={"logging": "theirs"})
    await proxy.ok("POST", "/team/update", json={"team_id": proxy.team, "team_member_budget": 5})
    await proxy.make_member()
    other = {"role": "user", "user_id": f"{proxy.user}-2"}
    await proxy.ok(
        "POST", "/team/member_add", json={"team_id": proxy.team, "member": other, "max_budget_in_team": 2}
    )

    info = await client.team_info(proxy.team)
    rows = {row.user_id: (row.max_budget, row.budget_source) for row in info.memberships}
    assert rows[proxy.user] == (Decimal(5), "team_default")
    assert rows[f"{proxy.user}-2"] == (Decimal(2), "custom")
    assert info.team.metadata.keys() == {"logging", "team_member_budget_id"}

    await client.member_update(proxy.team, proxy.user, max_budget_in_team=None)
    row = (await client.team_info(proxy.team)).membership(proxy.user)
    assert row is not None
    assert row.max_budget is None


async def test_member_add_of_a_member_is_refused_and_applies_no_budget(
    proxy: Proxy, client: LiteLLMClient
) -> None:
    await proxy.make_team()
    await proxy.make_member(max_budget_in_team=3)

    answer = await proxy.post(
        "/team/member_add",
        {"team_id": proxy.team, "member": {"role": "user", "user_id": proxy.user}, "max_budget_in_team": 4},
    )

    assert (answer.status, answer.shape) == (400, "E")
    assert answer.text.startswith(f"User already in team. Member: user_id={proxy.user}, user_email=None.")
    assert answer.body["error"]["type"] == "team_member_already_in_team"
    row = membership(await proxy.team_info(), proxy.user)
    assert row["litellm_budget_table"]["max_budget"] == 3
    with pytest.raises(AlreadyExists) as caught:
        await client.member_add(proxy.team, proxy.user)
    assert caught.value.existing is Existing.MEMBER


async def test_of_a_list_of_members_those_in_the_team_are_skipped(proxy: Proxy) -> None:
    await proxy.make_team()
    await proxy.make_member()

    body = {
        "team_id": proxy.team,
        "member": [{"role": "user", "user_id": proxy.user + x} for x in ("", "-2")],
    }
    added = await proxy.ok("POST", "/team/member_add", json=body)

    assert {proxy.user, f"{proxy.user}-2"} <= members_of(added).keys()
    again = await proxy.post("/team/member_add", body)
    assert (again.status, again.shape) == (400, "E")
    assert again.text.startswith("All users are already in team.")


async def test_a_team_admin_needs_a_licence(proxy: Proxy) -> None:
    await proxy.make_team()

    body = {"team_id": proxy.team, "member": {"role": "admin", "user_id": proxy.user}}
    answer = await proxy.post("/team/member_add", body)

    assert (answer.status, answer.shape) == (400, "D")
    assert "premium feature" in answer.text


async def test_member_add_to_an_absent_team_is_not_found(proxy: Proxy, client: LiteLLMClient) -> None:
    body = {"team_id": proxy.team, "member": {"role": "user", "user_id": proxy.user}}
    answer = await proxy.post("/team/member_add", body)

    assert (answer.status, answer.shape) == (404, "D")
    assert answer.text.startswith(f"Team doesn't exist in db. Team={proxy.team}.")
    with pytest.raises(NotFound):
        await client.member_add(proxy.team, proxy.user)


@pytest.mark.parametrize("budget", [5, 0, None, -1])
async def test_member_update_sets_and_clears_the_budget(proxy: Proxy, budget: float | None) -> None:
    await proxy.make_team()
    await proxy.make_member(max_budget_in_team=3)

    body = {"team_id": proxy.team, "user_id": proxy.user, "max_budget_in_team": budget}
    await proxy.ok("POST", "/team/member_update", json=body)

    row = membership(await proxy.team_info(), proxy.user)
    assert (row["litellm_budget_table"] or {}).get("max_budget") == budget


async def test_member_update_keeps_what_is_omitted(proxy: Proxy) -> None:
    await proxy.make_team()
    await proxy.make_member(max_budget_in_team=3)

    body = {"team_id": proxy.team, "user_id": proxy.user}
    answer = await proxy.ok("POST", "/team/member_update", json=body)

    assert answer["max_budget_in_team"] is None
    assert membership(await proxy.team_info(), proxy.user)["litellm_budget_table"]["max_budget"] == 3


async def test_member_update_of_a_non_member_leaves_a_row_without_a_member(proxy: Proxy) -> None:
    await proxy.make_team()

    body = {"team_id": proxy.team, "user_id": proxy.user, "max_budget_in_team": 1}
    assert (await proxy.post("/team/member_update", body)).status == 200

    info = await proxy.team_info()
    assert membership(info, proxy.user) is not None
    assert proxy.user not in members_of(info["team_info"])


async def test_member_delete_takes_the_keys_of_that_team_along(proxy: Proxy) -> None:
    await proxy.make_team()
    await proxy.make_member()
    key = await proxy.make_key()
    personal = await proxy.make_key(team_id=None, key_alias=f"{proxy.alias}-personal")

    body = {"team_id": proxy.team, "user_id": proxy.user}
    assert (await proxy.post("/team/member_delete", body)).status == 200

    assert (await proxy.key_info(key))["status"] == "deleted"
    assert (await proxy.key_info(personal))["status"] == "active"
    assert (await proxy.user_info())["teams"] == []
    assert membership(await proxy.team_info(), proxy.user) is None


async def test_member_delete_of_a_non_member_is_not_found(proxy: Proxy, client: LiteLLMClient) -> None:
    await proxy.make_team()

    answer = await proxy.post("/team/member_delete", {"team_id": proxy.team, "user_id": proxy.user})

    assert (answer.status, answer.body) == (400, {"detail": {"error": "User not found in team"}})
    with pytest.raises(NotFound):
        await client.member_delete(proxy.team, proxy.user)
    with pytest.raises(NotFound):
        await client.member_delete(f"{proxy.team}-absent", proxy.user)


async def test_what_is_refused_for_good_is_rejected(client: LiteLLMClient, proxy: Proxy) -> None:
    with pytest.raises(Rejected):
        await client.team_new(
            proxy.team, team_alias="", max_budget=Decimal(-1), blocked=False, models=(), metadata={}
        )


async def test_of_creates_at_once_one_wins_and_the_others_learn_it(
    client: LiteLLMClient, proxy: Proxy
) -> None:
    async def make() -> Team | AlreadyExists:
        try:
            return await client.team_new(
                proxy.team,
                team_alias="",
                max_budget=Decimal(1),
                blocked=False,
                models=(),
                metadata={},
                members=[proxy.user],
            )
        except AlreadyExists as error:
            return error

    results = await asyncio.gather(*[make() for _ in range(12)])

    assert sum(isinstance(result, Team) for result in results) == 1
    assert (await client.team_info(proxy.team)).team.has_member(proxy.user)


async def test_members_added_at_once_are_all_there(client: LiteLLMClient, proxy: Proxy) -> None:
    await proxy.make_team()
    users = [f"{proxy.user}-{number}" for number in range(8)]

    await asyncio.gather(*[client.member_add(proxy.team, user) for user in users])

    team = (await client.team_info(proxy.team)).team
    assert all(team.has_member(user) for user in users)
