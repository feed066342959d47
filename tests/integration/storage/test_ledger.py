from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, Executable, delete, event, insert, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.transactions import charge_id
from storage import ledger, organizations
from storage.database import Database
from storage.ledger import EntryKind, LedgerEntry, Verification
from storage.organizations import OrgState
from storage.tables import ledger_entries
from storage.tables import organizations as organizations_table
from tests.integration.storage.rows import NOON, after, booked, entry, first_column

Statements = Callable[[AsyncConnection], AbstractContextManager[list[str]]]


async def book(tx: AsyncConnection, org_id: str = "acme", jobs: int = 3) -> OrgState:
    """A grant of 100 and some charges of 1."""
    state = (await organizations.lock(tx, [org_id]))[org_id]
    made = [entry(state, 100)]
    state = booked(state, made[0])
    for job in range(jobs):
        made.append(entry(state, -1, job_id=f"job-{job}"))
        state = booked(state, made[-1])
    await ledger.append(tx, reversed(made))
    await organizations.save(tx, [state])
    return state


async def test_entries_are_read_as_booked_and_in_order(database: Database) -> None:
    async with database.transaction() as tx:
        state = await book(tx)
        correction = entry(
            state,
            1,
            kind=EntryKind.ADJUSTMENT,
            reason="charged by mistake",
            corrects=charge_id("acme", "job-1"),
        )
        await ledger.append(tx, [correction])

    async with database.reading() as tx:
        found = await ledger.entries_of(tx, "acme")
        assert [(one.entry, one.kind, one.sequence, one.balance_after) for one in found] == [
            (1, "grant", None, 100),
            (2, "charge", 1, 99),
            (3, "charge", 2, 98),
            (4, "charge", 3, 97),
            (5, "adjustment", None, 98),
        ]
        assert found[-1] == correction
        assert await ledger.entries_of(tx, "acme", after=3, limit=1) == [found[3]]
        assert await ledger.entries_of(tx, "acme", after=1) == found[1:]
        assert await ledger.entries_of(tx, "other") == []
        assert await ledger.find(tx, correction.transaction_id) == correction
        assert await ledger.find(tx, uuid4()) is None
        assert await ledger.totals(tx, "acme") == (101, 3)
        assert await ledger.totals(tx, "other") == (0, 0)


@pytest.mark.parametrize(
    "change", [update(ledger_entries).values(credits=5), delete(ledger_entries)], ids=["update", "delete"]
)
async def test_guarantee_6_the_database_itself_refuses_to_change_the_ledger(
    database: Database, change: Executable
) -> None:
    async with database.transaction() as tx:
        await book(tx)
    with pytest.raises(DBAPIError, match="append-only"):
        async with database.transaction() as tx:
            await tx.execute(change)
    async with database.reading() as tx:
        assert (await ledger.verify(tx)).ok
        assert len(await ledger.entries_of(tx, "acme")) == 4


async def test_a_job_is_booked_once(database: Database) -> None:
    async with database.transaction() as tx:
        state = await book(tx, jobs=1)
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await ledger.append(tx, [entry(state, -1, job_id="job-0")])


async def test_a_number_is_given_once(database: Database) -> None:
    async with database.transaction() as tx:
        state = await book(tx, jobs=1)
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await ledger.append(tx, [entry(state, -1, job_id="job-1", entry=2)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"balance_after": -1},
        {"sequence": None},
        {"job_id": None},
        {"credits": 1},
        {"kind": EntryKind.GRANT},
        {"entry": 0},
    ],
)
async def test_an_entry_that_makes_no_sense_is_refused(database: Database, wrong: dict[str, object]) -> None:
    state = OrgState("acme", balance=10, entries=1)
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await ledger.append(tx, [entry(state, -1, job_id="job-0")._replace(**wrong)])  # type: ignore[arg-type]


async def test_entries_are_booked_in_the_order_of_their_ids(tx: AsyncConnection, dialect: str) -> None:
    """So that two transactions that would book the same ones wait for each other, and never in a circle."""
    booked_: list[list[str]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith('INSERT INTO "ledger_entries"'):
            booked_.append([UUID(id_).hex for id_ in first_column(parameters)])

    states = [OrgState(f"org-{number:02}", balance=10, entries=1) for number in range(20)]
    event.listen(tx.sync_connection, "before_cursor_execute", note)
    await ledger.append(tx, [entry(state, -1, job_id="job") for state in states])
    event.remove(tx.sync_connection, "before_cursor_execute", note)

    [ids] = booked_
    assert ids == sorted(charge_id(state.org_id, "job").hex for state in states)


async def test_what_was_charged_at_a_moment_is_told_by_organization_the_largest_sum_first(
    database: Database,
) -> None:
    moments = {"a": (NOON, NOON), "b": (NOON, NOON), "c": (NOON, NOON, NOON), "d": (after(1),)}
    async with database.transaction() as tx:
        for org_id, at in moments.items():
            [state] = (await organizations.lock(tx, [org_id])).values()
            grant = entry(state, 10)._replace(created_at=NOON)
            charges = [
                entry(
                    OrgState(org_id, balance=10 - number, charges=number, entries=number + 1),
                    -1,
                    job_id=f"job-{number}",
                )._replace(created_at=moment)
                for number, moment in enumerate(at)
            ]
            await ledger.append(tx, [grant, *charges])
    async with database.reading() as tx:
        assert list((await ledger.charged_at(tx, NOON)).items()) == [("c", 3), ("a", 2), ("b", 2)]
        assert await ledger.charged_at(tx, after(1)) == {"d": 1}
        assert await ledger.charged_at(tx, after(2)) == {}


async def test_which_jobs_are_charged(database: Database) -> None:
    async with database.transaction() as tx:
        await book(tx)
        asked = {charge_id("acme", "job-2"), charge_id("acme", "job-9"), charge_id("other", "job-2")}
        assert await ledger.charged(tx, asked) == {charge_id("acme", "job-2")}
        assert await ledger.charged(tx, []) == set()


async def test_a_batch_costs_one_statement(tx: AsyncConnection, statements: Statements) -> None:
    states = [OrgState(f"org-{number}", balance=10, entries=1) for number in range(100)]
    made = [entry(state, -1, job_id="job") for state in states]
    with statements(tx) as sent:
        await ledger.append(tx, made)
        await ledger.charged(tx, [one.transaction_id for one in made])
        await ledger.append(tx, [])
    assert len(sent) == 2


# -- the proof --


async def test_guarantee_6_books_that_balance(database: Database) -> None:
    async with database.transaction() as tx:
        await book(tx, "acme")
        await book(tx, "beta", jobs=0)
        await organizations.lock(tx, ["empty"])
    async with database.reading() as tx:
        assert await ledger.verify(tx) == Verification(ok=True, organizations=3, entries=5, problems=[])


@asynccontextmanager
async def tampering(database: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction of somebody who owns the database and takes the triggers and constraints away."""
    async with database.transaction() as tx:
        if database.dialect == "sqlite":
            await tx.execute(text("DROP TRIGGER ledger_entries_no_update"))
            await tx.execute(text("DROP TRIGGER ledger_entries_no_delete"))
            await tx.execute(text("PRAGMA ignore_check_constraints = ON"))
        else:
            await tx.execute(text("ALTER TABLE ledger_entries DISABLE TRIGGER USER"))
            for name in ("balance_after", "charge", "charge_credits", "grant_credits"):
                await tx.execute(text(f"ALTER TABLE ledger_entries DROP CONSTRAINT ck_ledger_entries_{name}"))
        yield tx
        if database.dialect == "sqlite":
            await tx.execute(text("PRAGMA ignore_check_constraints = OFF"))


def second_charge() -> ColumnElement[bool]:
    return ledger_entries.c.entry == 3


def is_charge() -> ColumnElement[bool]:
    return ledger_entries.c.kind == "charge"


TAMPERED = {
    "an entry taken out": (
        delete(ledger_entries).where(second_charge()),
        [
            "entry 4: its number",
            "entry 4: its balance",
            "entry 4: its charge number",
            "balance",
            "entries",
            "charges",
        ],
    ),
    "credits changed": (
        update(ledger_entries).where(second_charge()).values(credits=-2),
        ["entry 3: its balance", "entry 4: its balance", "row's balance"],
    ),
    "a balance changed": (
        update(ledger_entries).where(second_charge()).values(balance_after=42),
        ["entry 3: its balance"],
    ),
    "a negative balance": (
        update(ledger_entries).where(second_charge()).values(balance_after=-1),
        ["entry 3: its balance", "entry 3: its balance is negative"],
    ),
    "a gap in the charges": (
        update(ledger_entries).where(second_charge()).values(sequence=7),
        ["entry 3: its charge number"],
    ),
    "a charge of another job": (
        update(ledger_entries).where(second_charge()).values(job_id="job-0"),
        ["entry 3: its id is not its job's"],
    ),
    "a charge without a job": (
        update(ledger_entries).where(second_charge()).values(job_id=None),
        ["entry 3: it is a charge without a job", "entry 3: its id is not its job's"],
    ),
    "a charge made a grant": (
        update(ledger_entries).where(second_charge()).values(kind="grant"),
        ["entry 3: it is no charge", "entry 4: its charge number", "charges differs"],
    ),
    "a row's balance changed": (
        update(organizations_table).values(balance=5),
        ["its row's balance differs from the ledger's by -92"],
    ),
    "a row's counter changed": (
        update(organizations_table).values(entries=5),
        ["its row's number of entries differs"],
    ),
    "an organization taken out": (delete(organizations_table), ["entries without an organization"]),
    "a correction of nothing": (
        insert(ledger_entries).values(
            transaction_id=uuid4(),
            org_id="acme",
            entry=5,
            kind="adjustment",
            credits=0,
            balance_after=97,
            corrects=uuid4(),
            created_at=NOON,
        ),
        ["entry 5: it corrects no entry", "number of entries"],
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_books_that_were_tampered_with(database: Database, how: str) -> None:
    change, expected = TAMPERED[how]
    async with database.transaction() as tx:
        await book(tx)
    async with tampering(database) as tx:
        await tx.execute(change)

    async with database.reading() as tx:
        verification = await ledger.verify(tx)

    assert not verification.ok
    assert all("'acme'" in problem for problem in verification.problems)
    for sign in expected:
        assert any(sign in problem for problem in verification.problems), verification.problems
    unexpected = [one for one in verification.problems if not any(sign in one for sign in expected)]
    assert unexpected == []


async def test_an_empty_database_is_in_order(database: Database) -> None:
    async with database.reading() as tx:
        assert await ledger.verify(tx) == Verification(ok=True, organizations=0, entries=0, problems=[])


async def test_what_is_wrong_is_told_in_order_a_hundred_lines_of_a_kind(database: Database) -> None:
    async with database.transaction() as tx:
        await book(tx, "b", jobs=60)
        await book(tx, "a", jobs=60)
    async with tampering(database) as tx:
        await tx.execute(update(ledger_entries).values(balance_after=1000))
        await tx.execute(update(ledger_entries).where(is_charge()).values(job_id="of nobody"))

    async with database.reading() as tx:
        problems = (await ledger.verify(tx)).problems

    wrong = [one for one in problems if "its balance is not" in one]
    places = [("a", number) for number in range(1, 62)] + [("b", number) for number in range(1, 40)]
    assert wrong == [
        f"organization '{org_id}', entry {number}: its balance is not the one before plus its credits"
        for org_id, number in places
    ]
    foreign = [one for one in problems if "its id is not its job's" in one]
    assert len(foreign) == len(set(foreign)) == 100
    assert len(problems) == 200


async def test_what_is_wrong_is_found_behind_however_much_that_is_right(database: Database) -> None:
    async with database.transaction() as tx:
        for number in range(101):
            await book(tx, f"org-{number:03}", jobs=0)
        await book(tx, "z", jobs=3)
    async with tampering(database) as tx:
        last = (ledger_entries.c.org_id == "z") & (ledger_entries.c.entry == 4)
        await tx.execute(update(ledger_entries).where(last).values(balance_after=5))
        await tx.execute(
            update(organizations_table).where(organizations_table.c.org_id == "z").values(balance=5)
        )
    async with database.reading() as tx:
        assert (await ledger.verify(tx)).problems == [
            "organization 'z', entry 4: its balance is not the one before plus its credits",
            "organization 'z': its row's balance differs from the ledger's by -92",
        ]


@pytest.mark.parametrize(("jobs", "said"), [(3, 0), (None, 1)])
async def test_a_row_that_says_all_is_zero_or_all_is_one_is_compared_like_any_other(
    database: Database, jobs: int | None, said: int
) -> None:
    async with database.transaction() as tx:
        if jobs is None:
            await organizations.lock(tx, ["acme"])
        else:
            await book(tx, jobs=jobs)
        await tx.execute(update(organizations_table).values(balance=said, entries=said, charges=said))
    async with database.reading() as tx:
        assert len((await ledger.verify(tx)).problems) == 3


async def test_organizations_that_disagree_with_the_ledger_are_told_in_order(database: Database) -> None:
    names = [f"org-{number:03}" for number in range(120)]
    async with database.transaction() as tx:
        states = await organizations.lock(tx, reversed(names))
        await organizations.save(
            tx,
            [
                states[name]._replace(balance=5, entries=2, charges=1, waiting_jobs=7)
                for name in reversed(names)
            ],
        )
    async with database.reading() as tx:
        problems = (await ledger.verify(tx)).problems
    assert problems == [
        f"organization {name!r}: its row's {what} differs from the ledger's by {by}"
        for name in names[:100]
        for what, by in (("balance", 5), ("number of entries", 2), ("number of charges", 1))
    ]


async def test_organizations_without_a_row_are_told_a_hundred_of_them(database: Database) -> None:
    async with database.transaction() as tx:
        for number in range(101):
            await book(tx, f"org-{number}", jobs=0)
        await book(tx, "kept", jobs=0)
    async with tampering(database) as tx:
        gone = organizations_table.c.org_id != "kept"
        await tx.execute(delete(organizations_table).where(gone))
    async with database.reading() as tx:
        verification = await ledger.verify(tx)
    assert (verification.organizations, verification.entries) == (1, 102)
    assert len(verification.problems) == 100
    assert all("entries without an organization" in one for one in verification.problems)
    assert not any("kept" in one for one in verification.problems)


async def test_a_correction_names_an_entry_of_its_own_organization(database: Database) -> None:
    async with database.transaction() as tx:
        states = {name: await book(tx, name) for name in ("b", "a")}
        for org_id, of in (("b", "a"), ("b", "b"), ("a", "a"), ("a", "b")):
            correction = entry(states[org_id], 0, kind=EntryKind.ADJUSTMENT, corrects=charge_id(of, "job-1"))
            states[org_id] = booked(states[org_id], correction)
            await ledger.append(tx, [correction])
        await organizations.save(tx, states.values())
    async with database.reading() as tx:
        assert (await ledger.verify(tx)).problems == [
            "organization 'a', entry 6: it corrects no entry of the organization",
            "organization 'b', entry 5: it corrects no entry of the organization",
        ]


async def test_corrections_of_nothing_are_told_in_order_a_hundred_of_them(database: Database) -> None:
    async with database.transaction() as tx:
        for org_id in ("b", "a"):
            state = await book(tx, org_id, jobs=0)
            for _ in range(60):
                wrong = entry(state, 0, kind=EntryKind.ADJUSTMENT, corrects=uuid4())
                await ledger.append(tx, [wrong])
                state = booked(state, wrong)
            await organizations.save(tx, [state])
    async with database.reading() as tx:
        problems = (await ledger.verify(tx)).problems
    places = [("a", number) for number in range(2, 62)] + [("b", number) for number in range(2, 42)]
    assert problems == [
        f"organization '{org_id}', entry {number}: it corrects no entry of the organization"
        for org_id, number in places
    ]


# -- against a model: a list of numbers --

_bookings = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["grant", "charge"]), st.integers(0, 5)),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(_bookings, min_size=1, max_size=4))
async def test_guarantee_6_a_balance_is_the_sum_of_its_entries(
    database: Database, batches: list[list[tuple[str, str, int]]]
) -> None:
    run = uuid4().hex
    model: dict[str, list[int]] = {f"{run}-a": [], f"{run}-b": []}
    made: dict[str, list[LedgerEntry]] = {org_id: [] for org_id in model}
    for batch in batches:
        async with database.transaction() as tx:
            states = await organizations.lock(tx, model)
            entries = []
            for name, kind, credits_ in batch:
                state = states[f"{run}-{name}"]
                if kind == "charge" and credits_ > state.balance:
                    continue
                signed = -credits_ if kind == "charge" else credits_
                job_id = f"job-{state.charges}" if kind == "charge" else None
                entries.append(entry(state, signed, job_id=job_id))
                states[state.org_id] = booked(state, entries[-1])
                model[state.org_id].append(signed)
                made[state.org_id].append(entries[-1])
            await ledger.append(tx, entries)
            await organizations.save(tx, states.values())

    async with database.reading() as tx:
        states = await organizations.read(tx, model)
        for org_id, numbers in model.items():
            assert states[org_id].balance == sum(numbers)
            assert await ledger.entries_of(tx, org_id) == made[org_id]
            granted, used = await ledger.totals(tx, org_id)
            assert granted - used == sum(numbers)
        assert (await ledger.verify(tx)).problems == []
