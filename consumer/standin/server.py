"""The stand-in as a server: reads requests, lets faults happen, keeps a log of what was asked."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from consumer.standin import errors
from consumer.standin.answering import ROUTES, Asked, answer
from consumer.standin.faults import Fault, FaultPlan
from consumer.standin.routing import Route
from consumer.standin.state import ProxySettings, State

MASTER_KEY: Final = "sk-standin-master-key"
"""The key that the stand-in takes unless it is given another."""

_MAX_BODY_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Logged:
    """A request as it came.

    Attributes:
        endpoint: Its path.
        request: Its body or query, parsed; None where it has none.
        status: The status answered, or None where the connection was dropped.
    """

    endpoint: str
    request: Any
    status: int | None


class StandIn:
    """A LiteLLM proxy in memory, as an async context manager.

    Args:
        port: On the loopback interface; 0: any free one.
        master_key: The admin key.
        settings: The proxy's own defaults and models.
        now: The clock; tests may pass their own.

    Attributes:
        state: What the proxy knows; tests may look and change.
        log: Every request, in the order of the answers.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        master_key: str = MASTER_KEY,
        settings: ProxySettings | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.master_key = master_key
        self.state = State(settings=settings or ProxySettings(), now=now)
        self.log: list[Logged] = []
        self._port = port
        self._faults = FaultPlan()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The address, while it runs."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def database_up(self) -> bool:
        """Whether the proxy's database answers.

        Set it to False for an outage in which some 404s are not true.
        """
        return self.state.database_up

    @database_up.setter
    def database_up(self, up: bool) -> None:
        self.state.database_up = up

    @property
    def calls(self) -> Counter[str]:
        """How often each endpoint was called."""
        return Counter(logged.endpoint for logged in self.log)

    def fail(self, *faults: Fault) -> None:
        """Plan failures for calls to come."""
        self._faults.add(faults)

    def heal(self) -> None:
        """Forget the failures that have not happened yet, and bring the database back."""
        self._faults.clear()
        self.database_up = True

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. After a `stop` it is the same proxy at the same address again."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._handler(route))
        app.router.add_route("*", "/{path:.*}", _no_route)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=5.0, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _handler(self, route: Route) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            raw = await request.read()
            fault = self._faults.next_for(route.path)
            if fault is None:
                return self._logged(route, request, raw, self._answer(route, request, raw))
            answered = self._answer(route, request, raw) if fault.applied else None
            await asyncio.sleep(fault.delay_s)
            if answered is None and not fault.replaces_answer:
                answered = self._answer(route, request, raw)
            return self._logged(route, request, raw, self._failed(fault, request, answered))

        return handle

    def _answer(self, route: Route, request: web.Request, raw: bytes) -> web.Response:
        asked = Asked(request.query, raw, request.headers.get("Authorization"))
        status, body = answer(self.state, self.master_key, route, asked)
        return web.json_response(body, status=status)

    def _failed(self, fault: Fault, request: web.Request, answer: web.Response | None) -> web.Response | None:
        if fault.drop:
            if request.transport is not None:
                request.transport.abort()
            return None
        if fault.status is None:
            return answer
        body = fault.body
        if body is None:
            body = json.dumps(errors.error(fault.status, "A fault on demand").body).encode()
        return web.Response(status=fault.status, body=body, content_type=fault.content_type)

    def _logged(
        self, route: Route, request: web.Request, raw: bytes, answer: web.Response | None
    ) -> web.StreamResponse:
        try:
            asked = json.loads(raw) if raw else dict(request.query) or None
        except ValueError:
            asked = None
        self.log.append(Logged(route.path, asked, None if answer is None else answer.status))
        return answer if answer is not None else web.Response(status=500)


async def _no_route(_request: web.Request) -> web.Response:
    return web.json_response({"detail": "Not Found"}, status=404)
