"""The consumer's loop: fetch, decode, apply in one transaction, commit the offsets, go on.

The next batch is fetched and decoded while this one is applied. No offset is committed before the transaction
that holds what its record caused, so a crash anywhere repeats at most what the identities then pass over.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import ConsumerRecord, TopicPartition

from consumer.ingest.applying import Applier
from consumer.ingest.batch import Applied, Received, RejectedRecord
from consumer.ingest.breaker import TRIAL, Breaker
from consumer.ingest.expansion import weight_beside_value
from consumer.ingest.judging import IngestPolicy
from consumer.ingest.lag import LagWatch
from consumer.ingest.offsets import OffsetsToCommit
from consumer.ingest.records import Decoded, decode_all
from consumer.ingest.status import IngestStatus
from consumer.metrics import Metrics
from consumer.pauses import growing_pauses, wait_for_any
from schemas.decode import PassedOver, Rejected
from schemas.event import InboundEvent
from schemas.outcomes import Origin
from storage.database import Clock, Database, DatabaseUnavailable, database_now

log = structlog.get_logger(__name__)

FETCH_WAIT_MS = 200
TRIAL_WAIT_S = 2.0
MAX_BATCH_BYTES = 8 * 1024 * 1024
FETCH_PIECE = 50
"""Records taken from the client at once: what they unpack to is known only afterwards."""
COMMIT_TIMEOUT_S = 10.0

Fetched = dict[TopicPartition, list[ConsumerRecord]]
Coming = asyncio.Future[list[Decoded]]
"""The batch that is being fetched and decoded while another is applied."""


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """How much is taken at once."""

    max_event_bytes: int
    max_batch_records: int = 2000
    breaker_bad: int | None = 100
    """Bad records among a topic's last 200 that stop it; None: no breaker."""
    breaker_pause: float = 60.0


class Ingest:
    """Reads the inbound topics as one member of the consumer group until told to stop."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        database: Database,
        policy: IngestPolicy,
        limits: IngestLimits,
        *,
        offsets: OffsetsToCommit,
        metrics: Metrics,
        status: IngestStatus,
        on_applied: Callable[[Applied], None],
        clock: Clock = database_now,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Wire the loop to a started consumer (`auto_offset_reset="none"`) and to a database.

        `offsets` is what the consumer tells of rebalances.
        """
        self._consumer = consumer
        self._applier = Applier(
            database=database,
            policy=policy,
            origin=Origin.LIVE,
            clock=clock,
            on_guilty=lambda guilty: self._count_against_breaker(guilty.record.topic),
        )
        self._limits = limits
        self._offsets = offsets
        self._metrics = metrics
        self._status = status
        self._on_applied = on_applied
        self._monotonic = monotonic
        self._jitter = jitter
        self._breakers: dict[str, Breaker] = {}
        self._stop = asyncio.Event()
        self._commit_failed = False

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; the batch in hand is finished and its offsets are committed first."""
        self._stop = stop
        self._status.progress_at = self._status.member_at = self._monotonic()
        coming: Coming = asyncio.ensure_future(self._next())
        lag = LagWatch(self._consumer, metrics=self._metrics, status=self._status, monotonic=self._monotonic)
        watch = asyncio.ensure_future(lag.run())
        try:
            while not stop.is_set():
                await self._try_open_breakers(coming)
                decoded = await coming
                coming = asyncio.ensure_future(self._next())
                if decoded:
                    coming = await self._handle(decoded, coming)
                elif self._offsets.left:
                    await self._commit()  # a commit failed, and the next batch may be long in coming
        finally:
            for task in (coming, watch):
                task.cancel()
            await asyncio.gather(coming, watch, return_exceptions=True)

    async def _next(self) -> list[Decoded]:
        return await self._decode(await self._fetch())

    async def _fetch(self) -> Fetched:
        """Return what is waiting, at most one batch of it; {} after a short wait for nothing.

        It is taken in pieces: only what was unpacked has a size, and a fetch may unpack to gigabytes.
        """
        fetched: Fetched = {}
        room, size, wait_ms = self._limits.max_batch_records, 0, FETCH_WAIT_MS
        while room > 0 and size < MAX_BATCH_BYTES:
            piece = await self._fetch_piece(min(room, FETCH_PIECE), wait_ms)
            if not piece:
                break
            wait_ms = 0
            for partition, records in piece.items():
                fetched.setdefault(partition, []).extend(records)
                room -= len(records)
                size += sum(len(record.value or b"") + weight_beside_value(record) for record in records)
        return fetched

    async def _fetch_piece(self, records: int, wait_ms: int) -> Fetched:
        try:
            fetched: Fetched = await self._consumer.getmany(timeout_ms=wait_ms, max_records=records)
        except NoOffsetForPartitionError as error:
            await self._start_at_beginning(error.args[0], out_of_range=False)
        except OffsetOutOfRangeError as error:
            for partition in error.args[0]:
                await self._start_at_beginning(partition, out_of_range=True)
        except KafkaError as error:
            log.warning("fetch_failed", error=str(error) or type(error).__name__)
            await asyncio.sleep(1)
        else:
            self._offsets.fetched(fetched)
            return fetched
        return {}

    async def _start_at_beginning(self, partition: TopicPartition, *, out_of_range: bool) -> None:
        if out_of_range:
            self._metrics.offset_out_of_range(partition.topic)
            log.warning(
                "offset_out_of_range", topic=partition.topic, partition=partition.partition, reset="earliest"
            )
        self._offsets.forget(partition)
        try:
            await self._consumer.seek_to_beginning(partition)
        except IllegalStateError:
            return  # the partition went to another member meanwhile

    # -- one fetch ----------------------------------------------------------------------------------------

    async def _handle(self, decoded: Sequence[Decoded], following: Coming) -> Coming:
        """Apply what was fetched; return what to take next."""
        started = self._monotonic()
        admitted, stopped = self._admit(decoded)
        for batch in _in_bytes(admitted, MAX_BATCH_BYTES):
            if not await self._apply_and_commit(batch):
                return following
            self._metrics.batch(len(batch), self._monotonic() - started)
        if stopped:
            following = await self._hold_back(stopped, following)
        return following

    async def _decode(self, fetched: Fetched) -> list[Decoded]:
        decoded: list[Decoded] = []
        for partition, records in fetched.items():
            decoded += await decode_all(partition, records, max_bytes=self._limits.max_event_bytes)
        return decoded

    def _admit(self, decoded: Sequence[Decoded]) -> tuple[list[Decoded], dict[TopicPartition, int]]:
        """Split off what a breaker stops: per partition the first offset that is not to be taken."""
        if self._limits.breaker_bad is None:
            return list(decoded), {}
        if not self._status.open_breakers and not any(one.bad for one in decoded):
            for topic, count in Counter(one.partition.topic for one in decoded).items():
                self._breaker(topic).observe_good(count)
            return list(decoded), {}
        admitted: list[Decoded] = []
        stopped: dict[TopicPartition, int] = {}
        now = self._monotonic()
        for one in decoded:
            breaker = self._breaker(one.partition.topic)
            if breaker.is_open:
                stopped.setdefault(one.partition, one.record.offset)
                continue
            admitted.append(one)
            if breaker.observe(bad=one.bad, now=now):
                self._opened(one.partition.topic)
        return admitted, stopped

    def _breaker(self, topic: str) -> Breaker:
        breaker = self._breakers.get(topic)
        if breaker is None:
            assert self._limits.breaker_bad is not None
            breaker = Breaker(bad_limit=self._limits.breaker_bad, pause=self._limits.breaker_pause)
            self._breakers[topic] = breaker
        return breaker

    # -- apply --------------------------------------------------------------------------------------------

    async def _apply_and_commit(self, batch: Sequence[Decoded]) -> bool:
        """Apply a batch and commit its offsets; False where we were stopped before it was applied."""
        received = [Received(d.meaning, d.record) for d in batch if isinstance(d.meaning, InboundEvent)]
        rejected = [RejectedRecord(d.meaning, d.record) for d in batch if isinstance(d.meaning, Rejected)]
        pauses = growing_pauses(self._jitter)
        while True:
            self._status.applying_since = self._monotonic()
            try:
                applied = await self._applier.apply(received, rejected)
                break
            except DatabaseUnavailable as error:
                if not self._status.database_away:
                    log.warning("database_unavailable", error=str(error), holding=len(batch))
                    self._status.database_away = True
                await wait_for_any(self._stop, timeout=next(pauses))
                if self._stop.is_set():
                    return False
            finally:
                self._status.applying_since = None
        if self._status.database_away:
            log.info("database_back")
            self._status.database_away = False
        self._count(batch, applied)
        self._on_applied(applied)
        self._offsets.decided({d.partition: d.record.offset + 1 for d in batch})
        await self._commit()
        self._status.progress_at = self._monotonic()
        return True

    async def _commit(self) -> None:
        """Commit what is decided; what is refused is tried again, or means a harmless redelivery."""
        assigned = self._consumer.assignment()
        ours = {place: offset for place, offset in self._offsets.left.items() if place in assigned}
        if not ours:
            return
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._consumer.commit(ours)
        except (KafkaError, TimeoutError) as error:
            if not self._commit_failed:
                log.info("offsets_not_committed", error=str(error) or type(error).__name__)
            self._commit_failed = True
        else:
            self._offsets.committed(ours)
            if self._commit_failed:
                log.info("offsets_committed_again")
            self._commit_failed = False

    def _count(self, batch: Sequence[Decoded], applied: Applied) -> None:
        for one in batch:
            if isinstance(one.meaning, PassedOver):
                self._metrics.passed_over(one.meaning)
        self._metrics.applied(applied)

    # -- breaker ------------------------------------------------------------------------------------------

    def _count_against_breaker(self, topic: str) -> None:
        """Count a record as bad that only the database could tell."""
        if self._limits.breaker_bad is not None and self._breaker(topic).observe(
            bad=True, now=self._monotonic()
        ):
            self._opened(topic)

    def _opened(self, topic: str) -> None:
        self._status.open_breakers.add(topic)
        self._metrics.breaker_open(topic, is_open=True)
        log.error("breaker_opened", topic=topic, bad=self._limits.breaker_bad)

    async def _hold_back(self, stopped: dict[TopicPartition, int], following: Coming) -> Coming:
        """Pause the stopped topics and go back to the first record that was not taken."""
        topics = {partition.topic for partition in stopped}
        self._pause(topics)
        decoded = await following
        for one in decoded:
            if one.partition.topic in topics:
                stopped.setdefault(one.partition, one.record.offset)
        self._seek(stopped)
        return _done([one for one in decoded if one.partition.topic not in topics])

    def _pause(self, topics: set[str]) -> None:
        self._consumer.pause(*(p for p in self._consumer.assignment() if p.topic in topics))

    def _seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        assigned = self._consumer.assignment()
        for partition, offset in offsets.items():
            if partition in assigned:
                self._consumer.seek(partition, offset)

    async def _try_open_breakers(self, coming: Coming) -> None:
        """Keep stopped topics paused through rebalances, and let ten records through where it is time."""
        if not self._status.open_breakers:
            return
        self._pause(self._status.open_breakers)
        due = [t for t in self._status.open_breakers if self._breaker(t).trial_due(self._monotonic())]
        if due:
            await asyncio.wait([coming])  # two fetches at once would share the records between them
        for topic in due:
            await self._trial(topic)

    async def _trial(self, topic: str) -> None:
        breaker = self._breaker(topic)
        partitions = [p for p in self._consumer.assignment() if p.topic == topic]
        taken: list[Decoded] = []
        if partitions:
            self._consumer.resume(*partitions)
            taken = await self._take_for_trial(partitions)
            self._consumer.pause(*partitions)
        for one in taken:
            breaker.observe(bad=one.bad, now=self._monotonic())
        if taken and not await self._apply_and_commit(taken):
            return
        breaker.trial_over(self._monotonic())
        if breaker.is_open:
            log.warning("breaker_still_open", topic=topic, tried=len(taken))
            return
        self._status.open_breakers.discard(topic)
        self._metrics.breaker_open(topic, is_open=False)
        self._consumer.resume(*partitions)
        log.info("breaker_closed", topic=topic)

    async def _take_for_trial(self, partitions: Sequence[TopicPartition]) -> list[Decoded]:
        taken: list[Decoded] = []
        deadline = self._monotonic() + TRIAL_WAIT_S
        while len(taken) < TRIAL and self._monotonic() < deadline and not self._stop.is_set():
            try:
                fetched = await self._consumer.getmany(
                    *partitions, timeout_ms=FETCH_WAIT_MS, max_records=TRIAL - len(taken)
                )
            except KafkaError as error:
                log.warning("fetch_failed", error=str(error) or type(error).__name__)
                break
            self._offsets.fetched(fetched)
            taken += await self._decode(fetched)
        return taken


def _in_bytes(decoded: Sequence[Decoded], limit: int) -> list[list[Decoded]]:
    """Cut a fetch into batches of at most `limit` bytes of values (one record at least)."""
    if sum(len(one.record.value or b"") for one in decoded) <= limit:
        return [list(decoded)] if decoded else []
    batches: list[list[Decoded]] = []
    size = limit + 1
    for one in decoded:
        length = len(one.record.value or b"")
        if size + length > limit:
            batches.append([])
            size = 0
        batches[-1].append(one)
        size += length
    return batches


def _done(decoded: list[Decoded]) -> Coming:
    future: Coming = asyncio.get_running_loop().create_future()
    future.set_result(decoded)
    return future
