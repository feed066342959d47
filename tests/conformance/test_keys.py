"""Virtual keys."""

import asyncio
import contextlib
import secrets
from decimal import Decimal

import pytest

from consumer.litellm.client import LiteLLMClient
from consumer.litellm.errors import AlreadyExists, Doubtful, Existing, NotFound, Rejected
from tests.conformance.proxy import Proxy, hash_of


def new_key() -> str:
    return f"sk-{secrets.token_hex(16)}"


async def test_generate_takes_our_own_key(proxy: Proxy) -> None:
    await proxy.make_team()
    key = new_key()

    body = {
        "key": key,
        "key_alias": proxy.alias,
        "team_id": proxy.team,
        "user_id": proxy.user,
        "key_type": "llm_api",
    }
    made = await proxy.ok("POST", "/key/generate", json=body)

    assert (made["key"], made["token"]) == (key, hash_of(key))
    stored = await proxy.key_info(key)
    assert (stored["key_alias"], stored["team_id"], stored["user_id"]) == (
        proxy.alias,
        proxy.team,
        proxy.user,
    )
    assert (stored["key_type"], stored["allowed_routes"]) == ("llm_api", ["llm_api_routes"])
    assert (stored["max_budget"], stored["expires"], stored["models"]) == (None, None, [])
    assert (stored["status"], stored["blocked"]) == ("active", None)


async def test_team_info_shows_the_key(proxy: Proxy, client: LiteLLMClient) -> None:
    await proxy.make_team()
    key = await proxy.make_key()

    found = (await client.team_info(proxy.team)).key(hash_of(key))

    assert found is not None
    assert (found.key_alias, found.user_id, found.key_type) == (proxy.alias, proxy.user, "llm_api")


async def test_an_alias_is_given_once_also_to_the_same_key(proxy: Proxy, client: LiteLLMClient) -> None:
    await proxy.make_team()
    key = await proxy.make_key()

    for again in (key, new_key()):
        answer = await proxy.post("/key/generate", {"key": again, "key_alias": proxy.alias})
        assert (answer.status, answer.shape) == (400, "E")
        assert answer.text.startswith(f"Key with alias '{proxy.alias}' already exists.")
    with pytest.raises(AlreadyExists) as caught:
        await client.key_generate(key, key_alias=proxy.alias, team_id=proxy.team, user_id=proxy.user)
    assert caught.value.existing is Existing.KEY_ALIAS


async def test_the_same_key_again_keeps_what_it_has_and_the_answer_says_otherwise(proxy: Proxy) -> None:
    await proxy.make_team()
    key = await proxy.make_key(max_budget=1)

    body = {"key": key, "key_alias": f"{proxy.alias}-2", "team_id": proxy.team, "max_budget": 2}
    answer = await proxy.ok("POST", "/key/generate", json=body)

    assert (answer["key_alias"], answer["max_budget"]) == (f"{proxy.alias}-2", 2)
    stored = await proxy.key_info(key)
    assert (stored["key_alias"], stored["max_budget"]) == (proxy.alias, 1)


@pytest.mark.parametrize("key", ["sk-short", "no-prefix-but-long-enough"])
async def test_a_key_of_another_form_is_refused(proxy: Proxy, client: LiteLLMClient, key: str) -> None:
    answer = await proxy.post("/key/generate", {"key": key})

    assert (answer.status, answer.shape) == (400, "E")
    assert "Invalid key format. LiteLLM Virtual Key must" in answer.text
    with pytest.raises(Rejected) as caught:
        await client.key_generate(key, key_alias=proxy.alias, team_id=proxy.team, user_id=None)
    assert key not in str(caught.value)


async def test_a_key_for_an_absent_team_is_made_and_does_not_work(proxy: Proxy) -> None:
    key = await proxy.make_key()

    assert (await proxy.chat(key)).status == 404


@pytest.mark.parametrize("field", [{"duration": "soon"}, {"duration": "-1"}, {"budget_id": "absent"}])
async def test_what_generate_crashes_on(proxy: Proxy, field: dict[str, object]) -> None:
    assert (await proxy.post("/key/generate", field)).status == 500


async def test_an_unknown_key_type_is_refused(proxy: Proxy) -> None:
    assert (await proxy.post("/key/generate", {"key_type": "any"})).shape == "V"


async def test_an_absent_key_is_not_found(proxy: Proxy, client: LiteLLMClient) -> None:
    answer = await proxy.call("GET", "/key/info", params={"key": "0" * 64})

    assert (answer.status, answer.text) == (404, "Key not found in database")
    with pytest.raises(NotFound):
        await client.key_info("0" * 64)
    await client.probe()


async def test_a_deleted_key_is_still_shown(proxy: Proxy, client: LiteLLMClient) -> None:
    await proxy.make_team()
    key = await proxy.make_key()

    deleted = await proxy.post("/key/delete", {"keys": [hash_of(key)]})

    assert (deleted.status, deleted.body) == (200, {"deleted_keys": [hash_of(key)]})
    assert (await proxy.key_info(key))["status"] == "deleted"
    assert (await client.key_info(hash_of(key))).deleted
    again = await proxy.post("/key/delete", {"keys": [hash_of(key)]})
    assert (again.status, again.text) == (404, repr({"error": "No keys found"}))
    with pytest.raises(NotFound):
        await client.key_delete(hash_of(key))


async def test_a_deleted_key_can_be_made_again(proxy: Proxy) -> None:
    await proxy.make_team()
    key = await proxy.make_key()
    await proxy.post("/key/delete", {"keys": [key]})

    await proxy.make_key(key=key)

    assert (await proxy.key_info(key))["status"] == "active"


async def test_delete_by_alias_and_of_a_mixed_list(proxy: Proxy) -> None:
    await proxy.make_key(team_id=None)
    assert (await proxy.post("/key/delete", {"key_aliases": [proxy.alias]})).body == {
        "deleted_keys": [proxy.alias]
    }
    assert (await proxy.post("/key/delete", {"key_aliases": [proxy.alias]})).status == 404

    key = await proxy.make_key(team_id=None)
    mixed = await proxy.post("/key/delete", {"keys": [key, "sk-absent-absent-absent"]})
    assert (mixed.status, mixed.body) == (200, {"deleted_keys": [key, "sk-absent-absent-absent"]})


@pytest.mark.parametrize("body", [{}, {"keys": []}])
async def test_delete_has_to_name_something(proxy: Proxy, body: dict[str, object]) -> None:
    assert (await proxy.post("/key/delete", body)).shape == "V"


async def test_list_by_alias_hash_and_team(proxy: Proxy) -> None:
    await proxy.make_team()
    key = await proxy.make_key()

    for query in ({"key_alias": proxy.alias}, {"key_hash": hash_of(key)}, {"team_id": proxy.team}):
        listed = await proxy.ok("GET", "/key/list", params=query)
        assert (listed["keys"], listed["total_count"]) == ([hash_of(key)], 1)
    full_query = {"key_alias": proxy.alias, "return_full_object": "true", "size": "100"}
    (full,) = (await proxy.ok("GET", "/key/list", params=full_query))["keys"]
    assert (full["token"], full["team_id"], full["user_id"]) == (hash_of(key), proxy.team, proxy.user)
    assert (await proxy.get("/key/list", size=101)).shape == "V"

    await proxy.post("/key/delete", {"keys": [key]})
    assert (await proxy.ok("GET", "/key/list", params={"key_alias": proxy.alias}))["keys"] == []


async def test_update_by_key_and_by_hash(proxy: Proxy, client: LiteLLMClient) -> None:
    await proxy.make_team()
    key = await proxy.make_key(max_budget=1)

    for name, budget in ((key, 2), (hash_of(key), None)):
        answer = await proxy.ok("POST", "/key/update", json={"key": name, "max_budget": budget})
        assert answer["max_budget"] == budget
    assert (await proxy.key_info(key))["key_alias"] == proxy.alias
    changed = await client.key_update(hash_of(key), max_budget=Decimal("0.125"), models=["fake"])
    assert (changed.max_budget, changed.models) == (Decimal("0.125"), ("fake",))


async def test_update_of_an_absent_key_is_not_found(proxy: Proxy, client: LiteLLMClient) -> None:
    answer = await proxy.post("/key/update", {"key": "0" * 64, "max_budget": 1})

    assert (answer.status, answer.text) == (404, "Key not found.")
    with pytest.raises(NotFound):
        await client.key_update("0" * 64, max_budget=None)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"models": None}, 400),
        ({"max_budget": -1}, 400),
        ({"duration": "soon"}, 400),
        ({"team_id": "absent"}, 404),
    ],
)
async def test_updates_that_are_refused(proxy: Proxy, change: dict[str, object], status: int) -> None:
    key = await proxy.make_key(team_id=None)

    answer = await proxy.post("/key/update", {"key": hash_of(key), **change})

    assert (answer.status, answer.shape) == (status, "E")


async def test_update_to_a_taken_alias_is_refused(proxy: Proxy, client: LiteLLMClient) -> None:
    await proxy.make_key(team_id=None)
    other = await proxy.make_key(team_id=None, key_alias=f"{proxy.alias}-2")

    with pytest.raises(AlreadyExists) as caught:
        await client.key_update(hash_of(other), key_alias=proxy.alias)

    assert caught.value.existing is Existing.KEY_ALIAS


async def test_a_key_moves_only_to_a_team_of_its_user(proxy: Proxy) -> None:
    await proxy.make_team()
    key = await proxy.make_key(team_id=None)

    refused = await proxy.post("/key/update", {"key": key, "team_id": proxy.team})
    assert (refused.status, refused.shape) == (403, "E")
    assert "not a member" in refused.text

    await proxy.make_member()
    assert (await proxy.post("/key/update", {"key": key, "team_id": proxy.team})).status == 200
    assert (await proxy.key_info(key))["team_id"] == proxy.team


@pytest.mark.parametrize("endless", [None, "-1"])
async def test_update_takes_an_expiry_back(proxy: Proxy, endless: str | None) -> None:
    key = await proxy.make_key(team_id=None, duration="30d")
    assert (await proxy.key_info(key))["expires"] is not None

    await proxy.ok("POST", "/key/update", json={"key": key, "duration": endless})

    assert (await proxy.key_info(key))["expires"] is None


async def test_block_and_unblock_act_at_once(proxy: Proxy) -> None:
    await proxy.make_team()
    key = await proxy.make_key()
    for _ in range(2):
        assert (await proxy.post("/key/block", {"key": hash_of(key)})).status == 200
    refused = await proxy.chat(key)
    assert (refused.status, "Key is blocked" in refused.text) == (401, True)

    assert (await proxy.post("/key/unblock", {"key": key})).status == 200
    assert (await proxy.chat(key)).status == 200

    assert (await proxy.post("/key/block", {"key": "0" * 64})).status == 404
    assert (await proxy.post("/key/block", {"key": "neither"})).text == "Invalid key format."


async def test_an_own_key_that_is_repeated_stays_one(proxy: Proxy, client: LiteLLMClient) -> None:
    await proxy.make_team()
    key = new_key()
    made = await client.key_generate(key, key_alias=proxy.alias, team_id=proxy.team, user_id=proxy.user)
    assert made.hash == hash_of(key)

    with pytest.raises(AlreadyExists):
        await client.key_generate(key, key_alias=proxy.alias, team_id=proxy.team, user_id=proxy.user)

    assert len((await client.team_info(proxy.team)).keys) == 1


async def test_a_proxy_elsewhere_is_a_doubt_and_not_an_absence(proxy: Proxy) -> None:
    async with LiteLLMClient.connect(f"{proxy.url}/elsewhere", proxy.master_key) as elsewhere:
        with pytest.raises(Doubtful):
            await elsewhere.key_info("0" * 64)


async def test_an_own_key_made_many_times_at_once_is_one(proxy: Proxy, client: LiteLLMClient) -> None:
    await proxy.make_team()
    key = new_key()

    async def make() -> None:
        with contextlib.suppress(AlreadyExists):
            await client.key_generate(key, key_alias=proxy.alias, team_id=proxy.team, user_id=proxy.user)

    await asyncio.gather(*[make() for _ in range(8)])

    (stored,) = (await client.team_info(proxy.team)).keys
    assert (stored.hash, stored.key_alias) == (hash_of(key), proxy.alias)
