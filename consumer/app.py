"""The process of `run`: signals, its database brought up to date, its endpoints, and the service in it."""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import structlog
from prometheus_client import CollectorRegistry

from consumer.garbage import garbage_rarely
from consumer.http import HttpServer
from consumer.ingest.status import IngestStatus
from consumer.litellm.client import LiteLLMClient
from consumer.metrics import Metrics
from consumer.observer import Observer
from consumer.pauses import growing_pauses, wait_for_any
from consumer.ports import KafkaCluster, Ports
from consumer.service import Service
from consumer.settings import Settings
from consumer.stopping import stop_on_signals
from storage import migrations
from storage.database import Database, DatabaseUnavailable
from storage.single_writer import SqliteFileLock
from storage.virtual_keys import KeyVault, check_all_readable

log = structlog.get_logger(__name__)

T = TypeVar("T")


class CannotStart(Exception):  # noqa: N818 - says what happened
    """The service refuses to start; the message says why and what to do."""


async def run_service(
    settings: Settings, *, migrate: bool, breaker: bool, stop: asyncio.Event | None = None
) -> None:
    """Run the consumer until it is told to stop, then finish what is in hand within `shutdown_timeout`.

    Args:
        settings: with everything in it that `run` requires.
        migrate: bring a PostgreSQL database up to date first (a SQLite file always is).
        breaker: whether too many bad records stop a topic.
        stop: ends the run when set; without it SIGTERM and SIGINT do.

    Raises:
        CannotStart: the database is behind, another `run` has the SQLite file, or a stored key can't be read.
        CannotListen: the address for the HTTP endpoints is taken.
    """
    with stop_on_signals(stop) as stopping, garbage_rarely():
        async with AsyncExitStack() as stack:
            await _Process(settings, stack, stopping).run(migrate_database=migrate, breaker=breaker)


class _Process:
    def __init__(self, settings: Settings, stack: AsyncExitStack, stop: asyncio.Event) -> None:
        self._settings = settings
        self._stack = stack
        self._stop = stop
        self._metrics = Metrics(CollectorRegistry())
        self._ingest_status = IngestStatus()
        self._observer = Observer(self._ingest_status, self._metrics, stopping=stop.is_set)

    async def run(self, *, migrate_database: bool, breaker: bool) -> None:
        settings = self._settings
        if settings.sqlite_path is not None:
            self._stack.enter_context(_own_sqlite_file(settings.sqlite_path))
        await self._stack.enter_async_context(
            HttpServer(
                host=settings.http_host,
                port=settings.http_port,
                registry=self._metrics.registry,
                reasons=self._observer.reasons,
            )
        )
        database = await self._open_database(migrate_database=migrate_database)
        if database is None:
            return
        client = await self._stack.enter_async_context(
            LiteLLMClient.connect(
                _required(settings.litellm_url),
                _required(settings.litellm_master_key).get_secret_value(),
                timeout_s=settings.litellm_timeout_s,
                ssl_cafile=settings.litellm_ssl_cafile,
                on_request=self._metrics.litellm_request,
            )
        )
        service = Service(
            settings,
            database,
            client,
            self._vault(),
            Ports(
                kafka=KafkaCluster(settings, client_id=f"quartermaster-{socket.gethostname()}-{os.getpid()}")
            ),
            metrics=self._metrics,
            ingest_status=self._ingest_status,
            observer=self._observer,
            breaker=breaker,
        )
        await service.run(self._stop)

    # -- database -----------------------------------------------------------------------------------------

    async def _open_database(self, *, migrate_database: bool) -> Database | None:
        """Return the database once it answers and is up to date; None where we are stopped before."""
        settings = self._settings
        pauses = growing_pauses(random.random)
        said = False
        while not self._stop.is_set():
            try:
                database = await Database.connect(settings.database_url.get_secret_value())
                try:
                    await self._prepare(database, migrate_database=migrate_database)
                except BaseException:
                    await database.close()
                    raise
            except DatabaseUnavailable as error:
                self._observer.database_error = str(error)
                if not said:
                    log.warning("database_unavailable", error=str(error), action="waiting for it")
                    said = True
                await wait_for_any(self._stop, timeout=next(pauses))
            else:
                if said:
                    log.info("database_back")
                self._observer.database_error = None
                self._stack.push_async_callback(database.close)
                return database
        return None

    async def _prepare(self, database: Database, *, migrate_database: bool) -> None:
        if migrate_database or database.dialect == "sqlite":
            await migrations.migrate(database)
        elif not await migrations.is_current(database):
            raise CannotStart(
                "the database is behind this version: run `quartermaster db upgrade`, or start with --migrate"
            )
        async with database.reading() as tx:
            unreadable = await check_all_readable(tx, self._vault())
        if unreadable:
            raise CannotStart(
                f"QM_KEY_ENCRYPTION_KEY opens not all stored keys ({unreadable} can't be read): "
                "add the key they were encrypted with, behind a comma"
            )

    def _vault(self) -> KeyVault:
        return KeyVault(self._settings.fernet_keys)


@contextlib.contextmanager
def _own_sqlite_file(path: Path) -> Iterator[None]:
    lock = SqliteFileLock(path)
    if not lock.acquire():
        raise CannotStart(f"another `quartermaster run` uses {path}: a SQLite file bears one instance")
    try:
        yield
    finally:
        lock.release()


def _required(value: T | None) -> T:
    assert value is not None, "the settings of `run` were checked for it"
    return value
