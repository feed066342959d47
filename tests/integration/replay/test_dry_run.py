"""A dry run says what the replay then comes to, and leaves nothing behind."""

import asyncio
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest.client import make_consumer
from consumer.ingest.drain import drain_organization
from consumer.replay.dry_run import DryRun, Forecast, holds_anything, scratch_database
from consumer.replay.opening import spans_of
from consumer.replay.reading import Reader
from consumer.replay.running import Decoder
from consumer.replay.selection import Selection
from storage import tables
from storage.database import Database
from tests.integration.consumer.ingest.events import NOW, POLICY, activate, state_of
from tests.integration.replay.conftest import Replays, founded, job, value
from tests.replays.history import dump, mixed

FIGURES = ("new", "duplicate", "conflict", "invalid", "unknown")


async def forecast(
    replays: Replays, selection: Selection | None = None, *, nothing_there: bool = False
) -> Forecast:
    chosen = selection or replays.selection()
    consumer = make_consumer([], replays.connection, group_id=None)
    await consumer.start()
    url = replays.database.url.render_as_string(hide_password=False)
    database = await Database.connect(url, read_only=True)
    try:
        spans = await spans_of(consumer, replays.connection, chosen)
        async with scratch_database() as scratch:
            trial = DryRun(
                Reader(consumer, spans),
                None if nothing_there else database,
                scratch,
                POLICY,
                Decoder(chosen, 100_000),
                initial_credits=lambda data: data.initial_credits or 0,
                rate=None,
                on_progress=lambda _passed, _tally: None,
            )
            return await trial.run(asyncio.Event())
    finally:
        await database.close()
        await consumer.stop()


async def charges(database: Database) -> Mapping[str, int]:
    entries = tables.ledger_entries.c
    async with database.reading() as tx:
        found: dict[str, int] = {}
        for org_id, credits_ in await tx.execute(
            select(entries.org_id, entries.credits).where(entries.kind == "charge")
        ):
            found[org_id] = found.get(org_id, 0) - credits_
    return {org_id: credits_ for org_id, credits_ in found.items() if credits_}


def figures(tally: Any) -> dict[str, int]:
    document = tally.document()
    return {name: document[name] for name in FIGURES}


async def test_it_says_what_the_replay_then_comes_to(replays: Replays) -> None:
    """Over a mixed history, half of which the database knows already."""
    for org in (f"org-{number}" for number in range(2, 12)):
        await activate(replays.database, org=org, credits_=1_000)
    await activate(replays.database, org="org-0", credits_=10)
    events = [one for _, one in mixed(600, seed=3)]
    await replays.produce(events[:300])
    await replays.run()
    await replays.produce(events[300:])
    booked = await charges(replays.database)

    before = await dump(replays.database)
    said = await forecast(replays)
    assert await dump(replays.database) == before

    ran = await replays.run(selection=replays.selection())
    # What was a dead letter before counts as invalid, whatever it became one for.
    assert figures(said.tally) == figures(ran.tally)
    after = await charges(replays.database)
    assert said.charges == {
        org: credits_ - booked.get(org, 0)
        for org, credits_ in after.items()
        if credits_ != booked.get(org, 0)
    }
    assert list(said.charges.values()) == sorted(said.charges.values(), reverse=True)


async def test_organizations_that_are_created_in_it_are_taken_to_be_provisioned(replays: Replays) -> None:
    await replays.produce([job(n, org="young") for n in range(5)])
    await replays.produce([founded("young", initial_credits=3), job(9, org="young")], partition=1)
    await replays.produce(
        [job(1, org="unheard-of"), value("user.joined", {"org_id": "x", "user_id": "u"}, "u")]
    )
    said = await forecast(replays)
    assert said.charges == {"young": 3}
    assert said.waiting == {"unheard-of": 1, "x": 1}
    assert said.tally.new.total() == 9

    # What is said comes to pass: the organization is provisioned, and its jobs are judged.
    await replays.run()
    await activate(replays.database, org="young", credits_=3)

    async def drain(tx: AsyncConnection) -> object:
        return await drain_organization(tx, "young", policy=POLICY, now=NOW)

    while await replays.database.run(drain):
        pass
    assert await charges(replays.database) == said.charges


async def test_jobs_charged_before_are_not_charged_again(replays: Replays) -> None:
    await activate(replays.database, credits_=10)
    await replays.produce([job(1)])
    await replays.run()
    await replays.produce([job(1, id_="another"), job(2), job(2, id_="yet-another")])
    said = await forecast(replays)
    assert said.tally.new.total() == 3
    assert said.charges == {"acme": 1}
    await replays.run()
    assert (await state_of(replays.database)).charges == 2


async def test_into_nothing_everything_is_new(replays: Replays) -> None:
    await replays.produce([founded("acme", initial_credits=1), job(1), job(2), job(1)])
    said = await forecast(replays, nothing_there=True)
    assert figures(said.tally) == {"new": 3, "duplicate": 1, "conflict": 0, "invalid": 0, "unknown": 0}
    assert said.charges == {"acme": 1}


async def test_a_database_without_tables_holds_nothing(empty_database_url: str) -> None:
    database = await Database.connect(empty_database_url)
    assert not await holds_anything(database)
    await database.close()
