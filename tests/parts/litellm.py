"""A LiteLLM proxy, or the stand-in that behaves like one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from consumer.standin import StandIn
from tests.parts.choice import LITELLM, Source
from tests.parts.images import image_of
from tests.parts.loops import held_apart

#: The master key of the proxy given by address, where it is not the lab's.
KEY_VARIABLE = "QM_TEST_LITELLM_KEY"
_DEFAULT_KEY = "sk-master-1234"
_CONFIG = Path(__file__).parents[2] / "deploy" / "litellm.yaml"


class Proxy(NamedTuple):
    """Where LiteLLM answers, and its master key."""

    url: str
    key: str


@contextlib.contextmanager
def litellm() -> Iterator[Proxy]:
    """The chosen proxy, started where it is ours to start."""
    match LITELLM.source:
        case Source.GIVEN:
            key = os.environ.get(KEY_VARIABLE, _DEFAULT_KEY)
            yield Proxy(str(LITELLM.given).rstrip("/"), key)
        case Source.CONTAINER:
            with _container() as proxy:
                yield proxy
        case _:
            with held_apart(StandIn()) as server:
                yield Proxy(server.url, server.master_key)


@contextlib.contextmanager
def _container() -> Iterator[Proxy]:
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - only with Docker
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415
    from testcontainers.core.network import Network  # noqa: PLC0415
    from testcontainers.core.wait_strategies import HttpWaitStrategy  # noqa: PLC0415

    with (
        Network() as network,
        PostgresContainer(
            image_of("litellm-postgres"), username="litellm", password="litellm", dbname="litellm"
        )
        .with_network(network)
        .with_network_aliases("postgres"),
        DockerContainer(image_of("litellm"))
        .with_network(network)
        .with_exposed_ports(4000)
        .with_volume_mapping(_CONFIG, "/app/config.yaml")
        .with_command(["--config", "/app/config.yaml", "--port", "4000"])
        .with_envs(
            DATABASE_URL="postgresql://litellm:litellm@postgres:5432/litellm",
            LITELLM_MASTER_KEY=_DEFAULT_KEY,
            LITELLM_SALT_KEY="sk-salt",
        )
        .waiting_for(HttpWaitStrategy(4000, "/health/readiness").with_startup_timeout(240)) as container,
    ):
        address = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(4000)}"
        yield Proxy(address, _DEFAULT_KEY)
