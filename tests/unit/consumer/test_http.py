import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from consumer.http import CannotListen, HttpServer
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
