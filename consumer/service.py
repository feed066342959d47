"""The parts of a running service, wired to one another, and started and stopped in order."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from consumer.clock_watch import ClockWatch
from consumer.ingest.batch import Applied
from consumer.ingest.drain import Drain
from consumer.ingest.judging import IngestPolicy
from consumer.ingest.loop import Ingest, IngestLimits
from consumer.ingest.offsets import OffsetsToCommit
from consumer.ingest.status import IngestStatus
from consumer.ingest.topics import wait_for_topics
from consumer.litellm.client import LiteLLMClient
from consumer.litellm.gate import HealthGate
from consumer.lost_sessions import LostSessions
from consumer.metrics import Metrics
from consumer.observer import Observer
from consumer.pauses import wait_for_any
from consumer.ports import Ports
from consumer.provisioning.failures import LONGEST_PAUSE
from consumer.provisioning.policy import ProvisionerPolicy
from consumer.provisioning.pool import Provisioner
from consumer.retention import Retention
from consumer.settings import Settings
from producers.relay import LEASE_S, Relay
from storage.clock_steps import Longest
from storage.database import Database
from storage.virtual_keys import KeyVault

log = structlog.get_logger(__name__)

START_AGAIN_S = 1.0
"""The pause after a consumer that couldn't be started."""

Parts = Mapping[str, Callable[[], Awaitable[None]]]


class Service:
    """Ingest, drain, provisioner and relay over one database, and what watches them.

    Args:
        settings: With everything in it that `run` requires.
        database: Open and up to date; it stays the caller's to close.
        client: LiteLLM; it stays the caller's to close.
        vault: Encrypts keys at rest.
        ports: Everything else outside.
        metrics: Where everything is counted.
        ingest_status: What the ingest says of itself.
        observer: Told what it can't see by itself.
        breaker: Whether too many bad records stop a topic.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        client: LiteLLMClient,
        vault: KeyVault,
        ports: Ports,
        *,
        metrics: Metrics,
        ingest_status: IngestStatus,
        observer: Observer,
        breaker: bool,
    ) -> None:
        self._settings = settings
        self._database = database
        self._ports = ports
        self._metrics = metrics
        self._ingest_status = ingest_status
        self._observer = observer
        self._breaker = breaker
        self._policy = IngestPolicy.of(settings)
        self._provisioning = ProvisionerPolicy.of(settings)
        self._relay = Relay(
            database,
            ports.kafka.producer,
            settings.outbound_topics,
            on_published=metrics.published,
            on_failed=metrics.publish_failed,
            on_refused=lambda stream: metrics.publish_failed(stream, final=True),
            token=ports.new_token(),
            clock=ports.clock,
            monotonic=ports.monotonic,
            jitter=ports.random,
        )
        observer.relay = self._relay.status
        self._drain = Drain(
            database, self._policy, metrics=metrics, on_outcomes=self._relay.wake, clock=ports.clock
        )
        self._gate = HealthGate(
            client.probe, random=ports.random, clock=ports.monotonic, on_change=metrics.litellm_up
        )
        self._provisioner = Provisioner(
            database,
            client,
            self._gate,
            vault,
            self._provisioning,
            on_outcomes=self._relay.wake,
            on_activated=lambda _org_id: self._drain.wake(),
            metrics=metrics,
            clock=ports.clock,
            monotonic=ports.monotonic,
            random=ports.random,
            token_bytes=ports.token_bytes,
            new_token=ports.new_token,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run the parts until `stop` is set or one of them breaks, then stop them in order.

        What is in hand is finished within `shutdown_timeout`, leases are given back, the group is left.
        """
        consuming = asyncio.Event()  # set: ingest and provisioning end; the relay goes on a little longer
        relaying = asyncio.Event()
        retention = Retention(self._database, keep_days=self._settings.keep_days, clock=self._ports.clock)
        clock_watch = ClockWatch(
            self._database,
            _longest(self._provisioning),
            clock=self._ports.clock,
            monotonic=self._ports.monotonic,
        )
        lost_sessions = LostSessions(self._database)
        parts: Parts = {
            "relay": lambda: self._relay.run(relaying),
            "provisioner": lambda: self._provisioner.run(consuming),
            "gate": lambda: _until(consuming, self._gate.run()),
            "drain": lambda: self._drain.run(consuming),
            "retention": lambda: retention.run(consuming),
            "clock_watch": lambda: clock_watch.run(consuming),
            "lost_sessions": lambda: lost_sessions.run(consuming),
            "observer": lambda: self._observer.run(self._database, consuming),
            "ingest": lambda: self._consume(consuming),
        }
        await self._supervise(parts, stop, consuming, relaying)

    def _go_on(self, applied: Applied) -> None:
        """Wake whoever has something to do after a batch."""
        if applied.outcomes or applied.dead_letters:
            self._relay.wake(applied.written)
        if applied.needs_provisioning:
            self._provisioner.wake()
        if applied.needs_draining:
            self._drain.wake()

    async def _consume(self, stop: asyncio.Event) -> None:
        settings, ports = self._settings, self._ports
        offsets = OffsetsToCommit()
        consumer = await self._join(offsets, stop)
        if consumer is None:
            return
        try:
            ingest = Ingest(
                consumer,
                self._database,
                self._policy,
                IngestLimits(
                    max_event_bytes=settings.max_event_bytes,
                    breaker_bad=settings.breaker_bad if self._breaker else None,
                    breaker_pause=settings.breaker_pause,
                ),
                offsets=offsets,
                metrics=self._metrics,
                status=self._ingest_status,
                on_applied=self._go_on,
                clock=ports.clock,
                monotonic=ports.monotonic,
                jitter=ports.random,
            )
            await ingest.run(stop)
        finally:
            await consumer.stop()

    async def _join(self, offsets: OffsetsToCommit, stop: asyncio.Event) -> AIOKafkaConsumer | None:
        """Return a started consumer, however long it takes; None where we are stopped before."""
        wanted = (*self._settings.inbound_topics, *self._settings.outbound_topics.values())
        kafka, status, jitter = self._ports.kafka, self._ingest_status, self._ports.random
        said: str | None = None
        while await wait_for_topics(kafka.missing_topics, wanted, status=status, stop=stop, jitter=jitter):
            consumer = kafka.consumer(listener=offsets)
            try:
                await consumer.start()
            except BaseException as error:
                await consumer.stop()
                # What no second try mends, such as a setting the broker refuses, ends the process.
                if not (isinstance(error, KafkaError) and error.retriable):
                    raise
                # The broker answered a moment ago: whether it is away shows when it is asked again.
                if said != str(error):
                    log.warning("consumer_not_started", error=str(error) or type(error).__name__)
                    said = str(error)
                await wait_for_any(stop, timeout=START_AGAIN_S)
            else:
                return consumer
        return None

    async def _supervise(
        self, parts: Parts, stop: asyncio.Event, consuming: asyncio.Event, relaying: asyncio.Event
    ) -> None:
        tasks = {name: asyncio.ensure_future(start()) for name, start in parts.items()}
        stopping = asyncio.ensure_future(stop.wait())
        done, _ = await asyncio.wait([stopping, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        deadline = self._ports.monotonic() + self._settings.shutdown_timeout
        if any(task in done for task in tasks.values()):
            log.error("part_ended", parts=[name for name, task in tasks.items() if task in done])
        else:
            log.info("stopping", within_s=self._settings.shutdown_timeout)
        consuming.set()
        relay = tasks.pop("relay")
        late = await self._finish(tasks.values(), deadline)
        relaying.set()
        late += await self._finish([relay], deadline)
        if late:
            log.warning("stopped_before_the_end", parts=late, hint="what was in hand is repeated safely")
        for task in (*tasks.values(), relay):
            # One that does not even end when cancelled waits for an answer that never comes.
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        log.info("stopped")

    async def _finish(self, tasks: Iterable["asyncio.Future[None]"], deadline: float) -> int:
        """Let tasks end by themselves until the deadline, then cancel them; return how many were late."""
        left = max(0.1, deadline - self._ports.monotonic())
        _, late = await asyncio.wait(list(tasks), timeout=left)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
        return len(late)


async def _until(stop: asyncio.Event, work: Awaitable[None]) -> None:
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


def _longest(policy: ProvisionerPolicy) -> Longest:
    return Longest(
        relay_lease=timedelta(seconds=LEASE_S),
        other_lease=policy.lease_ttl,
        pause=max(LONGEST_PAUSE, policy.lease_ttl),
        compensation=policy.compensate_for,
        dependency_wait=policy.dependency_wait,
    )
