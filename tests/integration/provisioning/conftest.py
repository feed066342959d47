"""A world for each test of provisioning: a database, a stand-in for LiteLLM, a clock that tests move."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet

from consumer.litellm.client import LiteLLMClient
from consumer.provisioning.policy import ProvisionerPolicy
from consumer.standin import StandIn
from storage.database import Database
from storage.virtual_keys import KeyVault
from tests.integration.provisioning.world import OUR_SOURCE, Time, World


@pytest.fixture
async def standin() -> AsyncIterator[StandIn]:
    async with StandIn() as server:
        yield server


@pytest.fixture
async def world(database: Database, standin: StandIn) -> AsyncIterator[World]:
    async with LiteLLMClient.connect(standin.url, standin.master_key, timeout_s=2.0) as client:
        yield World(
            database=database,
            standin=standin,
            client=client,
            time=Time(),
            vault=KeyVault([Fernet.generate_key().decode()]),
            policy=ProvisionerPolicy(
                our_source=OUR_SOURCE,
                base_url="http://proxy.example",
                litellm_timeout=timedelta(seconds=2),
                retry_for=timedelta(seconds=600),
                dependency_wait=timedelta(seconds=300),
            ),
        )
