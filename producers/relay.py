"""The relay: from the outbox to Kafka, in order for each organization and topic, at least once."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

import structlog

from producers.completion import to_its_end
from producers.delivery import Delivered, Delivery, ProducerFactory, lane_of, no_lane
from producers.idling import Idling
from producers.kafka_client import KafkaUnreachable, describe_error
from producers.relay_plan import (
    Lane,
    LaneState,
    Remedy,
    Verdict,
    judge,
    pause_after,
    plan_batches,
    remedy,
    sendable,
)
from producers.shard_leases import ShardLeases
from schemas.outcomes import Stream
from storage import outbox
from storage.database import Clock, Database, DatabaseUnavailable, database_now
from storage.outbox import PendingRecord
from storage.written_outcomes import WrittenOutcomes

LEASE_S: Final = 15.0
POLL_S: Final = 0.5
PAGE_ROWS: Final = 2000
PATIENCE_S: Final = 1.0
ACK_TIMEOUT_S: Final = 30.0
DRAIN_S: Final = 5.0
LEAVE_S: Final = 0.8

MAX_OUTAGE_PAUSE_S: Final = 5.0
"""The longest pause while the database or the broker is away: asking whether it is back costs little."""

_NOTHING_WRITTEN: Final[Mapping[int, bytes]] = {}

_log: Final = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """What readiness asks of a relay.

    Attributes:
        standing_by: Another relay holds all leases.
        stalled_s: Seconds since anything was last delivered, of the partition that is worst off; close to 0
            where nothing waits.
        published: Records acknowledged since the start.
        refused: Records refused for good since the start.
        troubles: What does not work now, a line each.
    """

    standing_by: bool
    stalled_s: float
    published: int
    refused: int
    troubles: tuple[str, ...]


class Relay:
    """Publishes what the outbox holds, and deletes what the broker has acknowledged.

    Guarantees, for any number of relays on one database: for one organization and topic the first appearances
    stand in outbox order; a row leaves the outbox only once the broker has acknowledged it or refused it for
    good; a repeat has the same key, value and headers; a partition that takes nothing holds back no other.

    A record refused for good is sent without its value if it is a dead letter, and otherwise leaves the
    outbox with an error in the log. It stays in the database, and can be emitted again once the topic takes
    it.

    Args:
        database: Where the outbox is.
        producer_factory: Makes a producer that is not started, such as `make_producer` gives.
        topics: Each stream's topic.
        on_published: Told the stream and how many of its records were acknowledged.
        on_failed: Told the stream and how many of its records were not; they are tried again.
        on_refused: Told the stream of a record that was refused for good.
        token: Names this relay among all.
        clock: The database's clock.
        monotonic: The process's clock, in seconds.
        jitter: Gives random numbers from 0 to 1.
        lease_s: After how many seconds another relay takes over from one that died.
        poll_s: How often to look without being woken, in seconds: other processes write to the outbox too.
            Where nothing comes for long, less and less often (`producers.idling`).
        page_rows: How many rows to read at a time.
        patience_s: How long the others wait for a slow partition, in seconds.
        ack_timeout_s: When a batch without an acknowledgement counts as failed, in seconds.
        drain_s: How long to go on after being told to stop, in seconds.
    """

    def __init__(
        self,
        database: Database,
        producer_factory: ProducerFactory,
        topics: Mapping[Stream, str],
        *,
        on_published: Callable[[Stream, int], None] = lambda _stream, _count: None,
        on_failed: Callable[[Stream, int], None] = lambda _stream, _count: None,
        on_refused: Callable[[Stream], None] = lambda _stream: None,
        token: UUID | None = None,
        clock: Clock = database_now,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        lease_s: float = LEASE_S,
        poll_s: float = POLL_S,
        page_rows: int = PAGE_ROWS,
        patience_s: float = PATIENCE_S,
        ack_timeout_s: float = ACK_TIMEOUT_S,
        drain_s: float = DRAIN_S,
    ) -> None:
        self._database = database
        self._topics = dict(topics)
        self._delivery = Delivery(producer_factory, ack_timeout_s=ack_timeout_s)
        self._leases = ShardLeases(
            database, token=token or uuid4(), ttl_s=lease_s, clock=clock, monotonic=monotonic
        )
        self._on_published = on_published
        self._on_failed = on_failed
        self._on_refused = on_refused
        self._monotonic = monotonic
        self._jitter = jitter
        self._poll_s = poll_s
        self._page_rows = page_rows
        self._patience_s = patience_s
        self._drain_s = drain_s

        self._written = WrittenOutcomes()
        self._connections_opened = database.connections_opened
        self._woken = asyncio.Event()
        self._idling = Idling(poll_s)
        self._lanes: dict[Lane, LaneState] = {}
        self._in_flight: dict[Lane, asyncio.Task[Delivered]] = {}
        self._done: set[int] = set()  # acknowledged or refused, and still in the outbox
        self._horizon = 0  # the highest id seen
        self._shards: Sequence[int] = ()
        self._failures = 0  # passes in a row that the database or the broker ended
        self._progress_at = monotonic()
        self._published = 0
        self._refused = 0
        self._troubles: dict[str, str] = {}

    def wake(self, written: Mapping[int, bytes] = _NOTHING_WRITTEN) -> None:
        """Say that the outbox has something new. Call it after the commit, from the relay's event loop.

        Args:
            written: Values of outcomes that were committed, by their numbers: these it need not read.
        """
        self._written.add(written)
        self._woken.set()

    def status(self) -> RelayStatus:
        """Say how it goes."""
        now = self._monotonic()
        since = [state.failing_since for state in self._lanes.values() if state.failing_since is not None]
        return RelayStatus(
            standing_by=not self._shards,
            stalled_s=now - min([self._progress_at, *since]),
            published=self._published,
            refused=self._refused,
            troubles=tuple(self._troubles.values()),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until told to stop, then what is left within `drain_s`, and give the leases back.

        Only once for each relay. Cancelled, it gives up what is in flight (it will be repeated) and still
        tries to give the leases back.
        """
        stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        publishing: asyncio.Future[Any] = asyncio.ensure_future(self._publish(stopping))
        try:
            await asyncio.wait([stopping, publishing], return_when=asyncio.FIRST_COMPLETED)
            # From here on the time is limited, also that of a pass that waits for a broker.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._drain_s):
                    await publishing
                    await self._drain()
        finally:
            stopping.cancel()
            publishing.cancel()
            await asyncio.wait([publishing])
            await self._leave()

    async def _publish(self, stopping: asyncio.Future[Any]) -> None:
        while not stopping.done():
            again = await self._try_pass()
            if again:
                self._idling.worked()
            else:
                await self._rest(stopping)

    async def _try_pass(self) -> bool:
        try:
            again = await self._pass()
        except DatabaseUnavailable as error:
            self._begin_trouble("database", str(error))
        except KafkaUnreachable as error:
            self._begin_trouble("kafka", str(error))
        else:
            self._failures = 0
            self._end_trouble("database")
            return again
        self._failures += 1
        return False

    async def _pass(self) -> bool:
        """Go through the outbox once; say whether to go on at once."""
        moved = await self._settle(())
        self._shards = await to_its_end(self._leases.keep())
        if not self._shards:
            await to_its_end(self._acknowledge())
            self._forget_failures()
            return False
        held: set[tuple[Stream, str]] = set()
        horizon, after = self._horizon, 0
        while True:
            page = await to_its_end(self._read(after))
            if not page:
                if after == 0:
                    self._forget_failures()
                return moved
            self._horizon = max(self._horizon, page[-1].outbox_id)
            rows = sendable(page, after=after, horizon=horizon)
            moved = await self._settle(await self._begin(rows, held)) or moved
            if moved or len(rows) < len(page):
                # From the beginning again, where late comers become visible.
                return True
            if len(page) < self._page_rows:
                return False
            # What was begun of this page has not arrived: whatever becomes of it, and however soon its lane
            # is open again, the next page overtakes nothing.
            held.update((row.stream, row.org_id) for row in rows if row.org_id)
            after = page[-1].outbox_id

    async def _read(self, after: int) -> list[PendingRecord]:
        """Delete what is done and read a page, in one transaction."""
        pending = partial(outbox.pending, shards=self._shards, after=after, limit=self._page_rows)
        done = frozenset(self._done)
        if not done:
            async with self._database.looking() as tx:
                return await pending(tx, written=self._known())
        async with self._database.transaction() as tx:
            await outbox.acknowledge(tx, done)
            page = await pending(tx, written=self._known())
        self._done -= done
        return page

    def _known(self) -> WrittenOutcomes:
        """Give what was handed over, to whoever has a connection: nothing from before it was opened."""
        opened = self._database.connections_opened
        if opened != self._connections_opened:
            self._connections_opened = opened
            self._written.forget()
        return self._written

    async def _acknowledge(self) -> None:
        done = frozenset(self._done)
        if done:
            await self._database.run(lambda tx: outbox.acknowledge(tx, done))
            self._done -= done

    async def _begin(
        self, rows: Sequence[PendingRecord], held: set[tuple[Stream, str]]
    ) -> Collection[asyncio.Task[Delivered]]:
        """Start sending what of these rows may be sent."""
        await self._delivery.ready()
        self._end_trouble("kafka")
        for stream in {row.stream for row in rows}:
            await self._look_up(stream)
        places = {stream: (topic, self._delivery.partitions(topic)) for stream, topic in self._topics.items()}
        plan = plan_batches(
            rows,
            lane_of=lambda row: lane_of(row, *places[row.stream]),
            closed=self._closed_lanes(),
            held=held,
            states=self._lanes,
        )
        begun = {
            lane: asyncio.ensure_future(self._delivery.send(batches))
            for lane, batches in plan.batches.items()
        }
        self._in_flight.update(begun)
        return begun.values()

    def _closed_lanes(self) -> set[Lane]:
        now = self._monotonic()
        paused = {lane for lane, state in self._lanes.items() if not state.is_open(now)}
        absent = {
            no_lane(stream, topic)
            for stream, topic in self._topics.items()
            if not self._delivery.partitions(topic)
        }
        return paused | absent | set(self._in_flight)

    async def _look_up(self, stream: Stream) -> None:
        topic = self._topics[stream]
        if self._delivery.partitions(topic):
            return
        state = self._state(no_lane(stream, topic))
        now = self._monotonic()
        if not state.is_open(now):
            return
        if await self._delivery.look_up(topic):
            state.delivered(1)
            self._recovered(topic)
        else:
            state.failed(now, self._jitter())
            self._begin_trouble(topic, f"topic {topic} is not there, or may not be seen")

    async def _settle(self, begun: Collection[asyncio.Task[Delivered]]) -> bool:
        """Wait for what was just begun, though not long, and take note of whatever has ended.

        Returns:
            Whether anything moved.
        """
        if begun:
            await asyncio.wait(begun, timeout=self._patience_s)
        moved = self._collect()
        if self._delivery.spent:
            if self._in_flight:
                await asyncio.wait(self._in_flight.values(), timeout=self._patience_s)
                moved = self._collect() or moved
            await self._give_up()
            await self._delivery.renew()
        return moved

    def _collect(self) -> bool:
        moved = False
        for lane, task in list(self._in_flight.items()):
            if task.done():
                del self._in_flight[lane]
                moved = self._note(task.result()) or moved
        return moved

    async def _give_up(self) -> None:
        """End what is in flight without an answer."""
        in_flight, self._in_flight = self._in_flight, {}
        for task in in_flight.values():
            task.cancel()
        if in_flight:
            await asyncio.wait(in_flight.values())

    def _note(self, delivered: Delivered) -> bool:
        """Take note of what became of a lane's batches; say whether the lane may go on at once."""
        lane, state = delivered.lane, self._state(delivered.lane)
        failures = state.failures
        count = sum(len(batch.records) for batch in delivered.batches)
        if count:
            failures = 0
            done = [record.outbox_id for batch in delivered.batches for record in batch.records]
            self._finish(done)
            state.omit_value.difference_update(done)
            state.omit_rest.difference_update(done)
            state.delivered(len(delivered.batches))
            self._published += count
            self._on_published(lane.stream, count)
        if delivered.failed is None or delivered.error is None:
            self._recovered(lane.topic)
            return True
        match judge(delivered.error, delivered.failed, failures):
            case Verdict.SPLIT:
                state.cut(delivered.failed)
                return True
            case Verdict.REFUSED:
                self._refuse(delivered.failed.records[0], state, delivered.error)
                return True
        state.failed(self._monotonic(), self._jitter())
        self._on_failed(lane.stream, len(delivered.failed.records))
        self._begin_trouble(lane.topic, f"topic {lane.topic}: {describe_error(delivered.error)}")
        return bool(count)

    def _refuse(self, record: PendingRecord, state: LaneState, error: Exception) -> None:
        about = {
            "outbox_id": record.outbox_id,
            "stream": record.stream.value,
            "topic": self._topics[record.stream],
            "org_id": record.org_id,
            "error": describe_error(error),
        }
        match remedy(record):
            case Remedy.OMIT_VALUE:
                state.omit_value.add(record.outbox_id)
                _log.warning("dead_letter_value_omitted", **about)
                return
            case Remedy.OMIT_REST:
                state.omit_rest.add(record.outbox_id)
                _log.warning("dead_letter_headers_omitted", **about)
                return
        self._finish([record.outbox_id])
        state.omit_value.discard(record.outbox_id)
        state.omit_rest.discard(record.outbox_id)
        self._refused += 1
        self._on_refused(record.stream)
        _log.error("record_refused", **about, consequence="not published; kept in the database")

    def _finish(self, outbox_ids: Iterable[int]) -> None:
        self._done.update(outbox_ids)
        self._progress_at = self._monotonic()

    def _state(self, lane: Lane) -> LaneState:
        return self._lanes.setdefault(lane, LaneState())

    def _forget_failures(self) -> None:
        """Nothing waits here: what failed has been published by another relay, or is another's to publish."""
        self._progress_at = self._monotonic()
        if self._in_flight:
            return
        for state in self._lanes.values():
            state.failing_since = None
        for topic in self._topics.values():
            self._end_trouble(topic)

    async def _rest(self, stopping: asyncio.Future[Any]) -> None:
        """Wait for news: a writer, an acknowledgement, the poll's time, or the end."""
        if self._failures:
            # Nothing that wakes us makes the database or the broker answer sooner.
            await asyncio.wait([stopping], timeout=self._pause_s())
            return
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            news: list[asyncio.Future[Any]] = [stopping, woken, *self._in_flight.values()]
            pause_s = self._poll_s if self._in_flight else self._idling.pause_s()
            await asyncio.wait(news, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        if self._woken.is_set():
            self._idling.worked()
            self._woken.clear()

    def _pause_s(self) -> float:
        return pause_after(self._failures - 1, self._jitter(), most_s=MAX_OUTAGE_PAUSE_S)

    async def _drain(self) -> None:
        while await self._try_pass():
            pass
        if self._in_flight:
            await asyncio.wait(self._in_flight.values())
            self._collect()

    async def _leave(self) -> None:
        """Delete what is done, give the leases back and close the producer."""
        await self._give_up()
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await to_its_end(self._acknowledge())
                await to_its_end(self._leases.release())
        self._shards = ()
        await self._delivery.close()

    def _recovered(self, topic: str) -> None:
        """End a topic's trouble, unless another of its partitions has it too."""
        if not any(state.failures for lane, state in self._lanes.items() if lane.topic == topic):
            self._end_trouble(topic)

    def _begin_trouble(self, what: str, error: str) -> None:
        if what not in self._troubles:
            _log.warning("relay_held_up", by=what, error=error, action="trying again, with growing pauses")
        self._troubles[what] = error

    def _end_trouble(self, what: str) -> None:
        if self._troubles.pop(what, None) is not None:
            _log.info("relay_goes_on", after=what)
