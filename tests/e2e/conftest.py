"""The service as a process, seen from outside: Kafka in, Kafka out, LiteLLM and the database beside it."""

from collections.abc import AsyncIterator

import pytest

from tests.e2e.world import World


@pytest.fixture
async def world(
    kafka_address: str, database_url: str, litellm: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """Topics, a database and names of their own for one test, and the processes that it starts."""
    url, key = litellm
    one = World(
        kafka=kafka_address,
        database_url=database_url,
        litellm_url=url,
        litellm_key=key,
        folder=tmp_path_factory.mktemp("world"),
    )
    async with one:
        yield one
