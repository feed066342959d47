"""The composition root of `run`: every part is made here, wired here, started and stopped in order here."""

import asyncio
import contextlib
import gc
import json
import os
import random
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import structlog
from prometheus_client import CollectorRegistry

from consumer.http import HttpServer
from consumer.ingest.batch import Applied
from consumer.ingest.client import make_consumer
from consumer.ingest.drain import Drain
from consumer.ingest.judging import IngestPolicy
from consumer.ingest.loop import Ingest, IngestLimits
from consumer.ingest.status import IngestStatus
from consumer.ingest.topics import wait_for_topics
from consumer.litellm.client import LiteLLMClient
from consumer.litellm.gate import HealthGate
from consumer.metrics import Metrics
from consumer.observer import Observer
from consumer.pauses import growing_pauses, wait_for_any
from consumer.provisioning import Provisioner, ProvisionerPolicy
from consumer.retention import Retention
from consumer.settings import Settings
from producers.kafka_client import KafkaConnection, make_producer
from producers.relay import Relay
from storage import migrations
from storage.database import Database, DatabaseUnavailable
from storage.single_writer import SqliteFileLock
from storage.virtual_keys import KeyVault, check_all_readable

log = structlog.get_logger(__name__)

T = TypeVar("T")

COLLECT_AFTER = 50_000
"""Allocations between two looks of the garbage collector: a batch makes no cycles to speak of."""


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
    with _stop_on_signals(stop) as stopping, _garbage_rarely():
        async with AsyncExitStack() as stack:
            await _Service(settings, stack, stopping).run(migrate_database=migrate, breaker=breaker)


class _Service:
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
        await self._run_parts(database, client, breaker=breaker)

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

    # -- parts --------------------------------------------------------------------------------------------

    async def _run_parts(self, database: Database, client: LiteLLMClient, *, breaker: bool) -> None:
        settings, metrics = self._settings, self._metrics
        kafka = settings.kafka
        policy = IngestPolicy(
            our_source=settings.source,
            credits_per_job=settings.credits_per_job,
            dependency_wait=timedelta(seconds=settings.dependency_wait),
        )
        relay = Relay(
            database,
            lambda: make_producer(kafka, idempotent=settings.kafka_idempotence),
            settings.outbound_topics,
            on_published=metrics.published,
            on_failed=metrics.publish_failed,
            on_refused=lambda stream: metrics.publish_failed(stream, final=True),
        )
        self._observer.relay = relay.status
        drain = Drain(database, policy, metrics=metrics, on_outcomes=relay.wake)
        gate = HealthGate(
            client.probe, random=random.random, clock=time.monotonic, on_change=metrics.litellm_up
        )
        provisioner = Provisioner(
            database,
            client,
            gate,
            self._vault(),
            _provisioner_policy(settings),
            on_outcomes=relay.wake,
            on_activated=lambda _org_id: drain.wake(),
            metrics=metrics,
        )

        def go_on(applied: Applied) -> None:
            if applied.outcomes or applied.dead_letters:
                relay.wake()
            if applied.needs_provisioning:
                provisioner.wake()
            if applied.needs_draining:
                drain.wake()

        consuming = asyncio.Event()  # set: ingest and provisioning end; the relay goes on a little longer
        relaying = asyncio.Event()
        background = {
            "relay": lambda: relay.run(relaying),
            "provisioner": lambda: provisioner.run(consuming),
            "gate": lambda: until(consuming, gate.run()),
            "drain": lambda: drain.run(consuming),
            "retention": lambda: Retention(database, keep_days=settings.keep_days).run(consuming),
            "observer": lambda: self._observer.run(database, consuming),
            "ingest": lambda: self._consume(database, kafka, policy, consuming, go_on, breaker=breaker),
        }
        await self._supervise(background, consuming, relaying)

    async def _consume(
        self,
        database: Database,
        kafka: KafkaConnection,
        policy: IngestPolicy,
        stop: asyncio.Event,
        on_applied: Callable[[Applied], None],
        *,
        breaker: bool,
    ) -> None:
        settings = self._settings
        wanted = (*settings.inbound_topics, *settings.outbound_topics.values())
        if not await wait_for_topics(kafka, wanted, status=self._ingest_status, stop=stop):
            return
        consumer = make_consumer(
            settings.inbound_topics,
            kafka,
            group_id=settings.kafka_group_id,
            client_id=f"quartermaster-{socket.gethostname()}-{os.getpid()}",
            session_timeout_s=settings.kafka_session_timeout,
        )
        try:
            await consumer.start()
            ingest = Ingest(
                consumer,
                database,
                policy,
                IngestLimits(
                    max_event_bytes=settings.max_event_bytes,
                    breaker_bad=settings.breaker_bad if breaker else None,
                    breaker_pause=settings.breaker_pause,
                ),
                metrics=self._metrics,
                status=self._ingest_status,
                on_applied=on_applied,
            )
            await ingest.run(stop)
        finally:
            await consumer.stop()

    async def _supervise(
        self,
        parts: Mapping[str, Callable[[], Awaitable[None]]],
        consuming: asyncio.Event,
        relaying: asyncio.Event,
    ) -> None:
        """Run the parts until we are told to stop or one of them breaks, then stop them in order."""
        tasks = {name: asyncio.ensure_future(start()) for name, start in parts.items()}
        stop = asyncio.ensure_future(self._stop.wait())
        done, _ = await asyncio.wait([stop, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        deadline = time.monotonic() + self._settings.shutdown_timeout
        if any(task in done for task in tasks.values()):
            log.error("part_ended", parts=[name for name, task in tasks.items() if task in done])
        else:
            log.info("stopping", within_s=self._settings.shutdown_timeout)
        consuming.set()
        relay = tasks.pop("relay")
        late = await _finish(tasks.values(), deadline)
        relaying.set()
        late += await _finish([relay], deadline)
        if late:
            log.warning("stopped_before_the_end", parts=late, hint="what was in hand is repeated safely")
        for task in (*tasks.values(), relay):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        log.info("stopped")


async def _finish(tasks: Iterable["asyncio.Future[None]"], deadline: float) -> int:
    """Let tasks end by themselves until the deadline, then cancel them; return how many were late."""
    _, late = await asyncio.wait(list(tasks), timeout=max(0.1, deadline - time.monotonic()))
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=1.0)
    return len(late)


async def until(stop: asyncio.Event, work: Awaitable[None]) -> None:
    """Run `work` until `stop` is set, then cancel it."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
    finally:
        task.cancel()
        stopped.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.contextmanager
def _own_sqlite_file(path: Path) -> Iterator[None]:
    lock = SqliteFileLock(path)
    if not lock.acquire():
        raise CannotStart(f"another `quartermaster run` uses {path}: a SQLite file bears one instance")
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _stop_on_signals(stop: asyncio.Event | None) -> Iterator[asyncio.Event]:
    """Set the event on SIGTERM and SIGINT, unless the caller brings one of its own."""
    if stop is not None:
        yield stop
        return
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _garbage_rarely() -> Iterator[None]:
    """Keep the collector out of the hot path: what stands now stays, what a batch makes is freed by count."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _provisioner_policy(settings: Settings) -> ProvisionerPolicy:
    jwk = settings.key_delivery_jwk
    return ProvisionerPolicy(
        our_source=settings.source,
        base_url=_required(settings.public_url),
        adopt_existing=settings.adopt_existing_teams,
        default_initial_credits=settings.default_initial_credits,
        default_max_budget_usd=settings.default_max_budget_usd,
        default_models=settings.default_models,
        retry_for=timedelta(seconds=settings.retry_for),
        dependency_wait=timedelta(seconds=settings.dependency_wait),
        litellm_timeout=timedelta(seconds=settings.litellm_timeout_s),
        concurrency=settings.litellm_concurrency,
        delivery_jwk=None if jwk is None else json.loads(jwk),
    )


def _required(value: T | None) -> T:
    assert value is not None, "the settings of `run` were checked for it"
    return value
