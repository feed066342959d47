"""What was judged in one go is kept whole, in one statement where the database takes one."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import judgements, ledger, organizations, outbox
from storage.database import Database
from storage.organizations import OrgState
from tests.integration.storage.rows import NOON, booked, entry, outcome, put_org

Statements = Callable[[AsyncConnection], AbstractContextManager[list[str]]]


@pytest.mark.parametrize("count", [1, 3, 60])
async def test_entries_outcomes_and_balances_are_kept_together(
    tx: AsyncConnection, statements: Statements, dialect: str, count: int
) -> None:
    states = [await put_org(tx, f"org-{number:02}", balance=count, entries=1) for number in range(count)]
    entries, after = [], []
    for state in states:
        entries.append(entry(state, -1, job_id=f"of {state.org_id}"))
        after.append(booked(state, entries[-1]))
    outcomes = [outcome(state.org_id) for state in states]

    with statements(tx) as sent:
        await judgements.write(tx, entries=entries, outcomes=outcomes, states=after)

    if dialect == "postgresql":
        assert len(sent) == 1
    assert await ledger.entries_of_all(tx, limit=100) == entries
    assert await organizations.page(tx) == after
    pending = await outbox.pending(tx, range(outbox.SHARDS))
    assert [(record.org_id, record.value) for record in pending] == [
        (one.org_id, one.value) for one in outcomes
    ]


async def test_each_may_be_missing(tx: AsyncConnection, statements: Statements) -> None:
    state = await put_org(tx, "acme", balance=5)
    with statements(tx) as sent:
        await judgements.write(tx, entries=[], outcomes=[], states=[])
    assert sent == []

    await judgements.write(tx, entries=[], outcomes=[outcome()], states=[])
    assert await outbox.count_pending(tx) == 1
    await judgements.write(tx, entries=[], outcomes=[], states=[state._replace(balance=4)])
    assert (await organizations.read(tx, ["acme"]))["acme"].balance == 4
    charge = entry(OrgState("acme", balance=4), -1, job_id="a")
    await judgements.write(tx, entries=[charge], outcomes=[], states=[])
    assert await ledger.entries_of(tx, "acme") == [charge]
    assert await outbox.count_pending(tx) == 1


async def test_a_charge_that_is_booked_already_leaves_nothing_of_the_rest(database: Database) -> None:
    state = OrgState("acme", balance=5)
    charge = entry(state, -1, job_id="a", created_at=NOON)
    async with database.transaction() as tx:
        await put_org(tx, "acme", balance=5)
        await judgements.write(tx, entries=[charge], outcomes=[], states=[])
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await judgements.write(
                tx, entries=[charge], outcomes=[outcome()], states=[state._replace(balance=3)]
            )
    async with database.reading() as tx:
        assert await outbox.count_pending(tx) == 0
        assert (await organizations.read(tx, ["acme"]))["acme"].balance == 5
