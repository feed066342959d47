"""What a key can do at model calls, and what stops it."""

import pytest

from tests.conformance.proxy import Proxy


@pytest.fixture
async def key(proxy: Proxy) -> str:
    await proxy.make_team()
    await proxy.make_member()
    return await proxy.make_key()


async def change_team(proxy: Proxy, **fields: object) -> None:
    await proxy.ok("POST", "/team/update", json={"team_id": proxy.team, **fields})


async def change_key(proxy: Proxy, key: str, **fields: object) -> None:
    await proxy.ok("POST", "/key/update", json={"key": key, **fields})


async def models_of(proxy: Proxy, key: str) -> list[str]:
    return [model["id"] for model in (await proxy.ok("GET", "/v1/models", key=key))["data"]]


async def test_a_new_key_works_at_once_on_both_paths(proxy: Proxy, key: str) -> None:
    answer = await proxy.chat(key)

    assert (answer.status, answer.body["model"], answer.body["object"]) == (200, "fake", "chat.completion")
    body = {"model": "fake", "messages": [{"role": "user", "content": "hello"}]}
    assert (await proxy.post("/v1/chat/completions", body, key=key)).status == 200
    assert {"fake", "fake2"} <= set(await models_of(proxy, key))


async def test_what_it_costs_shows_on_key_team_member_and_user(proxy: Proxy, key: str) -> None:
    await proxy.chat(key)

    spend = await proxy.spend_of(key)

    assert spend > 0
    info = await proxy.team_info()
    row = next(row for row in info["team_memberships"] if row["user_id"] == proxy.user)
    assert (info["team_info"]["spend"], row["spend"]) == (spend, spend)
    assert (await proxy.user_info())["spend"] == spend


async def test_a_key_of_a_non_member_works(proxy: Proxy) -> None:
    await proxy.make_team()
    key = await proxy.make_key(user_id=f"{proxy.user}-absent")

    assert (await proxy.chat(key)).status == 200


async def test_an_unknown_model(proxy: Proxy, key: str) -> None:
    answer = await proxy.chat(key, "no-such-model")

    assert (answer.status, answer.shape) == (400, "E")
    assert "Invalid model name" in answer.text


@pytest.mark.parametrize("body", [{}, {"model": "fake"}])
async def test_a_call_without_messages(proxy: Proxy, key: str, body: dict[str, object]) -> None:
    answer = await proxy.post("/chat/completions", body, key=key)

    assert (answer.status, answer.shape) == (400, "E")
    assert "Missing required parameter: 'messages'" in answer.text


async def test_the_teams_models_bind_at_once(proxy: Proxy, key: str) -> None:
    await change_team(proxy, models=["fake2"])

    refused = await proxy.chat(key)
    assert (refused.status, refused.body["error"]["type"]) == (403, "team_model_access_denied")
    assert await models_of(proxy, key) == ["fake2"]

    await change_team(proxy, models=[])
    assert (await proxy.chat(key)).status == 200


async def test_the_keys_models_bind_at_once(proxy: Proxy, key: str) -> None:
    await change_key(proxy, key, models=["fake2"])

    refused = await proxy.chat(key)
    assert (refused.status, refused.body["error"]["type"]) == (403, "key_model_access_denied")


async def test_a_blocked_team_refuses_calls_and_lists(proxy: Proxy, key: str) -> None:
    await change_team(proxy, blocked=True)

    for refused in (await proxy.chat(key), await proxy.get("/v1/models", key=key)):
        assert (refused.status, refused.shape) == (401, "E")
        assert f"Team={proxy.team} is blocked" in refused.text

    await change_team(proxy, blocked=False)
    assert (await proxy.chat(key)).status == 200


async def test_a_teams_budget_of_nothing_with_block(proxy: Proxy) -> None:
    await proxy.make_team(max_budget=0, blocked=True)
    key = await proxy.make_key()

    assert (await proxy.chat(key)).status == 401


async def test_a_teams_budget_of_nothing_lets_a_first_call_through(proxy: Proxy) -> None:
    await proxy.make_team(max_budget=0)
    key = await proxy.make_key()

    assert (await proxy.chat(key)).status == 200
    assert await proxy.spend_of(key) > 0
    assert (await proxy.chat(key)).status == 422


async def test_a_keys_budget_of_nothing_blocks_at_once(proxy: Proxy, key: str) -> None:
    await change_key(proxy, key, max_budget=0)

    refused = await proxy.chat(key)
    assert (refused.status, refused.body["error"]["type"]) == (422, "budget_exceeded")
    assert refused.text.startswith(f"Budget has been exceeded! Key={proxy.alias}")

    await change_key(proxy, key, max_budget=None)
    assert (await proxy.chat(key)).status == 200


async def test_a_members_budget_of_nothing_blocks_at_once(proxy: Proxy, key: str) -> None:
    member = {"team_id": proxy.team, "user_id": proxy.user}
    await proxy.ok("POST", "/team/member_update", json={**member, "max_budget_in_team": 0})

    refused = await proxy.chat(key)
    assert (refused.status, refused.body["error"]["type"]) == (422, "budget_exceeded")
    assert f"User={proxy.user} in Team={proxy.team}" in refused.text

    await proxy.ok("POST", "/team/member_update", json={**member, "max_budget_in_team": None})
    assert (await proxy.chat(key)).status == 200


async def test_a_users_own_budget_binds_personal_keys_alone(proxy: Proxy, key: str) -> None:
    personal = await proxy.make_key(team_id=None, key_alias=f"{proxy.alias}-personal")
    await proxy.ok("POST", "/user/update", json={"user_id": proxy.user, "max_budget": 0})

    assert (await proxy.chat(key)).status == 200
    refused = await proxy.chat(personal)
    assert (refused.status, refused.body["error"]["type"]) == (422, "budget_exceeded")
    assert f"User={proxy.user}" in refused.text


async def test_a_key_is_dead_at_once_after_the_membership(proxy: Proxy, key: str) -> None:
    await proxy.post("/team/member_delete", {"team_id": proxy.team, "user_id": proxy.user})

    refused = await proxy.chat(key)

    assert (refused.status, refused.body["error"]["type"]) == (401, "token_not_found_in_db")
