"""Dead letters through ingest once more: taken once, whoever sends them, or left as they are."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer import redrive as redriving
from consumer.ingest.batch import Applied, Received, RejectedRecord, apply_batch, dead_letter_of
from consumer.redrive import Candidate, Fate, Redriver, batches, candidate, foresee, known_to
from schemas.dead_letters import DeadLetterReason
from schemas.decode import IncomingRecord, Rejected
from schemas.json_codec import dump_json
from schemas.outcomes import Origin
from storage import dead_letters, inbox, ledger, outbox
from storage.database import Database, DataRefused
from storage.dead_letters import DeadLetter, StoredDeadLetter, Wanted
from tests.integration.consumer.ingest.events import (
    NOW,
    POLICY,
    activate,
    ingest,
    job,
    letters_of,
    outcomes_of,
    received,
    state_of,
)

MAX_BYTES = 1_000_000
OPEN = Wanted(redriven=False)


def value_of(job_id: str = "j", *, id_: str = "e", org: str = "acme", **data: Any) -> bytes:
    return dump_json(
        {
            "specversion": "1.0",
            "id": id_,
            "source": "/platform",
            "type": "job.completed",
            "data": {"org_id": org, "job_id": job_id, "status": "completed", **data},
        }
    )


def dead(offset: int, value: bytes | None, **given_: Any) -> DeadLetter:
    """A record with this value as ingest would have refused it, whatever is wrong with it."""
    record = IncomingRecord("in", 0, offset, 1_700_000_000_000, b"acme", value, ())
    refused = Rejected(DeadLetterReason.INVALID_DATA, "what was wrong")
    return replace(dead_letter_of(record, refused, origin=Origin.LIVE, now=NOW), **given_)


async def keep(database: Database, *letters: DeadLetter) -> list[StoredDeadLetter]:
    """Keep these and let them be published, and return them as they stand."""

    async def work(tx: AsyncConnection) -> list[StoredDeadLetter]:
        # One by one: those of one batch are numbered in the order of their digests.
        for letter in letters:
            assert await outbox.append_dead_letters(tx, [letter]) == [True]
        pending = await outbox.pending(tx, range(outbox.SHARDS), limit=10_000)
        await outbox.acknowledge(tx, [one.outbox_id for one in pending if one.stream == "dead_letter"])
        numbers = [number for number, _ in await dead_letters.sizes(tx, Wanted(), after=0, limit=10_000)]
        return await dead_letters.load(tx, numbers[-len(letters) :])

    return await database.run(work)


def read(stored: StoredDeadLetter, value: bytes | None = None) -> Candidate:
    return candidate(stored, max_bytes=MAX_BYTES, value=value)


async def redrive(database: Database, *candidates: Candidate) -> list[Fate]:
    fates = await Redriver(database=database, policy=POLICY).redrive(candidates)
    assert [fated.dead_letter_id for fated in fates] == [one.dead_letter_id for one in candidates]
    assert all((fated.why is not None) == (fated.fate is Fate.STILL_BAD) for fated in fates)
    return [fated.fate for fated in fates]


async def open_letters(database: Database) -> list[int]:
    async with database.reading() as tx:
        return [one.dead_letter_id for one in await dead_letters.page(tx, OPEN)]


async def books_balance(database: Database) -> bool:
    async with database.reading() as tx:
        return (await ledger.verify(tx)).ok


async def test_one_that_can_be_taken_now_takes_effect_and_is_marked(database: Database) -> None:
    await activate(database)
    [stored] = await keep(database, dead(1, value_of()))

    assert await redrive(database, read(stored)) == [Fate.APPLIED]

    [outcome] = await outcomes_of(database)
    assert (outcome["type"], outcome["origin"], outcome["causationid"]) == (
        "credits.deducted",
        "redrive",
        "e",
    )
    # The record's own time stands in for the envelope's, as it would have done on the topic.
    assert outcome["causationtime"] == "2023-11-14T22:13:20.000000Z"
    assert (await state_of(database)).charges == 1
    assert await open_letters(database) == []
    assert await letters_of(database) == []
    assert await redrive(database, read(stored)) == [Fate.GONE]
    assert (await state_of(database)).charges == 1


async def test_a_mended_value_takes_the_place_of_its_own(database: Database) -> None:
    await activate(database)
    [stored] = await keep(database, dead(1, b'{"broken'))

    assert await redrive(database, read(stored)) == [Fate.STILL_BAD]
    assert await redrive(database, read(stored, value_of(usage={"total_calls": -1}))) == [Fate.STILL_BAD]
    assert await open_letters(database) == [stored.dead_letter_id]

    assert await redrive(database, read(stored, value_of())) == [Fate.APPLIED]
    assert (await state_of(database)).charges == 1
    async with database.reading() as tx:
        [kept] = await dead_letters.load(tx, [stored.dead_letter_id])
    assert kept.letter == stored.letter
    assert kept.redriven_at is not None
    assert await letters_of(database) == []


async def test_what_is_known_with_the_same_data_has_no_further_effect(database: Database) -> None:
    await activate(database)
    await ingest(database, received(IncomingRecord("in", 0, 0, 0, b"", value_of(), ())))
    [stored] = await keep(database, dead(1, value_of()))

    assert await redrive(database, read(stored)) == [Fate.DUPLICATE]

    assert len(await outcomes_of(database)) == 1
    assert await open_letters(database) == []


@pytest.mark.parametrize("value", [None, value_of("b")])
async def test_a_conflict_stays_a_dead_letter_and_makes_no_second_one(
    database: Database, value: bytes | None
) -> None:
    await activate(database)
    await ingest(database, received(IncomingRecord("in", 0, 0, 0, b"", value_of("a"), ())))
    [stored] = await keep(database, dead(1, b"?" if value else value_of("b")))

    assert await redrive(database, read(stored, value)) == [Fate.STILL_BAD]

    assert await open_letters(database) == [stored.dead_letter_id]
    assert await letters_of(database) == []
    async with database.reading() as tx:
        assert (await dead_letters.extent(tx, Wanted()))[0] == 1
    assert len(await outcomes_of(database)) == 1


async def test_a_type_unknown_to_us_is_passed_over_and_not_offered_again(database: Database) -> None:
    value = b'{"specversion": "1.0", "type": "job.archived", "id": "x", "source": "/p", "data": {}}'
    [stored] = await keep(database, dead(1, value))

    assert await redrive(database, read(stored)) == [Fate.PASSED_OVER]
    assert await open_letters(database) == []


async def test_a_value_that_was_not_kept_is_not_taken_for_a_null_value(database: Database) -> None:
    await activate(database)
    [stored] = await keep(database, dead(1, None, reason=DeadLetterReason.TOO_LARGE))

    assert await redrive(database, read(stored)) == [Fate.STILL_BAD]
    assert await open_letters(database) == [stored.dead_letter_id]
    assert await redrive(database, read(stored, value_of())) == [Fate.APPLIED]


async def test_letters_of_one_batch_are_taken_in_their_order(database: Database) -> None:
    await activate(database, credits_=2)
    stored = await keep(
        database,
        dead(1, value_of("a", id_="1")),
        dead(2, b"?"),
        dead(3, value_of("b", id_="1")),
        dead(4, value_of("a", id_="1")),
        dead(5, value_of("b", id_="2")),
        dead(6, value_of("c", id_="3")),
    )
    assert await redrive(database, *map(read, stored)) == [
        Fate.APPLIED,
        Fate.STILL_BAD,
        Fate.STILL_BAD,
        Fate.DUPLICATE,
        Fate.APPLIED,
        Fate.APPLIED,
    ]
    assert [(one["data"]["job_id"], one["type"]) for one in await outcomes_of(database)] == [
        ("a", "credits.deducted"),
        ("b", "credits.deducted"),
        ("c", "credits.deduction_failed"),
    ]
    assert await open_letters(database) == [stored[1].dead_letter_id, stored[2].dead_letter_id]


async def test_of_two_operators_with_values_of_their_own_one_comes_through(database: Database) -> None:
    await activate(database)
    [stored] = await keep(database, dead(1, b"?"))

    fates = await asyncio.gather(
        *(redrive(database, read(stored, value_of(f"j{n}", id_=f"e{n}"))) for n in range(4))
    )

    assert Counter(itertools.chain(*fates)) == {Fate.APPLIED: 1, Fate.GONE: 3}
    assert (await state_of(database)).charges == 1
    assert len(await outcomes_of(database)) == 1


async def test_two_operators_who_send_all_through_share_them(database: Database) -> None:
    await activate(database, credits_=100)
    stored = await keep(database, *(dead(n, value_of(f"j{n}", id_=f"e{n}")) for n in range(40)))
    orders = [stored, stored[::-1], stored[10:], stored[:30]]

    fates = await asyncio.gather(*(redrive(database, *map(read, order)) for order in orders))

    assert Counter(itertools.chain(*fates))[Fate.APPLIED] == 40
    assert (await state_of(database)).balance == 60
    assert await books_balance(database)


@pytest.mark.parametrize("dialect", ["postgresql"])
@pytest.mark.parametrize("theirs", ["same", "other"])
async def test_where_the_same_event_comes_from_its_topic_meanwhile_nothing_is_wrong(
    database: Database, theirs: str
) -> None:
    await activate(database)
    [stored, other] = await keep(database, dead(1, value_of("a", id_="1")), dead(2, value_of("b", id_="2")))
    overtaken = [
        received(IncomingRecord("in", 0, 9, 0, b"", value_of("a" if theirs == "same" else "x", id_="1"), ()))
    ]

    async def clock(_tx: AsyncConnection) -> datetime:
        # Between the look at what is known and the use of it.
        while overtaken:
            await ingest(database, overtaken.pop())
        return NOW

    redriver = Redriver(database=database, policy=POLICY, clock=clock)
    fates = [fated.fate for fated in await redriver.redrive([read(stored), read(other)])]

    assert fates == [Fate.DUPLICATE if theirs == "same" else Fate.STILL_BAD, Fate.APPLIED]
    assert await letters_of(database) == []
    assert (await state_of(database)).charges == 2
    assert len(await open_letters(database)) == (0 if theirs == "same" else 1)


async def test_one_that_the_database_refuses_stays_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refusing(tx: AsyncConnection, events: Sequence[Received], *rest: Any, **more: Any) -> Applied:
        if any(one.event.subject == "guilty" for one in events):
            raise DataRefused("out of range")
        return await apply_batch(tx, events, *rest, **more)

    monkeypatch.setattr(redriving, "apply_batch", refusing)
    await activate(database)
    names = ["a", "b", "guilty", "c", "d"]
    stored = await keep(database, *(dead(n, value_of(name, id_=name)) for n, name in enumerate(names)))

    redriver = Redriver(database=database, policy=POLICY)
    fates = await redriver.redrive([read(one) for one in stored])

    assert [fated.fate for fated in fates] == [Fate.APPLIED] * 2 + [Fate.STILL_BAD] + [Fate.APPLIED] * 2
    assert fates[2].why is not None
    assert (fates[2].why.reason, fates[2].why.error) == (DeadLetterReason.UNPROCESSABLE, "out of range")
    assert await open_letters(database) == [stored[2].dead_letter_id]
    assert await letters_of(database) == []


async def test_nothing_to_send_is_nothing(database: Database) -> None:
    assert await redrive(database) == []


async def test_an_event_that_must_wait_is_kept_as_one_of_ours(database: Database) -> None:
    [stored] = await keep(database, dead(1, value_of(org="later")))

    assert await redrive(database, read(stored)) == [Fate.APPLIED]

    async with database.reading() as tx:
        [row] = await inbox.waiting_of(tx, "later")
    assert (row.origin, row.subject) == (Origin.REDRIVE, "j")


async def test_batches_hold_as_much_as_is_allowed_and_each_letter_once(database: Database) -> None:
    stored = await keep(
        database, *(dead(n, bytes([n])) for n in range(7)), dead(7, b"x" * 1000), dead(8, b"")
    )
    numbers = [one.dead_letter_id for one in stored]

    by_count = [len(some) async for some in batches(database, OPEN, size=4)]
    found = [some async for some in batches(database, OPEN, size_bytes=30)]

    assert by_count == [4, 4, 1]
    assert [one.dead_letter_id for some in found for one in some] == numbers
    # Key, value and the headers' version byte: 6 bytes each, the large one alone in its batch.
    assert [len(some) for some in found] == [5, 2, 1, 1]
    assert [some async for some in batches(database, Wanted(topic="none"))] == []


async def test_letters_of_one_batch_of_ingest_come_in_the_order_of_their_records(database: Database) -> None:
    refused = [RejectedRecord(Rejected(DeadLetterReason.INVALID_JSON, "?"), record_at(n)) for n in range(30)]
    await ingest(database, rejected=refused)

    [letters] = [some async for some in batches(database, OPEN)]

    assert [one.letter.offset for one in letters] == list(range(30))
    assert [one.dead_letter_id for one in letters] != sorted(one.dead_letter_id for one in letters)


def record_at(offset: int) -> IncomingRecord:
    return IncomingRecord("in", 0, offset, 0, b"acme", b"?", ())


async def test_what_is_foreseen_is_what_comes(database: Database) -> None:
    await activate(database)
    await ingest(database, job("known"))
    stored = await keep(
        database, dead(1, value_of("a", id_="1")), dead(2, b"?"), dead(3, value_of("b", id_="1"))
    )
    candidates = [read(one) for one in stored]
    async with database.reading() as tx:
        foreseen = foresee(candidates, await known_to(tx, candidates))

    assert await Redriver(database=database, policy=POLICY).redrive(candidates) == foreseen


# -- against a model --------------------------------------------------------------------------------------

_run = itertools.count()

VALUES = st.one_of(
    st.just(b"?"),
    st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")),
)
"""What a letter holds: rubbish, or an event by its id and the job it names."""


@dataclass
class Model:
    """What should stand: who was taken, what each identity stands for, which jobs were charged."""

    taken: set[int] = field(default_factory=set)
    identities: dict[str, str] = field(default_factory=dict)

    def send(self, letter: int, value: bytes | tuple[str, str]) -> Fate:
        if letter in self.taken:
            return Fate.GONE
        if isinstance(value, bytes):
            return Fate.STILL_BAD
        id_, job_id = value
        is_new = id_ not in self.identities
        if self.identities.setdefault(id_, job_id) != job_id:
            return Fate.STILL_BAD
        self.taken.add(letter)
        return Fate.APPLIED if is_new else Fate.DUPLICATE


@pytest.mark.parametrize("dialect", ["sqlite"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    letters=st.lists(VALUES, min_size=1, max_size=5),
    rounds=st.lists(
        st.lists(
            st.tuples(st.integers(0, 4), st.none() | VALUES), min_size=1, max_size=6, unique_by=lambda o: o[0]
        ),
        max_size=6,
    ),
)
async def test_whatever_is_sent_however_often_the_books_are_the_models(
    database: Database,
    letters: list[bytes | tuple[str, str]],
    rounds: list[list[tuple[int, bytes | tuple[str, str] | None]]],
) -> None:
    number = next(_run)
    org = f"org-{number}"
    await activate(database, org=org, credits_=10)

    def spelled(value: bytes | tuple[str, str]) -> bytes:
        return value if isinstance(value, bytes) else value_of(value[1], id_=f"{org}-{value[0]}", org=org)

    stored = await keep(
        database, *(dead(1000 * number + n, spelled(value)) for n, value in enumerate(letters))
    )
    model = Model()
    for sent in rounds:
        chosen = [
            (place, letters[place] if mended is None else mended)
            for place, mended in sent
            if place < len(letters)
        ]
        candidates = [read(stored[place], spelled(value)) for place, value in chosen]
        assert await redrive(database, *candidates) == [model.send(*one) for one in chosen]

    state = await state_of(database, org)
    assert state.charges == len(set(model.identities.values()))
    async with database.reading() as tx:
        still_open = {one.dead_letter_id for one in await dead_letters.page(tx, OPEN, limit=10_000)}
        entries = await ledger.entries_of(tx, org)
    assert [one.dead_letter_id in still_open for one in stored] == [
        place not in model.taken for place in range(len(stored))
    ]
    assert {entry.job_id for entry in entries} - {None} == set(model.identities.values())
    assert await letters_of(database) == []
