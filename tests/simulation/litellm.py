"""LiteLLM inside the simulated world: the stand-in's answers, reached without a network.

The production client runs unchanged above it; a call's effect and its answer are two edges.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import httpx

from consumer.standin.answering import ROUTES, Asked, answer
from consumer.standin.state import State
from tests.simulation.edges import LITELLM, Edge

MASTER_KEY = "sk-simulated-master"
_ROUTES = {(route.method, route.path): route for route in ROUTES}


class Trouble(StrEnum):
    """What befalls a call."""

    REFUSED = "refused"
    LOST_BEFORE = "lost before"
    LOST_AFTER = "lost after"
    FAILED_BEFORE = "500 before"
    FAILED_AFTER = "500 after"
    THROTTLED = "429"
    REJECTED = "400"
    NOT_FOUND = "false 404"
    GARBLED = "garbled after"


_APPLIED = {Trouble.LOST_AFTER, Trouble.FAILED_AFTER, Trouble.GARBLED}
_ANSWERS = {
    Trouble.FAILED_BEFORE: 500,
    Trouble.FAILED_AFTER: 500,
    Trouble.THROTTLED: 429,
    Trouble.REJECTED: 400,
    Trouble.NOT_FOUND: 404,
}


@dataclass(frozen=True, slots=True)
class Hit:
    """Trouble for `times` calls of an endpoint (of any where it is empty), after the first `skip`."""

    trouble: Trouble
    endpoint: str = ""
    skip: int = 0
    times: int = 1


@dataclass(frozen=True, slots=True)
class Called:
    """A call that took effect or was answered."""

    endpoint: str
    body: bytes
    status: int


class SimProxy:
    """The proxy: its state, what befalls its calls, and what was asked of it."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.state = State(now=now)
        self.calls: list[Called] = []
        self.hits: list[Hit] = []
        self._met: dict[Hit, int] = {}
        self.away = False

    def trouble_for(self, endpoint: str) -> Trouble | None:
        for hit in self.hits:
            if hit.endpoint not in {"", endpoint}:
                continue
            met = self._met.get(hit, 0)
            self._met[hit] = met + 1
            if hit.skip <= met < hit.skip + hit.times:
                return hit.trouble
        return Trouble.REFUSED if self.away else None

    def answer(self, method: str, path: str, asked: Asked) -> tuple[int, object]:
        status, body = answer(self.state, MASTER_KEY, _ROUTES[method, path], asked)
        self.calls.append(Called(path, asked.body, status))
        return status, body


@dataclass(frozen=True)
class SimTransport(httpx.AsyncBaseTransport):
    """What the production client takes for the network."""

    proxy: SimProxy
    edge: Edge

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        asked = Asked(dict(request.url.params), body, request.headers.get("Authorization"))
        path = request.url.path
        trouble = self.proxy.trouble_for(path)

        def effect() -> tuple[int, object]:
            if trouble is None or trouble in _APPLIED:
                return self.proxy.answer(request.method, path, asked)
            return _ANSWERS.get(trouble, 0), {"error": {"message": f"simulated: {trouble}"}}

        if trouble is Trouble.REFUSED:
            raise httpx.ConnectError("simulated: refused")
        status, answered = await self.edge(f"{LITELLM}{path}", effect)
        if trouble in {Trouble.LOST_BEFORE, Trouble.LOST_AFTER}:
            raise httpx.ReadError("simulated: the connection was lost")
        if trouble is not None:
            status = _ANSWERS.get(trouble, status)
        if trouble is Trouble.GARBLED:
            return httpx.Response(200, stream=httpx.ByteStream(b"<html>"), request=request)
        return httpx.Response(status, stream=httpx.ByteStream(json.dumps(answered).encode()), request=request)
