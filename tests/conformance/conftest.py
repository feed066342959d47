"""One suite for the stand-in and for a real proxy: what holds for one holds for the other.

The real one is QM_TEST_LITELLM: version 1.106.2 with PostgreSQL, without a licence, serving the models `fake`
and `fake2` for money.
"""

from collections.abc import AsyncIterator

import pytest

from consumer.litellm.client import LiteLLMClient
from consumer.standin import StandIn
from tests.conformance.proxy import Proxy


@pytest.fixture(params=["standin", pytest.param("real", marks=pytest.mark.real("litellm"))])
async def proxy(request: pytest.FixtureRequest) -> AsyncIterator[Proxy]:
    if request.param == "standin":
        async with StandIn() as standin:
            yield Proxy(standin.url, standin.master_key)
        return
    real = request.getfixturevalue("litellm")
    yield Proxy(real.url, real.key, looks=60)


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[LiteLLMClient]:
    async with LiteLLMClient.connect(proxy.url, proxy.master_key, timeout_s=30) as client:
        yield client
