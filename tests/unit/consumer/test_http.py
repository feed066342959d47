import asyncio
import contextlib

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from consumer.http import MOST_CONNECTIONS, CannotListen, HttpServer
from consumer.metrics import Metrics


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_the_process_lives_and_names_its_reasons() -> None:
    reasons = ["database: refused"]
    metrics = Metrics(CollectorRegistry())
    metrics.outbox_pending(7)
    async with HttpServer(
        host="127.0.0.1", port=0, registry=metrics.registry, reasons=lambda: reasons
    ) as server:
        assert server.port > 0
        assert await get(f"{server.url}/healthz") == (200, '{"status": "ok"}')
        assert await get(f"{server.url}/readyz") == (
            503,
            '{"ready": false, "reasons": ["database: refused"]}',
        )
        reasons.clear()
        assert await get(f"{server.url}/readyz") == (200, '{"ready": true, "reasons": []}')
        status, text = await get(f"{server.url}/metrics")
        assert status == 200
        assert "quartermaster_outbox_pending 7.0" in text


async def test_a_port_in_use_is_named() -> None:
    registry = CollectorRegistry()
    async with HttpServer(host="127.0.0.1", port=0, registry=registry, reasons=list) as first:
        second = HttpServer(host="127.0.0.1", port=first.port, registry=registry, reasons=list)
        with pytest.raises(CannotListen, match=f"QM_HTTP_PORT.*:{first.port}"):
            await second.__aenter__()


def serving(*, slowest_s: float = 60.0) -> HttpServer:
    registry = CollectorRegistry()
    return HttpServer(host="127.0.0.1", port=0, registry=registry, reasons=list, slowest_s=slowest_s)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /healthz HTTP/1.1\r\nhost: ", b"POST /healthz HTTP/1.1\r\ncontent-length: 9\r\n\r\nslow"],
)
async def test_a_slow_connection_is_ended(sent: bytes) -> None:
    async with serving(slowest_s=0.2) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while await reader.read(1000):
                    pass
        writer.close()
        assert (await get(f"{server.url}/healthz"))[0] == 200


async def test_many_slow_connections_keep_no_probe_out() -> None:
    async with serving() as server:
        slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2 * MOST_CONNECTIONS)]
        async with asyncio.timeout(20):
            for reader, _ in slow[:MOST_CONNECTIONS]:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
        assert (await get(f"{server.url}/healthz"))[0] == 200
        for _, writer in slow:
            writer.close()


async def test_a_connection_serves_one_request() -> None:
    async with serving() as server:
        for path, status in (("/healthz", b"200"), ("/nowhere", b"404")):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() * 2)
            answer = await reader.read()
            assert answer.count(b"HTTP/1.1 " + status) == answer.count(b"HTTP/1.1 ") == 1
            assert b"connection: close" in answer.lower()
            writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"x: a\r\n" * 10_000 + b"\r\n",
        b"\x00\xff\r\n\r\n",
    ],
    ids=["line", "header", "headers", "noise"],
)
async def test_a_request_without_bounds_is_refused(head: bytes) -> None:
    async with serving() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.suppress(ConnectionError):
            writer.write(head)
            answer = await reader.read()
            assert answer[9:12] == b"400"
        writer.close()
        assert (await get(f"{server.url}/healthz"))[0] == 200
