"""A proxy before LiteLLM that breaks chosen calls in chosen ways, as networks and struggling proxies do.

Each client has a wire of its own, so that many scenarios run side by side and every call is known to be its
scenario's: the calls about a key name neither organization nor user.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import httpx

from consumer.litellm.client import LiteLLMClient

PROBE: Final = "probe"
"""The endpoint of a health probe: a call of `/key/info` that asks whether LiteLLM is up at all."""
ANY: Final = "*"
RETRY_AFTER_S: Final = 3
SLOW_S: Final = 5.0
"""How long a slow answer takes, and after how much virtual time a late call takes effect."""

_ENDPOINT: Final = "x-endpoint"
_PATIENCE_S: Final = 60.0
_UNREAD: Final = 256 * 1024
_HUGE: Final = b" " * (1 << 20)
HUGE_BLOCKS: Final = 4


class Kind(Enum):
    """What happens to a call."""

    REFUSED = auto()
    RESET_BEFORE = auto()
    RESET_AFTER = auto()
    TIMEOUT_BEFORE = auto()
    TIMEOUT_AFTER = auto()
    TIMEOUT_LATE = auto()
    """Nothing within the time-out; the effect comes after it."""
    SLOW = auto()
    """The answer comes after `SLOW_S`, within the time-out."""
    ERROR_BEFORE = auto()
    ERROR_AFTER = auto()
    UNAVAILABLE = auto()
    THROTTLED = auto()
    NOT_FOUND = auto()
    UNAUTHORIZED = auto()
    GARBAGE = auto()
    """A page of HTML with status 200, after the effect."""
    NO_HTTP = auto()
    """Bytes that are no HTTP, after the effect."""
    TRUNCATED = auto()
    """The effect and half of the answer, then the end."""
    HUGE = auto()
    """The effect, and its answer in more bytes than anybody should read."""

    @property
    def holds(self) -> bool:
        """Whether the client has to give up by itself."""
        return self in {Kind.TIMEOUT_BEFORE, Kind.TIMEOUT_AFTER, Kind.TIMEOUT_LATE}

    @property
    def reaches_litellm(self) -> bool:
        """Whether the call is carried out."""
        return self in {
            Kind.RESET_AFTER,
            Kind.TIMEOUT_AFTER,
            Kind.TIMEOUT_LATE,
            Kind.SLOW,
            Kind.ERROR_AFTER,
            Kind.GARBAGE,
            Kind.NO_HTTP,
            Kind.TRUNCATED,
            Kind.HUGE,
        }


@dataclass(eq=False)
class Fault:
    """What is to happen to which calls.

    Attributes:
        kind: What happens.
        endpoint: The path, `PROBE`, or `ANY`.
        nth: Which call of it is the first hit, counted from when the fault becomes effective.
        times: How many calls in a row it hits.
        spreads: Whether those after the first are calls of any endpoint.
        after: Becomes effective once this one was met, and hits no call of the same endpoint; None: at once.
        met: How often it happened.
    """

    kind: Kind
    endpoint: str = ANY
    nth: int = 1
    times: int = 1
    spreads: bool = False
    after: "Fault | None" = None
    met: int = 0
    passed: int = 0
    hit: str | None = None

    def takes(self, endpoint: str) -> bool:
        """Whether this call is hit; counts it."""
        if self.after is not None and (not self.after.met or self.after.hit == endpoint):
            return False
        if self.met >= self.times:
            return False
        if self.endpoint not in {endpoint, ANY} and not (self.spreads and self.met):
            return False
        self.passed += 1
        return self.passed >= self.nth

    def meets(self, endpoint: str) -> None:
        self.met += 1
        self.hit = endpoint

    def __str__(self) -> str:
        often = f" x{self.times}" if self.times > 1 else ""
        on = " and what follows" if self.spreads else ""
        return f"{self.kind.name} at {self.endpoint}#{self.nth}{often}{on}"


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    target: str
    endpoint: str
    body: bytes

    def fields(self) -> dict[str, Any]:
        return dict(json.loads(self.body)) if self.body else dict(httpx.URL(self.target).params)


@dataclass(frozen=True)
class Answer:
    """An answer as it is to go out."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def head(self, *, length: int, keep_alive: bool) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status} Answer",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {length}",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(eq=False)
class _Peer:
    """The client's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def reset(self) -> None:
        """End it as a crashed host does."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Return once the client has given up."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(_UNREAD):
                pass

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


@dataclass(eq=False)
class _Late:
    due: float
    request: Request


class FaultProxy:
    """The far side of all wires: LiteLLM, asked over a connection of its own for each call.

    Attributes:
        master_key: LiteLLM's.
        admin: LiteLLM, asked past all faults.
    """

    def __init__(self, url: str, master_key: str) -> None:
        self.master_key = master_key
        self.admin = LiteLLMClient.connect(url, master_key, timeout_s=_PATIENCE_S)
        self._url = url
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # LiteLLM closes a connection on which it crashed without saying so.
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            timeout=aiohttp.ClientTimeout(total=_PATIENCE_S),
            headers={"Authorization": f"Bearer {self.master_key}", "Content-Type": "application/json"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._http is not None
        await self._http.close()
        await self.admin.close()

    async def forward(self, request: Request) -> Answer:
        assert self._http is not None
        url = self._url + request.target
        async with self._http.request(request.method, url, data=request.body) as answer:
            return Answer(answer.status, await answer.read(), answer.content_type)

    async def read(self, path: str, query: Mapping[str, str]) -> Any:
        """Ask LiteLLM what the product never asks."""
        assert self._http is not None
        async with self._http.get(self._url + path, params=query) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def write(self, path: str, body: Mapping[str, Any]) -> None:
        """Have LiteLLM do what the product never has it do."""
        assert self._http is not None
        async with self._http.post(self._url + path, json=body) as answer:
            answer.raise_for_status()

    @contextlib.asynccontextmanager
    async def wire(self, *, clock: Callable[[], float], keep_alive: bool = True) -> "AsyncIterator[Wire]":
        """A wire for one client.

        Args:
            clock: Monotonic virtual seconds, by which late calls take effect.
            keep_alive: Whether connections outlast a call.
        """
        wire = Wire(self, clock=clock, keep_alive=keep_alive)
        await wire.open()
        try:
            yield wire
        finally:
            await wire.close()


@dataclass(eq=False)
class Wire:
    """One client's way to LiteLLM.

    Attributes:
        log: The endpoint of every call that was made, refused ones too.
        tampers: Changes a request on its way, by endpoint: what LiteLLM's own defaults make of it.
        refuses: Endpoints that LiteLLM refuses for good (400).
        breaks: Endpoints that fail (500) without effect.
    """

    proxy: FaultProxy
    clock: Callable[[], float]
    keep_alive: bool = True
    log: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    tampers: dict[str, Callable[[dict[str, Any]], None]] = field(default_factory=dict)
    refuses: set[str] = field(default_factory=set)
    breaks: set[str] = field(default_factory=set)
    forwarded: Counter[str] = field(default_factory=Counter)
    port: int = 0

    def __post_init__(self) -> None:
        self._reserved = socket.socket()
        self._server: asyncio.Server | None = None
        self._opening = asyncio.Lock()
        self._serving: set[asyncio.Task[None]] = set()
        self._under_way: set[asyncio.Task[Answer]] = set()
        self._late: list[_Late] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # -- the listening end ---------------------------------------------------------------------------------

    async def open(self) -> None:
        # Bound and not listening: the port stays ours while connections to it are refused.
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port = self._reserved.getsockname()[1]
        await self._listen()

    async def close(self) -> None:
        self._deafen()
        self._reserved.close()
        for task in [*self._serving, *self._under_way]:
            task.cancel()
        await asyncio.gather(*self._serving, *self._under_way, return_exceptions=True)

    async def _listen(self) -> None:
        async with self._opening:
            if self._server is None:
                self._server = await asyncio.start_server(
                    self._accept, "127.0.0.1", self.port, reuse_port=True
                )

    def _deafen(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    # -- the scenario's end --------------------------------------------------------------------------------

    def hooks(
        self, is_probe: Callable[[], bool]
    ) -> dict[str, list[Callable[[httpx.Request], Awaitable[None]]]]:
        """Hooks for the client: a connection can only be refused before anything of the call is there."""

        async def announce(request: httpx.Request) -> None:
            endpoint = PROBE if is_probe() else request.url.path
            request.headers[_ENDPOINT] = endpoint
            hit = next((one for one in self.faults if one.kind is Kind.REFUSED and one.takes(endpoint)), None)
            if hit is None:
                await self._listen()
                return
            hit.meets(endpoint)
            self.log.append(endpoint)
            self._deafen()

        return {"request": [announce]}

    async def quiet(self) -> None:
        """Return once nothing is under way to LiteLLM, also of calls that their client has given up."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    @property
    def next_late(self) -> float | None:
        """When the next call that was held takes effect."""
        return min((one.due for one in self._late), default=None)

    async def take_effect(self) -> None:
        """Carry out the held calls whose time has come."""
        now = self.clock()
        due = [one for one in self._late if one.due <= now]
        self._late = [one for one in self._late if one.due > now]
        for one in due:
            await self._forward(one.request)

    # -- one connection ------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        peer = _Peer(reader, writer)
        try:
            while await self._serve(peer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:  # closing: ended here, as nobody waits for this task
            writer.transport.abort()
        finally:
            writer.close()
            self._serving.discard(task)

    async def _serve(self, peer: _Peer) -> bool:
        """Serve one request; tell whether the connection can take another."""
        request = await _read(peer.reader)
        self.log.append(request.endpoint)
        hit = next(
            (one for one in self.faults if one.kind is not Kind.REFUSED and one.takes(request.endpoint)), None
        )
        if hit is None:
            return await self._send(peer, await self._answer(request))
        hit.meets(request.endpoint)
        return await self._break(hit.kind, request, peer)

    async def _send(self, peer: _Peer, answer: Answer) -> bool:
        await peer.send(answer.head(length=len(answer.body), keep_alive=self.keep_alive) + answer.body)
        return self.keep_alive

    async def _break(self, kind: Kind, request: Request, peer: _Peer) -> bool:
        if kind is Kind.SLOW:
            await asyncio.sleep(SLOW_S)
        if kind is Kind.TIMEOUT_LATE:
            self._late.append(_Late(self.clock() + SLOW_S, request))
        elif kind.reaches_litellm:
            answer = await self._answer(request)
        if kind.holds:
            await peer.gone()
            return False
        if kind in {Kind.RESET_BEFORE, Kind.RESET_AFTER}:
            peer.reset()
            return False
        if kind is Kind.SLOW:
            return await self._send(peer, answer)
        if kind in _SPOILT:
            await _spoil(kind, answer, peer)
            return False
        return await self._send(peer, _failure(kind, request))

    async def _answer(self, request: Request) -> Answer:
        if request.endpoint in self.refuses:
            return _error(400, "This is refused for good")
        if request.endpoint in self.breaks:
            return _error(500, "This fails")
        return await self._forward(request)

    async def _forward(self, request: Request) -> Answer:
        tamper = self.tampers.get(request.endpoint)
        if tamper is not None:
            changed = request.fields()
            tamper(changed)
            request = Request(request.method, request.target, request.endpoint, json.dumps(changed).encode())
        self.forwarded[request.endpoint] += 1
        task = _begin(self.proxy.forward(request))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)  # LiteLLM goes on with what it has begun


_SPOILT: Final = {Kind.NO_HTTP, Kind.TRUNCATED, Kind.HUGE}


async def _spoil(kind: Kind, answer: Answer, peer: _Peer) -> None:
    """Send what is not an answer, or not all of it."""
    if kind is Kind.NO_HTTP:
        await peer.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    elif kind is Kind.TRUNCATED:
        half = answer.body[: len(answer.body) // 2]
        await peer.send(answer.head(length=len(answer.body), keep_alive=False) + half)
    else:  # all of it would still be the right JSON
        length = len(answer.body) + HUGE_BLOCKS * len(_HUGE)
        await peer.send(answer.head(length=length, keep_alive=False) + answer.body)
        for _ in range(HUGE_BLOCKS):
            await peer.send(_HUGE)


def _begin(work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
    return asyncio.create_task(work)


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    method, target, _version = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers.get(_ENDPOINT) or target.partition("?")[0], body)


def _error(status: int, message: str, *headers: tuple[str, str]) -> Answer:
    error = {"message": message, "type": "None", "param": "None", "code": str(status)}
    return Answer(status, json.dumps({"error": error}).encode(), headers=headers)


def _detail(status: int, detail: object) -> Answer:
    return Answer(status, json.dumps({"detail": detail}).encode())


def _failure(kind: Kind, request: Request) -> Answer:
    match kind:
        case Kind.ERROR_BEFORE | Kind.ERROR_AFTER:
            return _error(500, "Internal server error")
        case Kind.GARBAGE:
            return Answer(200, b"<html><body>Bad gateway, said with confidence</body></html>", "text/html")
        case Kind.UNAVAILABLE:
            return Answer(503, b"no healthy upstream", "text/plain")
        case Kind.THROTTLED:
            return _error(429, "Too many requests", ("Retry-After", str(RETRY_AFTER_S)))
        case Kind.UNAUTHORIZED:
            return _error(401, "Authentication Error, Invalid proxy server token passed.")
        case Kind.NOT_FOUND:
            return _absent(request)
    raise AssertionError(kind)


def _absent(request: Request) -> Answer:
    """What LiteLLM says where there is nothing; what a web framework says for calls that never say so."""
    fields = request.fields()
    team_id = fields.get("team_id") or (fields.get("team_ids") or [None])[0]
    answers = {
        "/team/info": _error(404, repr({"message": f"Team not found, passed team id: {team_id}."})),
        "/team/delete": _error(404, repr({"error": f"Team not found, passed team_id={team_id}"})),
        "/team/update": _error(404, repr({"error": f"Team not found, passed team_id={team_id}"})),
        "/team/member_add": _detail(404, {"error": f"Team not found, passed team_id={team_id}"}),
        "/team/member_update": _detail(400, {"error": f"Team id={team_id} does not exist in db"}),
        "/team/member_delete": _detail(400, {"error": "User not found in team"}),
        "/v2/user/info": _error(404, f"User not found: {fields.get('user_id')}"),
        "/key/info": _error(404, "Key not found in database"),
        "/key/update": _error(404, "Key not found."),
        "/key/delete": _error(404, repr({"error": "No keys found"})),
    }
    return answers.get(request.endpoint, _detail(404, "Not Found"))
