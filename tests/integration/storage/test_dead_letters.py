import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.dead_letters import DeadLetterReason, encode_headers
from storage import dead_letters, outbox
from storage.database import Database
from storage.dead_letters import Counted, Wanted
from tests.integration.storage.rows import NOON, after, letter

LETTERS = [
    letter(1),
    letter(2, topic="org.created", key=b"other", dead_lettered_at=after(10)),
    letter(3, reason=DeadLetterReason.ID_CONFLICT, value=b"", key=None, event_id="e-1"),
    letter(4, value=None, dead_lettered_at=after(20)),
]


async def keep(tx: AsyncConnection) -> list[int]:
    """Keep the letters in their order and return their numbers."""
    for one in LETTERS:
        await outbox.append_dead_letters(tx, [one])
    return [one.dead_letter_id for one in await dead_letters.page(tx, Wanted())]


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        (Wanted(), [0, 1, 2, 3]),
        (Wanted(topic="org.created"), [1]),
        (Wanted(reason=DeadLetterReason.ID_CONFLICT), [2]),
        (Wanted(reason=DeadLetterReason.ID_CONFLICT, topic="org.created"), []),
        (Wanted(key=b"acme"), [0, 3]),
        (Wanted(since=after(10)), [1, 3]),
        (Wanted(until=after(10)), [0, 2]),
        (Wanted(since=after(10), until=after(20)), [1]),
        (Wanted(redriven=False), [1, 2, 3]),
        (Wanted(redriven=True), [0]),
    ],
    ids=repr,
)
async def test_those_that_meet_every_condition(
    tx: AsyncConnection, wanted: Wanted, places: list[int]
) -> None:
    numbers = await keep(tx)
    await dead_letters.mark_redriven(tx, numbers[:1], after(5))

    found = [one.dead_letter_id for one in await dead_letters.page(tx, wanted)]

    assert found == [numbers[place] for place in places]
    assert await dead_letters.extent(tx, wanted) == (len(places), max(found, default=0))
    assert sum(one.count for one in await dead_letters.counts(tx, wanted)) == len(places)


async def test_pages_follow_one_another_and_end_where_asked(tx: AsyncConnection) -> None:
    numbers = await keep(tx)
    first = await dead_letters.page(tx, Wanted(), limit=2)
    second = await dead_letters.page(tx, Wanted(last=numbers[2]), after=first[-1].dead_letter_id, limit=2)
    assert [one.dead_letter_id for one in [*first, *second]] == numbers[:3]


async def test_a_listed_one_says_what_it_is_and_how_large(tx: AsyncConnection) -> None:
    numbers = await keep(tx)
    await dead_letters.mark_redriven(tx, [numbers[2]], after(5))
    listed = await dead_letters.page(tx, Wanted())
    assert [one.value_size for one in listed] == [len(LETTERS[0].value or b""), 9, 0, None]
    assert [one.redriven_at for one in listed] == [None, None, after(5), None]
    for one, kept in zip(listed, LETTERS, strict=True):
        assert (one.reason, one.error, one.topic, one.partition, one.offset) == (
            kept.reason,
            kept.error,
            kept.topic,
            kept.partition,
            kept.offset,
        )
        assert (one.event_id, one.dead_lettered_at) == (kept.event_id, kept.dead_lettered_at)


async def test_they_are_loaded_whole_in_their_order(tx: AsyncConnection) -> None:
    numbers = await keep(tx)
    loaded = await dead_letters.load(tx, [numbers[3], numbers[0], 10**6])
    assert [(one.dead_letter_id, one.letter) for one in loaded] == [
        (numbers[0], LETTERS[0]),
        (numbers[3], LETTERS[3]),
    ]
    assert await dead_letters.load(tx, []) == []
    assert await dead_letters.known(tx, [LETTERS[0].digest, uuid4()]) == {LETTERS[0].digest}
    assert await dead_letters.known(tx, []) == set()


async def test_they_are_counted_by_reason_and_topic_the_most_first(tx: AsyncConnection) -> None:
    await keep(tx)
    assert await dead_letters.counts(tx, Wanted()) == [
        Counted(DeadLetterReason.INVALID_JSON, "job.completed", 2, NOON),
        Counted(DeadLetterReason.ID_CONFLICT, "job.completed", 1, NOON),
        Counted(DeadLetterReason.INVALID_JSON, "org.created", 1, after(10)),
    ]


async def test_one_is_marked_once(tx: AsyncConnection) -> None:
    numbers = await keep(tx)
    assert await dead_letters.hold(tx, [*numbers[:2], 10**6]) == set(numbers[:2])
    assert await dead_letters.mark_redriven(tx, numbers[:2], after(5)) == set(numbers[:2])
    assert await dead_letters.hold(tx, numbers[1:3]) == {numbers[2]}
    assert await dead_letters.mark_redriven(tx, [*numbers[1:3], 10**6], after(6)) == {numbers[2]}
    assert await dead_letters.mark_redriven(tx, [], after(6)) == set()
    redriven = await dead_letters.page(tx, Wanted(redriven=True))
    assert [one.redriven_at for one in redriven] == [after(5), after(5), after(6)]


async def test_of_several_at_once_one_gets_each(database: Database) -> None:
    async with database.transaction() as tx:
        numbers = await keep(tx)

    async def take(wanted: list[int]) -> set[int]:
        async def work(tx: AsyncConnection) -> set[int]:
            held = await dead_letters.hold(tx, wanted)
            assert await dead_letters.mark_redriven(tx, sorted(held), NOON) == held
            return held

        return await database.run(work)

    taken = await asyncio.gather(*map(take, [numbers, numbers[::-1], numbers[1:], numbers[:3]]))

    assert sorted(number for some in taken for number in some) == numbers


async def test_a_mark_goes_with_its_transaction(database: Database) -> None:
    async with database.transaction() as tx:
        numbers = await keep(tx)

    async def broken_off(tx: AsyncConnection) -> None:
        assert await dead_letters.mark_redriven(tx, numbers, NOON) == set(numbers)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await database.run(broken_off)
    async with database.transaction() as tx:
        assert await dead_letters.hold(tx, numbers) == set(numbers)


async def test_their_bytes_are_counted_before_they_are_read(tx: AsyncConnection) -> None:
    numbers = await keep(tx)
    found = await dead_letters.sizes(tx, Wanted(topic="job.completed"), after=0, limit=2)
    headers = len(encode_headers(LETTERS[0].headers))
    assert found == [(numbers[0], 9 + 4 + headers), (numbers[2], headers)]
    rest = await dead_letters.sizes(tx, Wanted(topic="job.completed"), after=numbers[2], limit=2)
    assert rest == [(numbers[3], 4 + headers)]


@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_pages_and_marks_go_by_number(
    database: Database,
    explain: Callable[[AsyncConnection, Callable[[], Awaitable[object]]], Awaitable[str]],
) -> None:
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [letter(number) for number in range(3_000)])
    async with database.transaction() as tx:
        await tx.execute(text("ANALYZE dead_letters"))
        _, last = await dead_letters.extent(tx, Wanted())
        wanted, middle = Wanted(redriven=False, last=last), last // 2
        plans = [
            await explain(tx, lambda: dead_letters.page(tx, wanted, after=middle, limit=50)),
            await explain(tx, lambda: dead_letters.sizes(tx, wanted, after=middle, limit=50)),
            await explain(tx, lambda: dead_letters.hold(tx, [last, last - 1])),
            await explain(tx, lambda: dead_letters.mark_redriven(tx, [last, last - 1], NOON)),
        ]
    assert not [plan for plan in plans if "Seq Scan" in plan]
