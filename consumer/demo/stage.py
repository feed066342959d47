"""The embedded parts and the service between them, set up together and taken down together."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cryptography.fernet import Fernet
from pydantic import SecretStr

from consumer.app import run_service
from consumer.demo.broker import EmbeddedBroker, free_port
from consumer.logging import configure_logging
from consumer.settings import IsolatedSettings, Settings, variable
from consumer.standin import StandIn

PARTITIONS: Final = 2


class ServiceEnded(Exception):  # noqa: N818 - says what happened
    """The service ended although nobody told it to; the message says where its log is, and its last line."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything the demo runs on.

    Attributes:
        settings: the service's.
        folder: holds the database, the service's log, and a `.env` file with these settings.
        service: the running service.
    """

    settings: Settings
    folder: Path
    service: "asyncio.Task[None]"

    @property
    def url(self) -> str:
        """Where the service's HTTP endpoints are."""
        return f"http://{self.settings.http_host}:{self.settings.http_port}"


@contextlib.asynccontextmanager
async def set_up() -> AsyncIterator[Stage]:
    """Start broker, stand-in and service; end them in the reverse order, whatever happens.

    Raises:
        BrokerMissing: the embedded broker is not installed or does not start.
    """
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="quartermaster-demo-")))
        broker = await stack.enter_async_context(EmbeddedBroker())
        proxy = await stack.enter_async_context(StandIn())
        settings = _settings(folder, broker, proxy)
        topics = dict.fromkeys((*settings.inbound_topics, *settings.outbound_topics.values()))
        await broker.create_topics(list(topics), partitions=PARTITIONS)
        _write_environment(settings, folder / ".env")
        stack.enter_context(_logging_to(folder / "service.log", settings))
        stop = asyncio.Event()
        service = asyncio.create_task(run_service(settings, migrate=True, breaker=True, stop=stop))
        stack.push_async_callback(_end, service, stop)
        yield Stage(settings, folder, service)


def check_alive(stage: Stage) -> None:
    """Raise `ServiceEnded` where the service is gone."""
    if stage.service.done():
        error = None if stage.service.cancelled() else stage.service.exception()
        raise ServiceEnded(f"the service ended: {error or 'for no reason given'}") from error


def _settings(folder: Path, broker: EmbeddedBroker, proxy: StandIn) -> Settings:
    return IsolatedSettings(
        kafka_bootstrap_servers=broker.connection.bootstrap_servers,
        kafka_idempotence=False,
        kafka_session_timeout=2,  # the embedded broker lets a new group wait for half of it
        database_url=SecretStr(f"sqlite+aiosqlite:///{folder / 'quartermaster.db'}"),
        litellm_url=proxy.url,
        litellm_master_key=SecretStr(proxy.master_key),
        key_encryption_key=SecretStr(Fernet.generate_key().decode()),
        retry_for=60.0,
        http_port=free_port(),
        shutdown_timeout=5.0,
        log_format="json",
    )


def _write_environment(settings: Settings, path: Path) -> None:
    """Write what the service runs with, so that every command works from within the folder."""
    lines = []
    for name in sorted(settings.model_fields_set):
        value = getattr(settings, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        lines.append(f"{variable(name)}={text}\n")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(lines)


@contextlib.contextmanager
def _logging_to(path: Path, settings: Settings) -> Iterator[None]:
    """Keep the service's log out of the picture."""
    with path.open("w", encoding="utf-8") as stream:
        configure_logging(settings, stream=stream)
        try:
            yield
        finally:
            # What a library still has to say once the parts are gone is of no interest to anyone.
            logging.getLogger().handlers = [logging.NullHandler()]


async def _end(service: "asyncio.Task[None]", stop: asyncio.Event) -> None:
    stop.set()
    # Its failure, where it failed, was told by `check_alive`.
    await asyncio.wait([service])
    if not service.cancelled():
        service.exception()
