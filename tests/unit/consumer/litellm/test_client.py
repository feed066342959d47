"""The client against a proxy that fails in every way there is."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from aiohttp import web

from consumer.litellm.client import LiteLLMClient
from consumer.litellm.errors import (
    AlreadyExists,
    Doubtful,
    Existing,
    LiteLLMError,
    NotFound,
    NotSent,
    RateLimited,
    Unauthorized,
)
from consumer.litellm.transport import open_http
from consumer.standin import Fault, StandIn

KEY = "sk-0123456789abcdef0123456789abcdef"
HASH = hashlib.sha256(KEY.encode()).hexdigest()


@pytest.fixture
async def standin() -> AsyncIterator[StandIn]:
    async with StandIn() as standin:
        yield standin


@pytest.fixture
async def seen() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def client(standin: StandIn, seen: list[tuple[str, str]]) -> AsyncIterator[LiteLLMClient]:
    async with LiteLLMClient.connect(
        standin.url, standin.master_key, timeout_s=0.5, on_request=lambda *call: seen.append(call)
    ) as client:
        yield client


async def make_team(client: LiteLLMClient) -> None:
    await client.team_new(
        "T1",
        team_alias="Team",
        max_budget=Decimal("25.10"),
        blocked=False,
        models=["fake"],
        metadata={"quartermaster": {"event": "E"}},
        members=["owner"],
    )


async def test_an_organization_takes_three_calls(
    client: LiteLLMClient, standin: StandIn, seen: list[tuple[str, str]]
) -> None:
    await make_team(client)
    await client.key_generate(KEY, key_alias="alias", team_id="T1", user_id="owner")
    info = await client.team_info("T1")

    assert info.team.max_budget == Decimal("25.1")
    assert info.team.metadata == {"quartermaster": {"event": "E"}}
    assert info.team.models == ("fake",)
    assert info.team.has_member("owner")
    stored = info.key(HASH)
    assert stored is not None
    assert (stored.key_alias, stored.user_id, stored.key_type) == ("alias", "owner", "llm_api")
    assert seen == [("/team/new", "200"), ("/key/generate", "200"), ("/team/info", "200")]
    assert standin.log[0].request == {
        "team_id": "T1",
        "team_alias": "Team",
        "max_budget": 25.10,
        "blocked": False,
        "models": ["fake"],
        "metadata": {"quartermaster": {"event": "E"}},
        "members_with_roles": [{"role": "user", "user_id": "owner"}],
    }


async def test_a_user_takes_three_calls(client: LiteLLMClient) -> None:
    await make_team(client)

    added = await client.member_add("T1", "U1", max_budget_in_team=Decimal(0))
    await client.key_generate(KEY, key_alias="alias", team_id="T1", user_id="U1")
    key = await client.key_info(HASH)

    row = added.membership("U1")
    assert row is not None
    assert row.max_budget == Decimal(0)
    assert (key.team_id, key.user_id, key.allowed_routes) == ("T1", "U1", ("llm_api_routes",))
    assert not key.deleted


async def test_changes_name_only_what_is_given(client: LiteLLMClient, standin: StandIn) -> None:
    await make_team(client)
    await client.key_generate(KEY, key_alias="alias", team_id="T1", user_id="owner")

    await client.team_update("T1", max_budget=None)
    await client.key_update(HASH, duration=None, max_budget=Decimal("0.1"))
    await client.member_update("T1", "owner", max_budget_in_team=None)

    assert [logged.request for logged in standin.log[2:]] == [
        {"team_id": "T1", "max_budget": None},
        {"key": HASH, "duration": None, "max_budget": 0.1},
        {"team_id": "T1", "user_id": "owner", "max_budget_in_team": None},
    ]


async def test_budgets_keep_their_digits(client: LiteLLMClient, standin: StandIn) -> None:
    raw: list[bytes] = []
    send = client._http.send

    async def watch(request: object, **arguments: object) -> object:
        raw.append(request.content)  # type: ignore[attr-defined]
        return await send(request, **arguments)  # type: ignore[arg-type]

    client._http.send = watch  # type: ignore[method-assign, assignment]
    await make_team(client)
    await client.team_update("T1", max_budget=Decimal("1E+3"))

    assert b'"max_budget":25.10' in raw[0]
    assert b'"max_budget":1000' in raw[1]


async def test_without_a_proxy_nothing_was_sent(seen: list[tuple[str, str]]) -> None:
    async with StandIn() as gone:
        url = gone.url
    async with LiteLLMClient.connect(url, "sk-key", on_request=lambda *call: seen.append(call)) as client:
        with pytest.raises(NotSent) as caught:
            await client.probe()

    assert not caught.value.may_have_applied
    assert seen == [("/key/info", "not_sent")]


async def test_a_name_without_an_address_was_not_sent() -> None:
    async with LiteLLMClient.connect("http://no-such-host.invalid", "sk-key") as client:
        with pytest.raises(NotSent):
            await client.probe()


@pytest.mark.parametrize("applied", [True, False])
async def test_a_lost_connection_is_a_doubt(
    client: LiteLLMClient, standin: StandIn, seen: list[tuple[str, str]], *, applied: bool
) -> None:
    await client.probe()  # so that a connection stands that can be used again
    standin.fail(Fault("/team/new", drop=True, applied=applied))

    with pytest.raises(Doubtful) as caught:
        await make_team(client)

    assert caught.value.may_have_applied
    assert seen[-1] == ("/team/new", "disconnected")
    assert ("T1" in standin.state.teams) is applied


@pytest.mark.parametrize("applied", [True, False])
async def test_no_answer_in_time_is_a_doubt(
    client: LiteLLMClient, standin: StandIn, seen: list[tuple[str, str]], *, applied: bool
) -> None:
    standin.fail(Fault("/team/new", delay_s=5, applied=applied))

    with pytest.raises(Doubtful) as caught:
        await make_team(client)

    assert str(caught.value) == "LiteLLM /team/new: no answer within 0.5 s"
    assert seen == [("/team/new", "timeout")]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("/team/info", status=500), Doubtful),
        (Fault("/team/info", status=503, body=b"<html>bad gateway", content_type="text/html"), Doubtful),
        (Fault("/team/info", status=404, body=b"<html>not found", content_type="text/html"), Doubtful),
        (Fault("/team/info", status=401, body=b"<html>log in", content_type="text/html"), Doubtful),
        (Fault("/team/info", status=200, body=b"<html>welcome", content_type="text/html"), Doubtful),
        (Fault("/team/info", status=200, body=b"{}"), Doubtful),
        (Fault("/team/info", status=200, body=b"[]"), Doubtful),
        (Fault("/team/info", status=200, body=b""), Doubtful),
        (
            Fault("/team/info", status=200, body=b'{"team_id": "T2", "team_info": {"team_id": "T2"}}'),
            Doubtful,
        ),
        (Fault("/team/info", status=302, body=b"{}"), Doubtful),
        (Fault("/team/info", status=401), Unauthorized),
        (Fault("/team/info", status=429), RateLimited),
        (Fault("/team/info", status=404), NotFound),
    ],
)
async def test_answers_that_are_none(
    client: LiteLLMClient, standin: StandIn, fault: Fault, kind: type[LiteLLMError]
) -> None:
    await make_team(client)
    standin.fail(fault)

    with pytest.raises(LiteLLMError) as caught:
        await client.team_info("T1")

    assert type(caught.value) is kind
    assert caught.value.__cause__ is None
    assert (await client.team_info("T1")).team_id == "T1"


async def test_a_late_unique_constraint_is_an_existence(client: LiteLLMClient, standin: StandIn) -> None:
    body = b'{"error": {"message": "Unique constraint failed on the fields: (`team_id`)", "code": "500"}}'
    standin.fail(Fault("/team/new", status=500, body=body))

    with pytest.raises(AlreadyExists) as caught:
        await make_team(client)

    assert caught.value.existing is Existing.UNIQUE_CONSTRAINT


async def test_a_wrong_master_key_is_unauthorized(standin: StandIn) -> None:
    async with LiteLLMClient.connect(standin.url, "sk-another-key-altogether") as client:
        with pytest.raises(Unauthorized) as caught:
            await client.probe()

    assert str(caught.value) == "LiteLLM /key/info answered 401: the master key is not accepted"


async def test_the_probe_asks_the_database(client: LiteLLMClient, standin: StandIn) -> None:
    await client.probe()

    standin.database_up = False
    with pytest.raises(Doubtful):
        await client.probe()


async def test_with_the_database_down_not_found_proves_nothing(
    client: LiteLLMClient, standin: StandIn
) -> None:
    await make_team(client)
    await client.key_generate(KEY, key_alias="alias", team_id="T1", user_id="owner")
    standin.database_up = False

    with pytest.raises(NotFound):
        await client.team_info("T1")
    with pytest.raises(NotFound):
        await client.team_delete("T1")
    with pytest.raises(Doubtful):  # although the status is 400
        await client.key_update(HASH, max_budget=None)

    standin.database_up = True
    assert (await client.team_info("T1")).key(HASH) is not None


async def test_an_answer_without_end_is_given_up(standin: StandIn) -> None:
    http = open_http(standin.url, standin.master_key, timeout_s=5)
    async with LiteLLMClient(http, timeout_s=5, max_answer_bytes=1000) as client:
        standin.fail(Fault("/team/info", status=200, body=b" " * 5000))
        with pytest.raises(Doubtful, match="too large"):
            await client.team_info("T1")
        with pytest.raises(NotFound):
            await client.team_info("T1")


async def test_a_redirect_is_not_followed() -> None:
    visits: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        visits.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/base"
        async with LiteLLMClient.connect(url, "sk-key") as client:
            with pytest.raises(Doubtful):
                await client.probe()
    finally:
        await runner.cleanup()

    assert visits == ["/base/key/info"]


async def test_retry_after_is_passed_on() -> None:
    async def handle(_request: web.Request) -> web.Response:
        return web.json_response({"detail": "slow down"}, status=429, headers={"Retry-After": "7"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with LiteLLMClient.connect(f"http://127.0.0.1:{runner.addresses[0][1]}", "sk-key") as client:
            with pytest.raises(RateLimited) as caught:
                await client.probe()
    finally:
        await runner.cleanup()

    assert caught.value.retry_after_s == 7


async def test_an_old_proxys_empty_user_is_no_user(client: LiteLLMClient, standin: StandIn) -> None:
    standin.fail(Fault("/v2/user/info", status=200, body=b'{"user_id": "", "teams": []}'))

    with pytest.raises(NotFound):
        await client.user_info("U1")


async def test_nothing_secret_is_logged_or_shown(
    client: LiteLLMClient, standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await make_team(client)
    user = await client.user_new("U1", user_email="someone@example.org", team_id="T1")
    generated = await client.key_generate(KEY, key_alias="alias", team_id="T1", user_id="owner")
    with pytest.raises(AlreadyExists) as caught:
        await client.user_new("U2", user_email="someone@example.org")

    shown = f"{caplog.text} {user!r} {generated!r} {caught.value!r} {client!r}"
    for secret in (KEY, standin.master_key, "someone@example.org"):
        assert secret not in shown


async def test_calls_at_once_share_the_client(client: LiteLLMClient) -> None:
    await make_team(client)

    await asyncio.gather(*[client.member_add("T1", f"U{number}") for number in range(50)])

    assert len((await client.team_info("T1")).memberships) == 52
