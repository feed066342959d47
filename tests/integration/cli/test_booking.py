"""Commands given at the same moment, on each database."""

import asyncio
from dataclasses import replace
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.cli.command import CommandFailed
from consumer.cli.credits import book
from consumer.decisions.credits import CreditCommand
from storage import ledger, organizations, outbox
from storage.database import Database
from storage.ledger import EntryKind
from tests.integration.cli.conftest import PROFILE

COMMAND = CreditCommand(kind=EntryKind.GRANT, org_id="a", credits=7, reason="x", command_id="once")


async def activate(database: Database, *org_ids: str) -> None:
    async def work(tx: AsyncConnection) -> None:
        for org_id, state in (await organizations.lock(tx, org_ids)).items():
            await organizations.activate(tx, state, replace(PROFILE, org_id=org_id, team_id=org_id))

    await database.run(work)


async def balances(database: Database, *org_ids: str) -> list[int]:
    async with database.reading() as tx:
        states = await organizations.read(tx, org_ids)
    return [states[org_id].balance for org_id in org_ids]


async def test_one_command_given_many_times_at_once_is_booked_once(database: Database) -> None:
    await activate(database, "a")

    booked = await asyncio.gather(*(book(database, COMMAND, our_source="/q") for _ in range(6)))

    assert sum(new for _, new in booked) == 1
    assert len({entry for entry, _ in booked}) == 1
    assert await balances(database, "a") == [7]


async def test_one_id_for_two_organizations_at_once_serves_one_of_them(database: Database) -> None:
    await activate(database, "a", "b")

    results = await asyncio.gather(
        *(book(database, replace(COMMAND, org_id=org_id), our_source="/q") for org_id in ("a", "b")),
        return_exceptions=True,
    )

    assert sorted(await balances(database, "a", "b")) == [0, 7]
    [refusal] = [result for result in results if isinstance(result, BaseException)]
    assert isinstance(refusal, CommandFailed)
    assert "stands for another command" in str(refusal.message)
    async with database.reading() as tx:
        assert (await ledger.verify(tx)).ok
        assert await outbox.count_pending(tx) == 1


async def test_withdrawals_at_once_never_take_more_than_there_is(database: Database) -> None:
    await activate(database, "a")
    await book(database, COMMAND, our_source="/q")
    withdrawals = [
        replace(COMMAND, kind=EntryKind.ADJUSTMENT, credits=-3, command_id=str(uuid4())) for _ in range(5)
    ]

    results = await asyncio.gather(
        *(book(database, one, our_source="/q") for one in withdrawals), return_exceptions=True
    )

    assert sum(isinstance(result, CommandFailed) for result in results) == 3
    assert await balances(database, "a") == [1]
