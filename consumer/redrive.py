"""Dead letters through our own ingest once more.

Guarantee: a dead letter takes effect at most once, whoever sends it through and however often, also where two
do so at once and with values mended differently: the note that it was sent through is a conditional update in
the transaction that takes it. One that is still bad stays as it is, and no second one is written for it.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest.batch import Received, apply_batch, contradiction, rejection
from consumer.ingest.judging import IngestPolicy
from schemas.dead_letters import DeadLetterReason
from schemas.decode import IncomingRecord, PassedOver, Rejected, decode
from schemas.event import InboundEvent
from schemas.outcomes import Origin
from storage import dead_letters, identities
from storage.database import Clock, Database, DataRefused, database_now
from storage.dead_letters import StoredDeadLetter, Wanted

BATCH: Final = 500
"""Dead letters in one transaction at most."""

BATCH_BYTES: Final = 8 * 1024 * 1024
"""Bytes of dead letters in one transaction at most; one alone may have more."""


class Fate(StrEnum):
    """What comes of a dead letter that is sent through."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"  # the same event was taken before, with the same data
    PASSED_OVER = "passed_over"  # of a type that we do not know
    STILL_BAD = "still_bad"
    GONE = "gone"  # somebody else sent it through first, or it is no longer kept


@dataclass(frozen=True, slots=True)
class Candidate:
    """A dead letter as the record that ingest would read, and what ingest makes of it."""

    dead_letter_id: int
    record: IncomingRecord
    meaning: InboundEvent | PassedOver | Rejected


@dataclass(frozen=True, slots=True)
class Fated:
    """What came of one dead letter; `why` says what is still wrong with it."""

    dead_letter_id: int
    fate: Fate
    why: Rejected | None = None


class _Overtaken(Exception):  # noqa: N818 - not an error: somebody else was faster
    """An identity was registered between our look at it and our use of it."""


def candidate(stored: StoredDeadLetter, *, max_bytes: int, value: bytes | None = None) -> Candidate:
    """Read a dead letter as ingest would.

    Args:
        stored: The dead letter.
        max_bytes: How many bytes a value may have.
        value: A mended value, in place of its own.
    """
    letter = stored.letter
    record = IncomingRecord(
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        timestamp_ms=letter.timestamp_ms,
        key=letter.key,
        value=letter.value if value is None else value,
        headers=letter.headers,
    )
    meaning: InboundEvent | PassedOver | Rejected
    if record.value is None and letter.reason is DeadLetterReason.TOO_LARGE:
        # Without its value it would look like a null value, which is passed over.
        error = "the value was too large to be kept: it stands on the inbound topic alone"
        meaning = Rejected(letter.reason, error, letter.event_id, letter.event_source, letter.event_type)
    else:
        meaning = decode(record, max_bytes=max_bytes)
    return Candidate(stored.dead_letter_id, record, meaning)


def foresee(candidates: Sequence[Candidate], known: Mapping[UUID, bytes]) -> list[Fated]:
    """Say what comes of each candidate, in their order; a repeat among them is told from its first.

    Args:
        candidates: What is sent through.
        known: The fingerprints of those of their identities that were taken before.
    """
    taken = dict(known)
    fates: list[Fated] = []
    for one in candidates:
        number, meaning = one.dead_letter_id, one.meaning
        if isinstance(meaning, Rejected):
            fates.append(Fated(number, Fate.STILL_BAD, meaning))
        elif isinstance(meaning, PassedOver):
            fates.append(Fated(number, Fate.PASSED_OVER))
        elif meaning.identity not in taken:
            taken[meaning.identity] = meaning.fingerprint
            fates.append(Fated(number, Fate.APPLIED))
        elif taken[meaning.identity] == meaning.fingerprint:
            fates.append(Fated(number, Fate.DUPLICATE))
        else:
            fates.append(Fated(number, Fate.STILL_BAD, contradiction(meaning)))
    return fates


async def batches(
    database: Database, wanted: Wanted, *, size: int = BATCH, size_bytes: int = BATCH_BYTES
) -> AsyncIterator[list[StoredDeadLetter]]:
    """Give the dead letters wanted, oldest first, as many at once as one transaction should take.

    Each is given once, also where it is still wanted afterwards; those that come meanwhile may be left out.
    """
    after = 0
    while True:
        async with database.reading() as tx:
            listed = await dead_letters.sizes(tx, wanted, after=after, limit=size)
            numbers = _as_many_as_fit(listed, size_bytes)
            letters = await dead_letters.load(tx, numbers)
        if not numbers:
            return
        after = numbers[-1]
        # Those of one batch are numbered by their digests; their jobs are to be judged as they stood.
        yield sorted(letters, key=_as_received)


def _as_received(stored: StoredDeadLetter) -> tuple[datetime, str, int, int]:
    letter = stored.letter
    return letter.dead_lettered_at, letter.topic, letter.partition, letter.offset


def _as_many_as_fit(listed: Sequence[tuple[int, int]], room: int) -> list[int]:
    numbers: list[int] = []
    for number, size in listed:
        room -= size
        if numbers and room < 0:
            break
        numbers.append(number)
    return numbers


async def known_to(tx: AsyncConnection, candidates: Sequence[Candidate]) -> dict[UUID, bytes]:
    """Return the fingerprints of those of the candidates' identities that were taken before."""
    events = {one.meaning.identity for one in candidates if isinstance(one.meaning, InboundEvent)}
    return await identities.lookup(tx, sorted(events))


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriver:
    """Sends dead letters through ingest, each batch in one transaction as long as its data can be stored.

    Attributes:
        database: The books.
        policy: The settings that decide.
        clock: The database's time.
    """

    database: Database
    policy: IngestPolicy
    clock: Clock = database_now

    async def redrive(self, candidates: Sequence[Candidate]) -> list[Fated]:
        """Send these through, and say what came of each, in their order.

        Raises:
            storage.database.DatabaseUnavailable: What is not known to be taken may be sent through again.
        """
        if not candidates:
            return []
        while True:
            try:
                return await self.database.run(lambda tx: self._take(tx, candidates))
            except _Overtaken:
                # Whoever overtook us has committed: what was seen before is now known, so this ends.
                continue
            except DataRefused as error:
                if len(candidates) == 1:
                    return [_unprocessable(candidates[0], str(error))]
                middle = len(candidates) // 2
                first = await self.redrive(candidates[:middle])
                return first + await self.redrive(candidates[middle:])

    async def _take(self, tx: AsyncConnection, candidates: Sequence[Candidate]) -> list[Fated]:
        held = await dead_letters.hold(tx, [one.dead_letter_id for one in candidates])
        ours = [one for one in candidates if one.dead_letter_id in held]
        fates = {fated.dead_letter_id: fated for fated in foresee(ours, await known_to(tx, ours))}
        taken = [one for one in ours if fates[one.dead_letter_id].fate is not Fate.STILL_BAD]
        received = [
            Received(one.meaning, one.record) for one in taken if isinstance(one.meaning, InboundEvent)
        ]

        now = await self.clock(tx)
        applied = await apply_batch(tx, received, [], policy=self.policy, origin=Origin.REDRIVE, now=now)
        # Where it came otherwise than foreseen, nothing of it may stand, least of all another dead letter.
        foreseen = Counter(fate.fate for fate in fates.values())
        if (applied.accepted.total(), applied.duplicates.total()) != (
            foreseen[Fate.APPLIED],
            foreseen[Fate.DUPLICATE],
        ):
            raise _Overtaken
        numbers = [one.dead_letter_id for one in taken]
        marked = await dead_letters.mark_redriven(tx, numbers, now)
        assert len(marked) == len(numbers), "what is held is nobody else's to mark"
        return [fates.get(one.dead_letter_id, Fated(one.dead_letter_id, Fate.GONE)) for one in candidates]


def _unprocessable(one: Candidate, error: str) -> Fated:
    assert isinstance(one.meaning, InboundEvent), "what is no event stores nothing that could be refused"
    why = rejection(one.meaning, DeadLetterReason.UNPROCESSABLE, error)
    return Fated(one.dead_letter_id, Fate.STILL_BAD, why)
