"""A replay: read, sift by a look, apply the rest through the same ingest, note the place with it."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

import structlog
from aiokafka.structs import TopicPartition
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest.applying import Applier
from consumer.ingest.batch import Applied, Received, RejectedRecord
from consumer.ingest.breaker import WINDOW, Breaker
from consumer.ingest.records import Decoded, decode_all
from consumer.pauses import growing_pauses, wait_for_any
from consumer.replay.pace import Pace
from consumer.replay.reading import Piece, Reader
from consumer.replay.selection import Selection
from consumer.replay.sifting import Known, Sifted, look, sift
from consumer.replay.tally import Tally
from schemas.decode import Rejected
from schemas.event import InboundEvent
from storage import replays
from storage.database import Clock, Database, DatabaseUnavailable, database_now

log = structlog.get_logger(__name__)

T = TypeVar("T")

BATCH_RECORDS: Final = 500
"""Records looked up at once: more keep the database busy for longer while live events wait."""
SAVE_EVERY_S: Final = 1.0
"""How often the place is noted while there is nothing to write: what is read again is passed over."""
DATABASE_PATIENCE_S: Final = 60.0
"""How long a database that is away is waited for, before the operator hears of it."""


class BreakerTripped(Exception):  # noqa: N818 - says what is so
    """Too many of a topic's last records are bad, and new dead letters: none more is written."""

    def __init__(self, topic: str, bad: int) -> None:
        super().__init__(f"{bad} of the last {WINDOW} records of {topic} are bad")
        self.topic = topic


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayLimits:
    """How much at once, how fast, and how bad.

    Attributes:
        max_event_bytes: Bytes of a value beyond which a record is a dead letter.
        records_per_s: All records pass no faster than this; None: no limit.
        new_per_s: Those that are not settled already pass no faster than this; None: no limit.
        records_per_transaction: Records applied in one transaction at most.
        breaker_bad: New bad records among a topic's last 200 that end the replay; None: none do.
    """

    max_event_bytes: int
    records_per_s: float | None = None
    new_per_s: float | None = None
    records_per_transaction: int = 1_000
    breaker_bad: int | None = 100

    @property
    def at_once(self) -> int:
        """How many records are applied in one transaction.

        Where there is a rate, somebody else is to have room, who waits for the organizations that a
        transaction holds: then no more than pass in a twentieth of a second.
        """
        rates = [rate for rate in (self.records_per_s, self.new_per_s) if rate is not None]
        return min([self.records_per_transaction, *(max(1, int(rate / 20)) for rate in rates)])


@dataclass(slots=True)
class Batch:
    """Decoded records in the order read, and the places behind them."""

    decoded: list[Decoded]
    places: dict[TopicPartition, int]
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a replay, as the database knows it.

    Attributes:
        replay_id: Names the replay: the same command has the same.
        token: Names this run of it.
        tally: What its records came to in earlier runs.
    """

    replay_id: UUID
    token: UUID
    tally: Tally


class Replay:
    """Reads what a reader gives into the books, until its end or until told to stop.

    Guarantees: what was applied before has no effect; the place that is noted has nothing before it that was
    not applied; no offset of Kafka is committed.
    """

    def __init__(
        self,
        reader: Reader,
        applier: Applier,
        selection: Selection,
        run: Run,
        limits: ReplayLimits,
        *,
        on_progress: Callable[[int, Tally], None],
        clock: Clock = database_now,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Prepare a run; `on_progress` is told how many offsets were passed since, and the tally so far."""
        self._reader = reader
        self._applier = applier
        self._database: Database = applier.database
        self._run = run
        self._limits = limits
        self._on_progress = on_progress
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._tally = run.tally
        self._decoder = Decoder(selection, limits.max_event_bytes)
        self._pace_all = Pace(limits.records_per_s, monotonic=monotonic)
        self._pace_new = Pace(limits.new_per_s, monotonic=monotonic)
        self._breakers: dict[str, Breaker] = {}
        self._unsaved: dict[TopicPartition, int] = {}
        self._passed = dict(reader.places)
        self._started_at = sum(self._passed.values())
        self._saved_at = monotonic()
        self._stop = asyncio.Event()

    @property
    def tally(self) -> Tally:
        """What the records came to so far, in all runs of this replay."""
        return self._tally

    async def run(self, stop: asyncio.Event) -> bool:
        """Read to the end; False where `stop` was set before it. The batch in hand is finished.

        Raises:
            BreakerTripped: A topic's records are bad; those before are applied.
            TakenOver: The same replay was started once more.
            DatabaseUnavailable: It has been away for a minute.
            KafkaUnreachable: It has been away for a minute, or can't be read.
        """
        self._stop = stop
        coming = asyncio.ensure_future(self._next())
        try:
            while not stop.is_set():
                batch = await coming
                if not batch.places and self._reader.done:
                    await self._patiently(lambda: self._database.run(self._end))
                    return True
                coming = asyncio.ensure_future(self._next())
                if batch.places:
                    await self._handle(batch)
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await self._patiently(
            lambda: self._database.run(lambda tx: self._save(tx, self._tally, self._unsaved))
        )
        return False

    async def _next(self) -> Batch:
        at_once = min(BATCH_RECORDS, self._limits.at_once)
        return await self._decoder.decode(await self._reader.next(at_once))

    async def _handle(self, batch: Batch) -> None:
        async def read() -> Known:
            async with self._database.reading() as tx:
                return await look(tx, batch.decoded)

        known = await self._patiently(read)
        for slice_, sifted in self._slices(batch, known):
            tripped = self._tripped(slice_, sifted)
            if tripped is None:
                await self._settle(slice_, sifted)
            else:
                number, topic = tripped
                admitted = _cut(slice_, number)
                await self._settle(admitted, sift(admitted.decoded, known))
                assert self._limits.breaker_bad is not None
                raise BreakerTripped(topic, self._limits.breaker_bad)
            if self._stop.is_set():
                return

    def _slices(self, batch: Batch, known: Known) -> Iterator[tuple[Batch, Sifted]]:
        """Cut a batch where it is more than one transaction should hold, or than a moment should pass."""
        decoded, most = batch.decoded, self._limits.at_once
        whole = sift(decoded, known)
        if len(decoded) <= most or (self._limits.records_per_s is None and len(whole.rest) <= most):
            yield batch, whole
            return
        for start in range(0, len(decoded), most):
            some = decoded[start : start + most]
            if start + most < len(decoded):
                slice_ = Batch(some, {one.partition: one.record.offset + 1 for one in some})
            else:
                slice_ = Batch(some, batch.places, batch.tally)
            yield slice_, sift(some, known)

    async def _settle(self, batch: Batch, sifted: Sifted) -> None:
        settled = self._tally.copy()
        settled.add(batch.tally)
        settled.add(sifted.tally)
        places = self._unsaved | batch.places
        if sifted.rest:
            received = [
                Received(d.meaning, d.record) for d in sifted.rest if isinstance(d.meaning, InboundEvent)
            ]
            rejected = [
                RejectedRecord(d.meaning, d.record) for d in sifted.rest if isinstance(d.meaning, Rejected)
            ]

            async def within(tx: AsyncConnection, applied: Applied) -> None:
                counted = settled.copy()
                counted.applied(applied)
                await self._save(tx, counted, places)

            settled.applied(await self._patiently(lambda: self._applier.apply(received, rejected, within)))
            self._saved()
        else:
            self._unsaved = places
            if self._monotonic() - self._saved_at >= SAVE_EVERY_S:
                await self._patiently(lambda: self._database.run(lambda tx: self._save(tx, settled, places)))
                self._saved()
        self._tally = settled
        self._passed |= batch.places
        self._on_progress(sum(self._passed.values()) - self._started_at, settled)
        wait = max(self._pace_all.spend(len(batch.decoded)), self._pace_new.spend(len(sifted.rest)))
        if wait > 0:
            await wait_for_any(self._stop, timeout=wait)

    # -- the place ----------------------------------------------------------------------------------------

    async def _save(self, tx: AsyncConnection, tally: Tally, places: Mapping[TopicPartition, int]) -> None:
        await replays.save(
            tx,
            self._run.replay_id,
            self._run.token,
            {(one.topic, one.partition): place for one, place in places.items()},
            tally=tally.to_json(),
            now=await self._clock(tx),
        )

    def _saved(self) -> None:
        self._unsaved = {}
        self._saved_at = self._monotonic()

    async def _end(self, tx: AsyncConnection) -> None:
        await replays.forget(tx, self._run.replay_id, self._run.token)

    # -- what may go wrong --------------------------------------------------------------------------------

    def _tripped(self, batch: Batch, sifted: Sifted) -> tuple[int, str] | None:
        """Show a batch to the breakers: how many records pass where one trips, and whose breaker it is."""
        if self._limits.breaker_bad is None:
            return None
        now = self._monotonic()
        bad = {(one.partition, one.record.offset) for one in sifted.rest if one.bad}
        if not bad:
            if self._breakers:
                for topic, count in Counter(one.partition.topic for one in batch.decoded).items():
                    for _ in range(min(count, WINDOW)):
                        self._breaker(topic).observe(bad=False, now=now)
            return None
        for number, one in enumerate(batch.decoded, start=1):
            topic = one.partition.topic
            if self._breaker(topic).observe(bad=(one.partition, one.record.offset) in bad, now=now):
                return number, topic
        return None

    def _breaker(self, topic: str) -> Breaker:
        breaker = self._breakers.get(topic)
        if breaker is None:
            assert self._limits.breaker_bad is not None
            breaker = self._breakers[topic] = Breaker(bad_limit=self._limits.breaker_bad, pause=0)
        return breaker

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what needs the database; wait for it where it is away, though not for ever."""
        return await patiently(work, monotonic=self._monotonic, jitter=self._jitter)


@dataclass(frozen=True, slots=True)
class Decoder:
    """From what was read to decoded records: only those of the window, and of whoever was asked for."""

    selection: Selection
    max_event_bytes: int

    async def decode(self, piece: Piece) -> Batch:
        """Decode a piece; what is left out is counted."""
        selection = self.selection
        begin, end = selection.begin.ms, selection.end.ms
        batch = Batch([], piece.places)
        for partition, records in piece.records.items():
            within = records
            if begin is not None or end is not None:
                within = [
                    record
                    for record in records
                    if (begin is None or record.timestamp >= begin)
                    and (end is None or record.timestamp < end)
                ]
            decoded = await decode_all(partition, within, max_bytes=self.max_event_bytes)
            if selection.narrows:
                decoded = [one for one in decoded if selection.takes(one.meaning)]
            batch.tally.left_out += len(records) - len(decoded)
            batch.decoded += decoded
        return batch


async def patiently(
    work: Callable[[], Awaitable[T]],
    *,
    patience_s: float = DATABASE_PATIENCE_S,
    monotonic: Callable[[], float] = time.monotonic,
    jitter: Callable[[], float] = random.random,
) -> T:
    """Do what needs the database; where it is away, again after growing pauses, for `patience_s` seconds.

    Raises:
        DatabaseUnavailable: It is still away.
    """
    give_up_at = monotonic() + patience_s
    pauses = growing_pauses(jitter)
    said = False
    while True:
        try:
            return await work()
        except DatabaseUnavailable as error:
            if monotonic() >= give_up_at:
                raise
            if not said:
                log.warning("database_unavailable", error=str(error), action="waiting for it")
                said = True
        await asyncio.sleep(next(pauses))


def _cut(batch: Batch, count: int) -> Batch:
    """Give the first `count` records of a batch; a partition cut short has its place there."""
    places = dict(batch.places)
    for one in reversed(batch.decoded[count:]):
        places[one.partition] = one.record.offset
    return Batch(batch.decoded[:count], places, batch.tally)
