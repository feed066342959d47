"""What is settled already, told by a look: only the rest is worth a transaction that writes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest.records import Decoded
from consumer.replay.tally import Tally
from schemas.dead_letters import dead_letter_digest
from schemas.decode import PassedOver
from schemas.event import InboundEvent
from schemas.events import EventType
from storage import dead_letters, identities


@dataclass(frozen=True, slots=True)
class Known:
    """What the database holds of a batch's records.

    Attributes:
        fingerprints: Of each identity that is known. Kept for good: what is known once stays known.
        dead: The digests of those records that are dead letters.
    """

    fingerprints: Mapping[UUID, bytes] = field(default_factory=dict)
    dead: AbstractSet[UUID] = frozenset()


@dataclass(slots=True)
class Sifted:
    """A batch of records: what is settled, counted; and what is to be applied, in order."""

    tally: Tally = field(default_factory=Tally)
    rest: list[Decoded] = field(default_factory=list)


async def look(tx: AsyncConnection, batch: Sequence[Decoded]) -> Known:
    """Look up a batch; it only reads."""
    supposed = {
        one.meaning.identity: one.meaning.fingerprint
        for one in batch
        if isinstance(one.meaning, InboundEvent)
    }
    fingerprints = await identities.standing(tx, supposed)
    unsettled = [
        _digest(one)
        for one in batch
        if not isinstance(one.meaning, PassedOver) and not _is_duplicate(one, fingerprints)
    ]
    dead = await dead_letters.known(tx, unsettled) if unsettled else frozenset()
    return Known(fingerprints, dead)


def sift(batch: Sequence[Decoded], known: Known) -> Sifted:
    """Count duplicates, dead letters and what is passed over; keep what is new, contradicts or is no event.

    A record that became a dead letter before is one for good, whatever became of the event it bears.
    """
    sifted = Sifted()
    tally, duplicates = sifted.tally, list[EventType]()
    fingerprints, dead = known.fingerprints, known.dead
    for one in batch:
        meaning = one.meaning
        if isinstance(meaning, PassedOver):
            tally.passed_over(meaning)
        elif _is_duplicate(one, fingerprints):
            assert isinstance(meaning, InboundEvent)
            duplicates.append(meaning.type)
        elif dead and _digest(one) in dead:
            tally.invalid_before(one)
        else:
            sifted.rest.append(one)
    tally.duplicate.update({type_.value: count for type_, count in Counter(duplicates).items()})
    return sifted


def _is_duplicate(one: Decoded, fingerprints: Mapping[UUID, bytes]) -> bool:
    meaning = one.meaning
    return isinstance(meaning, InboundEvent) and fingerprints.get(meaning.identity) == meaning.fingerprint


def _digest(one: Decoded) -> UUID:
    record = one.record
    return dead_letter_digest(record.topic, record.partition, record.offset, record.value)
