"""The HTTP endpoints: `/healthz` (the process lives), `/readyz` (with the reasons against it), `/metrics`.

A connection serves one request and lives no longer than `SLOWEST_S`: whoever sends it byte by byte, or does
not read the answer, holds none that a probe, Kafka or LiteLLM would need.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Self

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

log = structlog.get_logger(__name__)

SLOWEST_S: Final = 10.0
MOST_CONNECTIONS: Final = 100
"""At most so many stay open; the oldest give way."""

_GRACE_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.5


class CannotListen(Exception):  # noqa: N818 - says what happened
    """The address of the settings can't be listened on; the message names it."""


class HttpServer:
    """Serves the endpoints from `__aenter__` to `__aexit__`.

    Args:
        host: address to listen on.
        port: its port; 0: any free one, see `port` and the log line `http_listening`.
        registry: what `/metrics` shows.
        reasons: returns why the instance is not ready; nothing: it is ready. Must not block.
        slowest_s: how many seconds a connection may take.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        registry: CollectorRegistry,
        reasons: Callable[[], Sequence[str]],
        slowest_s: float = SLOWEST_S,
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._registry = registry
        self._reasons = reasons
        self._slowest_s = slowest_s
        self._sweep: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._port = port

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._port

    @property
    def url(self) -> str:
        """Where the endpoints are, without a trailing slash."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[_one_request])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_S)
        await runner.setup()
        site = web.TCPSite(runner, self._host, self._wanted_port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            where = f"{self._host}:{self._wanted_port}"
            raise CannotListen(
                f"QM_HTTP_HOST, QM_HTTP_PORT: can't listen on {where}: {error.strerror}"
            ) from error
        self._runner = runner
        self._sweep = asyncio.ensure_future(self._end_slow_connections(runner.server))
        self._port = runner.addresses[0][1]
        log.info("http_listening", host=self._host, port=self._port, url=self.url)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            await asyncio.wait([self._sweep])
            self._sweep = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _end_slow_connections(self, server: web.Server | None) -> None:
        seen: dict[web.RequestHandler, float] = {}
        while server is not None:
            now = time.monotonic()
            # In the order in which they were opened.
            seen = {each: seen.get(each, now) for each in server.connections}
            surplus = max(0, len(seen) - MOST_CONNECTIONS)
            for number, (connection, since) in enumerate(seen.items()):
                if number < surplus or now - since >= self._slowest_s:
                    _end(connection)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = list(self._reasons())
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        text = await asyncio.to_thread(generate_latest, self._registry)
        return web.Response(body=text, headers={"content-type": CONTENT_TYPE_LATEST})


@web.middleware
async def _one_request(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer, and say that the connection ends with it."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        error.force_close()
        raise
    response.force_close()
    return response


def _end(connection: web.RequestHandler) -> None:
    # Closing would wait until what was written is read.
    if isinstance(connection.transport, asyncio.WriteTransport):
        connection.transport.abort()
    connection.force_close()
