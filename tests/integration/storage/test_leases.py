import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import leases
from storage.database import Database, database_now
from storage.leases import LeaseLost
from tests.integration.storage.rows import NOON, after

TTL = timedelta(seconds=60)
MINE, YOURS = uuid4(), uuid4()


async def test_one_holds_it_until_it_runs_out(tx: AsyncConnection) -> None:
    assert await leases.acquire(tx, "org:acme", ttl=TTL, token=MINE, now=NOON)
    assert not await leases.acquire(tx, "org:acme", ttl=TTL, token=YOURS, now=after(59))
    assert await leases.acquire(tx, "org:other", ttl=TTL, token=YOURS, now=NOON)
    assert await leases.acquire(tx, "org:acme", ttl=TTL, token=YOURS, now=after(60))
    assert not await leases.acquire(tx, "org:acme", ttl=TTL, token=MINE, now=after(61))


async def test_taking_ones_own_again_prolongs_it(tx: AsyncConnection) -> None:
    await leases.acquire(tx, "s", ttl=TTL, token=MINE, now=NOON)
    assert await leases.acquire(tx, "s", ttl=TTL, token=MINE, now=after(30))
    await leases.hold(tx, "s", MINE, after(89))


async def test_it_is_renewed_by_its_holder_while_it_lasts(tx: AsyncConnection) -> None:
    await leases.acquire(tx, "s", ttl=TTL, token=MINE, now=NOON)
    assert not await leases.renew(tx, "s", YOURS, TTL, after(1))
    assert await leases.renew(tx, "s", MINE, TTL, after(59))
    await leases.hold(tx, "s", MINE, after(118))
    assert not await leases.renew(tx, "s", MINE, TTL, after(119))
    assert not await leases.renew(tx, "absent", MINE, TTL, NOON)


async def test_a_result_is_written_by_the_holder_alone(tx: AsyncConnection) -> None:
    await leases.acquire(tx, "s", ttl=TTL, token=MINE, now=NOON)
    await leases.hold(tx, "s", MINE, after(59))
    for token, now in ((YOURS, NOON), (MINE, after(60))):
        with pytest.raises(LeaseLost):
            await leases.hold(tx, "s", token, now)
    with pytest.raises(LeaseLost):
        await leases.hold(tx, "absent", MINE, NOON)


async def test_one_given_back_is_free_and_its_holder_lost_it(tx: AsyncConnection) -> None:
    await leases.acquire(tx, "s", ttl=TTL, token=MINE, now=NOON)
    await leases.release(tx, "s", YOURS, after(1))
    assert await leases.held_scopes(tx, ["s", "t"], after(1)) == {"s"}
    await leases.release(tx, "s", MINE, after(2))
    assert await leases.held_scopes(tx, ["s"], after(2)) == set()
    assert await leases.held_scopes(tx, [], after(2)) == set()
    with pytest.raises(LeaseLost):
        await leases.hold(tx, "s", MINE, after(2))
    assert await leases.acquire(tx, "s", ttl=TTL, token=YOURS, now=after(2))


async def test_a_process_gives_back_all_it_holds(tx: AsyncConnection) -> None:
    now = await database_now(tx)
    for scope, token in (("a", MINE), ("b", MINE), ("c", YOURS)):
        await leases.acquire(tx, scope, ttl=TTL, token=token, now=now)
    await leases.release_all(tx, [MINE])
    await leases.release_all(tx, [])
    assert await leases.held_scopes(tx, ["a", "b", "c"], now) == {"c"}


async def test_of_many_that_ask_at_once_one_gets_it(database: Database) -> None:
    tokens = [uuid4() for _ in range(10)]
    got = await asyncio.gather(
        *(
            database.run(lambda tx, token=token: leases.acquire(tx, "s", ttl=TTL, token=token, now=NOON))  # type: ignore[misc]
            for token in tokens
        )
    )
    assert sum(got) == 1


async def test_a_held_lease_is_not_taken_before_the_transaction_ends(database: Database) -> None:
    async with database.transaction() as tx:
        await leases.acquire(tx, "s", ttl=TTL, token=MINE, now=NOON)
    async with database.transaction() as tx:
        await leases.hold(tx, "s", MINE, after(59))
        taking = asyncio.create_task(
            database.run(lambda tx: leases.acquire(tx, "s", ttl=TTL, token=YOURS, now=after(60)))
        )
        done, _ = await asyncio.wait([taking], timeout=0.05)
        assert not done
    assert await taking


async def test_idle_leases_are_forgotten(tx: AsyncConnection) -> None:
    for number in range(3):
        await leases.acquire(tx, f"s{number}", ttl=TTL, token=MINE, now=after(number))
    assert await leases.forget_idle(tx, after(62), limit=1) == 1
    assert await leases.forget_idle(tx, after(62), limit=10) == 1
    assert await leases.held_scopes(tx, ["s0", "s1", "s2"], after(0)) == {"s2"}
