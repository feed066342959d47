import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import identities
from storage.database import Database
from storage.tables import identities as identities_table
from tests.integration.storage.rows import fingerprints, first_column

Statements = Callable[[AsyncConnection], AbstractContextManager[list[str]]]


async def test_an_identity_is_new_once(database: Database) -> None:
    pairs = fingerprints([uuid4(), uuid4()])
    async with database.transaction() as tx:
        assert await identities.register(tx, pairs) == identities.Registered({id_ for id_, _ in pairs}, {})
    async with database.transaction() as tx:
        assert await identities.register(tx, pairs) == identities.Registered(set(), dict(pairs))


async def test_whoever_comes_second_sees_the_fingerprint_that_won(database: Database) -> None:
    identity = uuid4()
    async with database.transaction() as tx:
        await identities.register(tx, [(identity, b"\x01first")])
    async with database.transaction() as tx:
        registered = await identities.register(tx, [(identity, b"\x01other")])
    assert registered.known == {identity: b"\x01first"}


async def test_of_an_identity_given_twice_the_first_counts(tx: AsyncConnection) -> None:
    identity = uuid4()
    registered = await identities.register(tx, [(identity, b"1"), (identity, b"2")])
    assert registered.new == {identity}
    assert await identities.lookup(tx, [identity]) == {identity: b"1"}


async def test_a_transaction_that_fails_registers_nothing(database: Database) -> None:
    identity = uuid4()

    async def fail(tx: AsyncConnection) -> None:
        await identities.register(tx, [(identity, b"1")])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.run(fail)
    async with database.reading() as tx:
        assert await identities.lookup(tx, [identity]) == {}


async def test_of_many_at_once_each_identity_has_one_winner(database: Database) -> None:
    ids = [uuid4() for _ in range(200)]

    async def register(version: int) -> identities.Registered:
        mixed = ids[version * 20 :] + ids[: version * 20]
        return await database.run(
            lambda tx: identities.register(tx, fingerprints(mixed, version=bytes([version])))
        )

    results = await asyncio.gather(*(register(version) for version in range(8)))
    winners = {id_: version for version, result in enumerate(results) for id_ in result.new}
    assert sum(len(result.new) for result in results) == len(ids)
    assert winners.keys() == set(ids)
    for result in results:
        assert result.new | result.known.keys() == set(ids)
        assert all(fingerprint[0] == winners[id_] for id_, fingerprint in result.known.items())


async def test_identities_are_registered_in_sorted_order(tx: AsyncConnection, dialect: str) -> None:
    """So that two transactions that register the same ones wait for each other, and never in a circle."""
    registered: list[list[str]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if "INSERT INTO" in statement:
            registered.append([UUID(id_).hex for id_ in first_column(parameters)])

    given_ = [uuid4() for _ in range(20)]
    event.listen(tx.sync_connection, "before_cursor_execute", note)
    await identities.register(tx, fingerprints(given_))
    event.remove(tx.sync_connection, "before_cursor_execute", note)

    assert registered == [sorted(id_.hex for id_ in given_)]


async def test_a_batch_costs_one_statement_whatever_is_known_of_it(
    tx: AsyncConnection, dialect: str, statements: Statements
) -> None:
    pairs = fingerprints(uuid4() for _ in range(1000))
    with statements(tx) as sent:
        await identities.register(tx, pairs)
    assert len(sent) == (1 if dialect == "postgresql" else 2)
    with statements(tx) as sent:
        await identities.register(tx, pairs)
    assert len(sent) == 1


async def test_nothing_asked_costs_nothing(tx: AsyncConnection, statements: Statements) -> None:
    with statements(tx) as sent:
        assert await identities.register(tx, []) == identities.Registered(set(), {})
        assert await identities.lookup(tx, []) == {}
    assert sent == []


_small_ids = st.integers(min_value=0, max_value=7).map(lambda number: UUID(int=number << 64))
_batches = st.lists(
    st.lists(st.tuples(_small_ids, st.binary(min_size=1, max_size=3)), max_size=6), min_size=1, max_size=6
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=_batches)
async def test_like_a_dictionary_that_keeps_what_came_first(
    database: Database, batches: list[list[tuple[UUID, bytes]]]
) -> None:
    async with database.transaction() as tx:
        await tx.execute(delete(identities_table))
    model: dict[UUID, bytes] = {}
    for batch in batches:
        before = dict(model)
        for identity, fingerprint in batch:
            model.setdefault(identity, fingerprint)
        async with database.transaction() as tx:
            registered = await identities.register(tx, batch)
        asked = {identity for identity, _ in batch}
        assert registered.new == asked - before.keys()
        assert registered.known == {identity: before[identity] for identity in asked & before.keys()}
    async with database.reading() as tx:
        assert await identities.lookup(tx, model) == model
