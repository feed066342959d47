"""A batch that the database refuses for one event, and what else may stand in a batch's transaction."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest import applying
from consumer.ingest.applying import Applier
from consumer.ingest.batch import Applied, Received, apply_batch
from schemas.outcomes import Origin
from storage import organizations
from storage.database import Database, DataRefused
from tests.integration.consumer.ingest.events import POLICY, activate, job, outcomes_of, state_of


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database refuses whatever is about the job "guilty"."""

    async def refusing(tx: AsyncConnection, received: Sequence[Received], *rest: Any, **more: Any) -> Applied:
        if any(one.event.subject == "guilty" for one in received):
            raise DataRefused("out of range")
        return await apply_batch(tx, received, *rest, **more)

    monkeypatch.setattr(applying, "apply_batch", refusing)


@pytest.mark.usefixtures("picky")
async def test_guarantee_8_one_event_the_database_refuses_poisons_no_batch(database: Database) -> None:
    await activate(database)
    guilty: list[str] = []
    applier = Applier(
        database=database,
        policy=POLICY,
        origin=Origin.LIVE,
        on_guilty=lambda one: guilty.append(one.event.subject),
    )
    applied = await applier.apply([job("a"), job("guilty"), job("b"), job("c")], [])
    assert applied.dead_letters == {"unprocessable": 1}
    assert applied.outcomes == {"credits.deducted": 3}
    assert [one["data"]["job_id"] for one in await outcomes_of(database)] == ["a", "b", "c"]
    assert (await state_of(database)).charges == 3
    assert guilty == ["guilty"]


@pytest.mark.usefixtures("picky")
@pytest.mark.parametrize("bad_at", [0, 1, 3])
async def test_what_belongs_to_a_batch_is_done_once_in_the_transaction_that_ends_it(
    database: Database, bad_at: int
) -> None:
    await activate(database)
    charges: list[int] = []

    async def within(tx: AsyncConnection, applied: Applied) -> None:
        charges.append((await organizations.read(tx, ["acme"]))["acme"].charges)
        assert applied.outcomes == {"credits.deducted": 3}
        assert applied.dead_letters == {"unprocessable": 1}

    batch = [job(name) for name in "abc"]
    batch.insert(bad_at, job("guilty"))
    applier = Applier(database=database, policy=POLICY, origin=Origin.REPLAY)
    await applier.apply(batch, [], within)
    assert charges == [3]


async def test_what_fails_beside_a_batch_takes_the_batch_with_it(database: Database) -> None:
    await activate(database)

    async def within(_tx: AsyncConnection, applied: Applied) -> None:
        assert applied.outcomes == {"credits.deducted": 1}
        raise LookupError

    applier = Applier(database=database, policy=POLICY, origin=Origin.REPLAY)
    with pytest.raises(LookupError):
        await applier.apply([job("a")], [], within)
    assert (await state_of(database)).charges == 0


async def test_without_a_record_only_what_belongs_to_the_batch_is_done(database: Database) -> None:
    done: list[Applied] = []

    async def within(_tx: AsyncConnection, applied: Applied) -> None:
        done.append(applied)

    applier = Applier(database=database, policy=POLICY, origin=Origin.REPLAY)
    assert await applier.apply([], []) == Applied()
    await applier.apply([], [], within)
    assert done == [Applied()]
