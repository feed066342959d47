"""The parts of the stand-in that no running proxy can be asked for: outages, defaults, faults, time."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from consumer.standin import Fault, ProxySettings, StandIn

KEY = "sk-0123456789abcdef"


@dataclass
class Clock:
    now: datetime = field(default_factory=lambda: datetime(2026, 1, 15, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now


async def call(standin: StandIn, method: str, path: str, body: Any = None, *, key: str = "") -> Any:
    async with httpx.AsyncClient(base_url=standin.url, trust_env=False) as http:
        authorization = {"Authorization": f"Bearer {key or standin.master_key}"}
        return await http.request(method, path, json=body, headers=authorization)


@pytest.fixture
async def standin() -> AsyncIterator[StandIn]:
    async with StandIn() as standin:
        yield standin


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/health/readiness", None, 503),
        ("GET", "/health/liveliness", None, 200),
        ("GET", "/team/info?team_id=T", None, 404),
        ("POST", "/team/delete", {"team_ids": ["T"]}, 404),
        ("POST", "/team/member_add", {"team_id": "T", "member": {"role": "user", "user_id": "U"}}, 404),
        ("POST", "/team/new", {"team_id": "T"}, 500),
        ("POST", "/team/update", {"team_id": "T"}, 500),
        ("POST", "/team/member_update", {"team_id": "T", "user_id": "U"}, 503),
        ("POST", "/team/member_delete", {"team_id": "T", "user_id": "U"}, 503),
        ("POST", "/user/new", {}, 500),
        ("GET", "/v2/user/info?user_id=U", None, 500),
        ("POST", "/key/generate", {}, 500),
        ("GET", "/key/info?key=0", None, 500),
        ("POST", "/key/update", {"key": KEY}, 400),
        ("POST", "/key/delete", {"keys": [KEY]}, 500),
        ("POST", "/key/block", {"key": KEY}, 503),
        ("GET", "/v2/team/list", None, 503),
        ("GET", "/v1/models", None, 200),
    ],
)
async def test_while_its_database_is_down(
    standin: StandIn, method: str, path: str, body: Any, status: int
) -> None:
    await call(standin, "POST", "/team/new", {"team_id": "T"})
    await call(standin, "POST", "/key/generate", {"key": KEY, "team_id": "T"})
    standin.database_up = False

    assert (await call(standin, method, path, body)).status_code == status

    standin.heal()
    assert (await call(standin, "GET", "/team/info?team_id=T")).json()["keys"]


async def test_a_key_is_not_known_while_its_database_is_down(standin: StandIn) -> None:
    standin.database_up = False

    assert (await call(standin, "GET", "/v1/models", key="sk-unknown")).status_code == 503


async def test_the_proxys_defaults_take_the_place_of_null() -> None:
    settings = ProxySettings(
        default_team_params={"max_budget": 7},
        default_internal_user_params={"max_budget": 11, "models": ["fake"]},
        default_key_generate_params={"max_budget": 2},
        upperbound_key_generate_params={"max_budget": 3, "duration": "30d"},
    )
    async with StandIn(settings=settings, now=Clock()) as standin:
        body = {"team_id": "T", "max_budget": None, "members_with_roles": [{"role": "user", "user_id": "U"}]}
        team = (await call(standin, "POST", "/team/new", body)).json()
        zero = (await call(standin, "POST", "/team/new", {"max_budget": 0})).json()
        assert (team["max_budget"], zero["max_budget"]) == (7, 0)
        user = (await call(standin, "GET", "/v2/user/info?user_id=U")).json()
        assert (user["max_budget"], user["models"]) == (11, ["fake"])

        await call(standin, "POST", "/key/generate", {"key": KEY, "team_id": "T"})
        info = (await call(standin, "GET", f"/key/info?key={KEY}")).json()["info"]
        assert (info["max_budget"], info["expires"][:10]) == (2, "2026-02-14")

        for change in ({"max_budget": 5}, {"duration": "60d"}, {"duration": "-1"}):
            for path, named in (("/key/generate", {}), ("/key/update", {"key": KEY})):
                refused = await call(standin, "POST", path, {**named, **change})
                assert refused.status_code == 400
                assert "over max limit set in config" in refused.text
        mended = await call(
            standin, "POST", "/key/update", {"key": KEY, "max_budget": None, "duration": None}
        )
        assert (mended.json()["max_budget"], mended.json()["expires"]) == (None, None)


async def test_block_reaches_calls_after_a_minute() -> None:
    clock = Clock()
    async with StandIn(now=clock) as standin:
        await call(standin, "POST", "/team/new", {"team_id": "T"})
        await call(standin, "POST", "/key/generate", {"key": KEY, "team_id": "T"})
        for path, status in (("/team/block", 401), ("/team/unblock", 200)):
            before = (await call(standin, "GET", "/v1/models", key=KEY)).status_code
            await call(standin, "POST", path, {"team_id": "T"})
            assert (await call(standin, "GET", "/v1/models", key=KEY)).status_code == before
            clock.now += timedelta(seconds=61)
            assert (await call(standin, "GET", "/v1/models", key=KEY)).status_code == status


async def test_a_key_expires() -> None:
    clock = Clock()
    async with StandIn(now=clock) as standin:
        await call(standin, "POST", "/key/generate", {"key": KEY, "duration": "8s"})
        assert (await call(standin, "GET", "/v1/models", key=KEY)).status_code == 200
        clock.now += timedelta(seconds=8)

        refused = await call(standin, "GET", "/v1/models", key=KEY)

        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "expired_key")
        shown = (await call(standin, "GET", f"/key/info?key={KEY}")).json()
        assert shown["info"]["status"] == "expired"


async def test_faults_come_in_order_and_end(standin: StandIn) -> None:
    standin.fail(Fault("/team/new", skip=1, times=2, status=502), Fault("*", status=418))

    statuses = [(await call(standin, "POST", "/team/new", {})).status_code for _ in range(4)]

    assert statuses == [418, 502, 502, 200]
    assert standin.calls["/team/new"] == 4


async def test_a_fault_after_the_call_was_applied(standin: StandIn) -> None:
    standin.fail(Fault("/team/new", status=500, applied=True))

    answer = await call(standin, "POST", "/team/new", {"team_id": "T"})

    assert answer.status_code == 500
    assert "T" in standin.state.teams
    assert [(entry.endpoint, entry.status) for entry in standin.log] == [("/team/new", 500)]


async def test_it_comes_back_at_the_same_address_with_what_it_knew(standin: StandIn) -> None:
    await call(standin, "POST", "/team/new", {"team_id": "T"})
    url = standin.url
    await standin.stop()
    with pytest.raises(httpx.ConnectError):
        await call(standin, "GET", "/v1/models")

    await standin.start()

    assert standin.url == url
    assert (await call(standin, "GET", "/team/info?team_id=T")).status_code == 200
