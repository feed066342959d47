"""The HTTP endpoints: `/healthz` (the process lives), `/readyz` (with the reasons against it), `/metrics`."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

log = structlog.get_logger(__name__)

_GRACE_S = 1.0


class CannotListen(Exception):  # noqa: N818 - says what happened
    """The address of the settings can't be listened on; the message names it."""


class HttpServer:
    """Serves the endpoints from `__aenter__` to `__aexit__`.

    Args:
        host: address to listen on.
        port: its port; 0: any free one, see `port` and the log line `http_listening`.
        registry: what `/metrics` shows.
        reasons: returns why the instance is not ready; nothing: it is ready. Must not block.
    """

    def __init__(
        self, *, host: str, port: int, registry: CollectorRegistry, reasons: Callable[[], Sequence[str]]
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._registry = registry
        self._reasons = reasons
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
        app = web.Application()
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
        self._port = runner.addresses[0][1]
        log.info("http_listening", host=self._host, port=self._port, url=self.url)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = list(self._reasons())
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        text = await asyncio.to_thread(generate_latest, self._registry)
        return web.Response(body=text, headers={"content-type": CONTENT_TYPE_LATEST})
