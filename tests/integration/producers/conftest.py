import pytest

from tests.integration.producers.relaying import Bench


@pytest.fixture
def bench(kafka_address: str) -> Bench:
    return Bench(kafka_address)
