"""Nothing in an event steers a call of LiteLLM: where it goes, the settings alone say."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.litellm.client import LiteLLMClient
from consumer.litellm.errors import LiteLLMError
from schemas.identifiers import IDENTIFIER_PATTERN

MASTER_KEY = "sk-master-hostile"
PREFIX = "/proxied"
"""A path in the setting is kept, and never left."""

IDS = (
    "plain",
    "../../key/info",
    "..",
    "//evil.example/x",
    "http://evil.example/",
    "?admin=1&team_id=other",
    "&team_id=other",
    "#fragment",
    "%2f%2e%2e%2fadmin",
    "%0d%0aHost:%20evil",
    "%",
    "%25",
    "%zz",
    "a+b c",
    "a;b=c",
    "user@evil.example",
    "\\\\evil\\share",
    "=",
    "é",
    "e\u0301",
    "名前😀",
    "\u202e\u2066\u2028\u00a0\ufeff",
    "\uff0e\uff0e\uff0f\u2100",
    "'\"<>{}|^`[]",
    "${jndi:ldap://evil}",
    "a" * 255,
    "😀" * 255,
)
TROUBLE = ("\r\nHost: evil.example\r\n\r\nGET /evil HTTP/1.1", "\x00", "\n", "\r", "\x1b")
"""What no id may hold, though a name, a model or an e-mail may."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it stood on the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True, strict_parsing=True)


@dataclass(slots=True)
class Recorder:
    """A server that notes every byte of a request and answers always the same."""

    answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    requests: list[Request] = field(default_factory=list)
    address: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
                method, target, version = first.split(" ")
                assert version == "HTTP/1.1"
                pairs = [line.split(": ", 1) for line in lines]
                headers = {name.lower(): value for name, value in pairs}
                assert len(headers) == len(pairs)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.requests.append(Request(method, target, headers, body))
                writer.write(self.answer)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def recording(answer: bytes | None = None) -> AsyncIterator[Recorder]:
    recorder = Recorder() if answer is None else Recorder(answer)
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0)
    recorder.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield recorder
    finally:
        server.close()


@contextlib.asynccontextmanager
async def calling(recorder: Recorder) -> AsyncIterator[LiteLLMClient]:
    async with LiteLLMClient.connect(f"http://{recorder.address}{PREFIX}", MASTER_KEY, timeout_s=5) as client:
        yield client


Call = Callable[[LiteLLMClient, str], Awaitable[Any]]

CALLS: dict[str, tuple[str, str, Call]] = {
    "team_new": (
        "POST",
        "/team/new",
        lambda client, one: client.team_new(
            one,
            team_alias=one,
            max_budget=Decimal("1.5"),
            blocked=False,
            models=[one],
            metadata={one: one},
            members=[one],
        ),
    ),
    "team_info": ("GET", "/team/info", lambda client, one: client.team_info(one)),
    "team_update": (
        "POST",
        "/team/update",
        lambda client, one: client.team_update(one, team_alias=one, models=[one], metadata={one: one}),
    ),
    "team_delete": ("POST", "/team/delete", lambda client, one: client.team_delete(one)),
    "member_add": ("POST", "/team/member_add", lambda client, one: client.member_add(one, one)),
    "member_update": (
        "POST",
        "/team/member_update",
        lambda client, one: client.member_update(one, one, max_budget_in_team=None),
    ),
    "member_delete": ("POST", "/team/member_delete", lambda client, one: client.member_delete(one, one)),
    "user_new": (
        "POST",
        "/user/new",
        lambda client, one: client.user_new(one, user_email=one, team_id=one),
    ),
    "user_info": ("GET", "/v2/user/info", lambda client, one: client.user_info(one)),
    "key_generate": (
        "POST",
        "/key/generate",
        lambda client, one: client.key_generate(
            "sk-" + hashlib.sha256(one.encode()).hexdigest(), key_alias=one, team_id=one, user_id=one
        ),
    ),
    "key_info": ("GET", "/key/info", lambda client, one: client.key_info(one)),
    "key_update": (
        "POST",
        "/key/update",
        lambda client, one: client.key_update(one, key_alias=one, team_id=one),
    ),
    "key_delete": ("POST", "/key/delete", lambda client, one: client.key_delete(one)),
}


def test_every_call_of_the_client_is_tried() -> None:
    others = {"connect", "close", "timeout_s", "probe"}
    assert {name for name in vars(LiteLLMClient) if not name.startswith("_")} - others == set(CALLS)


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for name, member in value.items() for leaf in (name, *leaves(member))]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


async def try_call(client: LiteLLMClient, recorder: Recorder, name: str, one: str) -> None:
    method, path, call = CALLS[name]
    recorder.requests.clear()
    with contextlib.suppress(LiteLLMError):
        await call(client, one)
    [request] = recorder.requests
    assert (request.method, request.path) == (method, PREFIX + path)
    assert request.headers["host"] == recorder.address
    assert request.headers["authorization"] == f"Bearer {MASTER_KEY}"
    assert not set(request.headers) - {
        "host",
        "authorization",
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "user-agent",
    }
    if method == "GET":
        assert [value for _, value in request.query] == [one]
        assert not request.body
    else:
        assert "?" not in request.target
        assert one in leaves(json.loads(request.body))


@pytest.mark.parametrize("name", CALLS)
async def test_an_id_goes_where_it_belongs_and_nowhere_else(name: str) -> None:
    async with recording() as recorder, calling(recorder) as client:
        for one in (*IDS, *TROUBLE):
            await try_call(client, recorder, name, one)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.from_regex(IDENTIFIER_PATTERN).filter(lambda one: len(one) <= 255 and one.isprintable())
    | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.sampled_from(sorted(CALLS)),
)
def test_any_id_at_all(one: str, name: str) -> None:
    async def work() -> None:
        async with recording() as recorder, calling(recorder) as client:
            await try_call(client, recorder, name, one)

    asyncio.run(work())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with recording() as elsewhere:
        to = f"location: http://{elsewhere.address}/"
        head = f"HTTP/1.1 {status} Moved\r\n{to}\r\ncontent-length: 2\r\n\r\n{{}}"
        async with recording(head.encode()) as recorder, calling(recorder) as client:
            for name in CALLS:
                with pytest.raises(LiteLLMError):
                    await CALLS[name][2](client, "acme")
            assert len(recorder.requests) == len(CALLS)
        assert elsewhere.requests == []


async def test_the_environments_proxy_and_netrc_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login evil password evil\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    async with recording() as elsewhere, recording() as recorder:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{elsewhere.address}")
            monkeypatch.setenv(name.lower(), f"http://{elsewhere.address}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with calling(recorder) as client:
            await try_call(client, recorder, "team_new", "acme")
            await try_call(client, recorder, "team_info", "acme")
        assert elsewhere.requests == []
