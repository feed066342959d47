"""The HTTP connection to LiteLLM, and what its failures mean.

aiohttp carries the requests below httpx: per request it takes less than half the processor time of httpx's
own transport, which matters to the ingest in the same process. But `httpx-aiohttp` reports every lost
connection as a failure to connect, which would take a write that may have happened for one that surely did
not; hence `surely_not_sent`.
"""

import ssl
from pathlib import Path
from typing import Final

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

KEEP_ALIVE_S: Final = 3.0
"""How long an idle connection is used again.

LiteLLM closes it after 5 s, and one closed under a write leaves a doubt.
"""

_MAX_CONNECTIONS: Final = 256
_CONNECT_TIMEOUT_S: Final = 5.0


def open_http(
    url: str, master_key: str, *, timeout_s: float, ssl_cafile: Path | None = None
) -> httpx.AsyncClient:
    """Make the HTTP client for one proxy; no connection is made before the first request.

    Redirects are not followed and the environment's proxies and `.netrc` not used: either would send the
    master key to where nobody meant it to go.

    Args:
        url: The proxy's address; a path in it is kept.
        master_key: Sent as `Authorization: Bearer`.
        timeout_s: Seconds for each part of a request.
        ssl_cafile: A PEM file of the authorities to trust; None: the system's.
    """
    context = ssl.create_default_context(cafile=None if ssl_cafile is None else str(ssl_cafile))
    transport = AiohttpTransport(
        verify=context,
        trust_env=False,
        limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, keepalive_expiry=KEEP_ALIVE_S),
    )
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {master_key}", "Accept-Encoding": "identity"},
        transport=transport,
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S)),
        follow_redirects=False,
        trust_env=False,
    )


def surely_not_sent(error: Exception) -> bool:
    """Whether no connection stood, so that nothing of the request can have reached the proxy."""
    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientError):
        return isinstance(cause, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    return isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))


def is_timeout(error: Exception) -> bool:
    """Whether a request failed because the time was up."""
    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientError):
        return isinstance(cause, aiohttp.ServerTimeoutError)
    return isinstance(error, (TimeoutError, httpx.TimeoutException))
