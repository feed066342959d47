"""A replay brings a topic's events into the books once, whatever stood there before."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from consumer.replay.running import BreakerTripped, ReplayLimits
from consumer.replay.selection import Bound
from schemas.outcomes import Origin
from storage import outbox, tables
from storage import replays as replays_table
from storage.database import Database
from tests.integration.consumer.ingest.events import activate, letters_of, outcomes_of, state_of
from tests.integration.replay.conftest import FAR, Replays, founded, job

SLOWLY = ReplayLimits(max_event_bytes=100_000, records_per_transaction=5)


def moment(milliseconds: int) -> Bound:
    return Bound(datetime.fromtimestamp(FAR / 1000, UTC) + timedelta(milliseconds=milliseconds))


async def count(database: Database, table: str) -> int:
    async with database.reading() as tx:
        return await tx.scalar(select(func.count()).select_from(tables.metadata.tables[table])) or 0


async def test_what_is_new_takes_effect_and_what_is_known_has_none(replays: Replays) -> None:
    await activate(replays.database)
    await replays.produce([job(n) for n in range(6)])
    await replays.produce([job(n) for n in range(4, 9)], partition=1)

    first = await replays.run()
    assert first.finished
    assert (first.tally.new, first.tally.duplicate) == ({"job.completed": 9}, {"job.completed": 2})
    outcomes = await outcomes_of(replays.database)
    assert {one["origin"] for one in outcomes} == {"replay"}
    assert (await state_of(replays.database)).charges == 9

    again = await replays.run()
    assert again.opened.begun_at is None
    assert (again.tally.new, again.tally.duplicate) == ({}, {"job.completed": 11})
    assert len(await outcomes_of(replays.database)) == len(outcomes)


async def test_conflicts_and_bad_records_become_dead_letters_once(replays: Replays) -> None:
    await activate(replays.database)
    other = job(1, status="failed")
    await replays.produce([job(1), other, b"nonsense", None, b'{"specversion": "1.0", "type": "of.others"}'])

    first = await replays.run()
    assert first.tally.document() | {"types": None, "outcomes": None} == {
        "new": 1,
        "duplicate": 0,
        "conflict": 1,
        "invalid": 1,
        "unknown": 1,
        "null": 1,
        "left_out": 0,
        "types": None,
        "outcomes": None,
    }
    assert len(await letters_of(replays.database)) == 2

    again = await replays.run()
    assert (again.tally.duplicate.total(), again.tally.conflict.total(), again.tally.invalid.total()) == (
        1,
        0,
        2,
    )
    assert len(await letters_of(replays.database)) == 2


@pytest.mark.parametrize(
    ("begin", "end", "jobs"),
    [
        (moment(10), moment(40), {1, 2, 3}),
        (moment(11), Bound(), {2, 3, 4, 5}),
        (Bound(), moment(31), {0, 1, 2, 3}),
        (moment(5_000_000), Bound(), set()),
    ],
)
async def test_record_times_decide_although_they_do_not_ascend(
    replays: Replays, begin: Bound, end: Bound, jobs: set[int]
) -> None:
    await activate(replays.database)
    await replays.produce([job(n) for n in (2, 0, 4, 1, 5, 3)], times=[20, 0, 40, 10, 50, 30])
    ran = await replays.run(replays.selection(begin=begin, end=end))
    outcomes = await outcomes_of(replays.database)
    assert {one["data"]["job_id"] for one in outcomes} == {f"job-{n}" for n in jobs}
    assert ran.finished


async def test_with_offsets_only_the_partitions_they_name_are_read(replays: Replays) -> None:
    await activate(replays.database, credits_=100)
    for partition in range(3):
        await replays.produce([job(10 * partition + n) for n in range(5)], partition=partition)
    begin = Bound(offsets={(replays.topic, 0): 3, (replays.topic, 1): 1})
    end = Bound(offsets={(replays.topic, 1): 3})
    await replays.run(replays.selection(begin=begin, end=end))
    outcomes = await outcomes_of(replays.database)
    assert sorted(one["data"]["job_id"] for one in outcomes) == ["job-11", "job-12", "job-3", "job-4"]


async def test_only_the_organizations_or_ids_asked_for(replays: Replays) -> None:
    for org in ("acme", "other"):
        await activate(replays.database, org=org)
    await replays.produce([job(n, org=org) for org in ("acme", "other") for n in range(3)] + [b"nonsense"])
    ran = await replays.run(replays.selection(orgs=frozenset({"other"})))
    assert (ran.tally.new.total(), ran.tally.left_out) == (3, 4)
    assert await letters_of(replays.database) == []
    ran = await replays.run(replays.selection(event_ids=frozenset({"e-acme-1"})))
    assert (ran.tally.new.total(), ran.tally.left_out) == (1, 6)
    assert (await state_of(replays.database)).charges == 1


async def test_what_needs_litellm_waits_for_running_instances(replays: Replays) -> None:
    await replays.produce([founded("acme", initial_credits=3), job(1)])
    ran = await replays.run()
    assert ran.tally.new == {"org.created": 1, "job.completed": 1}
    assert ran.tally.outcomes == {}
    async with replays.database.reading() as tx:
        rows = (await tx.execute(select(tables.inbox.c.origin, tables.inbox.c.reason))).all()
    assert sorted(rows) == [(Origin.REPLAY, "organization"), (Origin.REPLAY, "turn")]


@pytest.mark.parametrize("stops", [[7], [1, 1, 1, 1], [13, 4]])
async def test_stopped_it_goes_on_where_it_was(replays: Replays, stops: Iterable[int]) -> None:
    await activate(replays.database, credits_=100)
    for partition in range(3):
        await replays.produce([job(100 * partition + n) for n in range(10)], partition=partition)
    for records in stops:
        ran = await replays.run(limits=SLOWLY, stop_after=records)
        assert not ran.finished
    passed = ran.tally.new.total()
    assert 0 < passed < 30

    last = await replays.run()
    assert last.opened.begun_at is not None
    assert last.opened.passed == passed
    assert (last.tally.new.total(), last.tally.duplicate.total()) == (30, 0)
    assert last.finished
    assert await count(replays.database, "replays") == await count(replays.database, "replay_partitions") == 0


async def test_its_end_is_fixed_when_it_begins(replays: Replays) -> None:
    await activate(replays.database, credits_=100)
    await replays.produce([job(n) for n in range(10)])
    await replays.run(limits=SLOWLY, stop_after=1)
    await replays.produce([job(n) for n in range(10, 20)])
    assert (await replays.run()).tally.new.total() == 10
    assert (await replays.run()).tally.document()["duplicate"] == 10


async def test_restart_begins_anew(replays: Replays) -> None:
    await activate(replays.database, credits_=100)
    await replays.produce([job(n) for n in range(10)])
    await replays.run(limits=SLOWLY, stop_after=1)
    again = await replays.run(restart=True)
    assert (again.tally.new.total(), again.tally.duplicate.total()) == (5, 5)


async def test_of_two_runs_of_one_replay_the_later_one_goes_on(replays: Replays) -> None:
    await activate(replays.database, credits_=100)
    await replays.produce([job(n) for n in range(10)])
    first = await replays.run(limits=SLOWLY, stop_after=1)
    async with replays.database.transaction() as tx:
        with pytest.raises(replays_table.TakenOver):
            await replays_table.save(
                tx, first.opened.run.replay_id, first.opened.run.replay_id, {}, tally="{}", now=moment(0).time
            )
    async with replays.database.transaction() as tx:
        await replays_table.forget(tx, first.opened.run.replay_id, first.opened.run.replay_id)
    assert (await replays.run()).opened.begun_at is not None


async def test_a_topic_full_of_bad_records_ends_it_before_more_is_written(replays: Replays) -> None:
    await activate(replays.database)
    await replays.produce([job(1), *(b"bad %d" % n for n in range(50)), job(2)])
    limits = ReplayLimits(max_event_bytes=100_000, breaker_bad=20)
    with pytest.raises(BreakerTripped, match="20 of the last 200"):
        await replays.run(limits=limits)
    assert len(await letters_of(replays.database)) == 20
    assert (await state_of(replays.database)).charges == 1

    through = await replays.run(limits=ReplayLimits(max_event_bytes=100_000, breaker_bad=None))
    assert (through.tally.invalid.total(), through.tally.new.total()) == (50, 2)
    # Known to be bad, they trip nothing.
    assert (await replays.run(limits=limits)).tally.invalid.total() == 50


async def test_nothing_on_the_topic_is_a_replay_too(replays: Replays) -> None:
    ran = await replays.run()
    assert ran.finished
    assert ran.opened.total == 0
    async with replays.database.reading() as tx:
        assert await outbox.count_pending(tx) == 0
