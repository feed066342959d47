"""Who may call, and what the proxy says to a request that it cannot read."""

import httpx
import pytest

from tests.conformance.proxy import Proxy


async def test_a_call_without_a_key_is_refused(proxy: Proxy) -> None:
    async with httpx.AsyncClient(base_url=proxy.url, trust_env=False) as http:
        answer = await http.get("/key/info")

    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "Authentication Error, No api key passed in."


async def test_an_unknown_key_is_refused(proxy: Proxy) -> None:
    answer = await proxy.get("/key/info", key="sk-nobody-has-this-key")

    assert (answer.status, answer.shape) == (401, "E")
    assert answer.body["error"]["type"] == "token_not_found_in_db"


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"{", "json_invalid"), (b"", "missing"), (b'{"max_budget": "much"}', "float_parsing")],
)
async def test_a_body_that_cannot_be_read_names_the_problem(
    proxy: Proxy, content: bytes, problem: str
) -> None:
    answer = await proxy.call("POST", "/team/new", content=content)

    assert (answer.status, answer.shape) == (422, "V")
    assert answer.body["detail"][0]["type"] == problem


@pytest.mark.parametrize("content", [b"[]", b"null"])
async def test_a_body_that_is_no_object_crashes_it(proxy: Proxy, content: bytes) -> None:
    answer = await proxy.call("POST", "/team/new", content=content)

    assert (answer.status, answer.text) == (500, "Internal server error")


async def test_unknown_fields_are_dropped(proxy: Proxy) -> None:
    team = await proxy.make_team(no_such_field=1)

    assert "no_such_field" not in team


async def test_an_unknown_path_is_not_found_in_the_frameworks_words(proxy: Proxy) -> None:
    answer = await proxy.get("/no/such/path")

    assert (answer.status, answer.body) == (404, {"detail": "Not Found"})


async def test_health(proxy: Proxy) -> None:
    assert (await proxy.get("/health/liveliness")).body == "I'm alive!"
    assert (await proxy.get("/health/readiness")).body["db"] == "connected"


async def test_enterprise_calls_are_refused(proxy: Proxy) -> None:
    assert (await proxy.post("/key/regenerate", {"key": "sk-any-key-at-all-here"})).status == 500
    assert (await proxy.get("/organization/list")).status == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/key/generate"),
        ("GET", "/key/info"),
        ("GET", "/user/info"),
        ("POST", "/team/new"),
        ("GET", "/team/info"),
        ("POST", "/key/delete"),
    ],
)
async def test_a_key_for_model_calls_manages_nothing(proxy: Proxy, method: str, path: str) -> None:
    await proxy.make_team()
    key = await proxy.make_key()

    answer = await proxy.call(method, path, json={} if method == "POST" else None, key=key)

    assert (answer.status, answer.shape) == (403, "D")
    assert answer.text.startswith("Virtual key is not allowed to call this route.")


async def test_a_default_key_can_make_itself_a_personal_key(proxy: Proxy) -> None:
    await proxy.make_team()
    await proxy.make_member()
    key = await proxy.make_key(key_type="default")

    personal = await proxy.call("POST", "/key/generate", json={}, key=key)
    refused = await proxy.call("POST", "/team/new", json={}, key=key)

    assert personal.status == 200
    assert (personal.body["team_id"], personal.body["user_id"]) == (None, proxy.user)
    assert refused.status == 401
    assert "Only proxy admin can be used" in refused.text
