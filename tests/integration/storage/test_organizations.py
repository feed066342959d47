import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import members, organizations
from storage.database import Database
from storage.members import Member
from storage.organizations import OrgState, OrgStatus
from tests.integration.storage.rows import NOON, after, first_column, profile, put_active_org

Statements = Callable[[AsyncConnection], AbstractContextManager[list[str]]]


async def test_an_unknown_organization_gets_a_row(database: Database) -> None:
    async with database.transaction() as tx:
        assert await organizations.lock(tx, ["b", "a", "b"]) == {"a": OrgState("a"), "b": OrgState("b")}
    async with database.reading() as tx:
        assert await organizations.read(tx, ["a", "b", "c"]) == {"a": OrgState("a"), "b": OrgState("b")}


async def test_what_is_saved_is_what_is_read(database: Database) -> None:
    state = OrgState(
        "ö 組織", OrgStatus.FAILED, balance=2**53, charges=3, entries=5, waiting_jobs=7, failed_at=after(0.25)
    )
    async with database.transaction() as tx:
        await organizations.lock(tx, [state.org_id, "other"])
        await organizations.save(tx, [state])
    async with database.transaction() as tx:
        states = await organizations.lock(tx, [state.org_id, "other"])
    assert states == {state.org_id: state, "other": OrgState("other")}


def test_a_charge_is_one_more_entry_and_leaves_the_rest_as_it_was() -> None:
    state = OrgState(
        "acme", OrgStatus.ACTIVE, balance=9, charges=3, entries=5, waiting_jobs=7, failed_at=after(0.25)
    )
    assert state.charged(2) == state._replace(balance=7, charges=4, entries=6)


async def test_a_locked_organization_waits_for_whoever_has_it(database: Database) -> None:
    async with database.transaction() as tx:
        await organizations.lock(tx, ["acme", "other"])

    async def add_one() -> None:
        async def work(tx: AsyncConnection) -> None:
            states = await organizations.lock(tx, ["other", "acme"])
            await organizations.save(
                tx, [state._replace(balance=state.balance + 1) for state in states.values()]
            )

        await database.run(work)

    await asyncio.gather(*(add_one() for _ in range(12)))
    async with database.reading() as tx:
        states = await organizations.read(tx, ["acme", "other"])
    assert {state.balance for state in states.values()} == {12}


async def test_new_organizations_of_several_transactions_at_once(database: Database) -> None:
    names = [f"org-{number}" for number in range(30)]
    results = await asyncio.gather(
        *(database.run(lambda tx, k=k: organizations.lock(tx, names[k:] + names[:k])) for k in range(6))  # type: ignore[misc]
    )
    assert all(result.keys() == set(names) for result in results)


async def test_organizations_are_locked_and_made_in_sorted_order_whatever_order_they_are_named_in(
    tx: AsyncConnection, dialect: str
) -> None:
    """So that two transactions that name the same ones wait for each other, and never in a circle."""
    known = (await organizations.lock(tx, ["org-5"]))["org-5"]
    await organizations.save(tx, [known._replace(balance=7)])
    names = [f"org-{number}" for number in range(10)]
    sent: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        sent.append((statement, parameters))

    event.listen(tx.sync_connection, "before_cursor_execute", note)
    states = await organizations.lock(tx, reversed(names))
    event.remove(tx.sync_connection, "before_cursor_execute", note)

    locking = [statement for statement, _ in sent if statement.startswith("SELECT organizations.org_id, ")]
    assert locking
    for statement in locking:
        order = statement.rstrip().removesuffix("FOR UPDATE").rstrip()
        assert order.endswith("ORDER BY organizations.org_id")
        assert ("FOR UPDATE" in statement) is (dialect == "postgresql")
    [made] = [parameters for statement, parameters in sent if statement.startswith("INSERT")]
    names.remove("org-5")
    assert first_column(made) == names
    assert states == {name: OrgState(name) for name in names} | {"org-5": OrgState("org-5", balance=7)}


async def test_only_what_is_named_is_locked_and_read(tx: AsyncConnection) -> None:
    await organizations.lock(tx, ["a", "b", "c"])

    assert (await organizations.lock(tx, ["b", "d"])).keys() == {"b", "d"}
    assert (await organizations.read(tx, ["a", "d"])).keys() == {"a", "d"}


async def test_what_nobody_asks_for_costs_nothing(tx: AsyncConnection, statements: Statements) -> None:
    with statements(tx) as sent:
        assert await organizations.lock(tx, []) == {}
        assert await organizations.read(tx, []) == {}
        await organizations.save(tx, [])
    assert sent == []


async def test_known_organizations_are_locked_and_saved_by_one_statement_each(
    tx: AsyncConnection, statements: Statements
) -> None:
    names = [f"org-{number}" for number in range(100)]
    await organizations.lock(tx, names)
    with statements(tx) as sent:
        states = await organizations.lock(tx, names)
        await organizations.save(tx, states.values())
    assert len(sent) == 2


async def test_an_organization_becomes_active_once(database: Database) -> None:
    async with database.transaction() as tx:
        before = (await organizations.lock(tx, ["acme"]))["acme"]._replace(failed_at=NOON, waiting_jobs=2)
        active = await organizations.activate(tx, before, profile())
    assert active == before._replace(status=OrgStatus.ACTIVE, failed_at=None)
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await put_active_org(tx)
    async with database.reading() as tx:
        assert (await organizations.read(tx, ["acme"]))["acme"] == active
        assert await organizations.profile(tx, "acme") == profile()
        assert await organizations.profile(tx, "other") is None


async def test_a_profile_without_what_may_be_absent(tx: AsyncConnection) -> None:
    bare = replace(profile(), max_budget_usd=None, models=(), metadata=None, adopted=True)
    state = (await organizations.lock(tx, ["acme"]))["acme"]
    await organizations.activate(tx, state, bare)
    assert await organizations.profile(tx, "acme") == bare


async def test_members_are_listed_as_they_came(database: Database) -> None:
    def member(user_id: str, role: str, seconds: float) -> Member:
        return Member("acme", user_id, role, role == "owner", "hash", "alias", "default", after(seconds))

    came = [member("zoe", "owner", 0), member("ann", "member", 1), member("bob", "admin", 2)]
    async with database.transaction() as tx:
        await put_active_org(tx)
        for one in reversed(came):
            await members.add(tx, one)
    async with database.reading() as tx:
        assert await members.of_org(tx, "acme") == came
        assert await members.get(tx, "acme", "ann") == came[1]
        assert await members.get(tx, "acme", "nobody") is None
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await members.add(tx, came[0])
