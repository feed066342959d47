from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, MetaData, Table, Text, Uuid, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.bulk import Form, among, columns_of, insert_new, insert_rows, update_rows
from storage.database import Database
from storage.types import UtcDateTime
from tests.integration.storage.rows import NOON, after

rows_table = Table(
    "bulk_rows",
    MetaData(),
    Column("id", Uuid, primary_key=True),
    Column("name", Text),
    Column("count", BigInteger),
    Column("content", LargeBinary),
    Column("seen_at", UtcDateTime),
    Column("good", Boolean(create_constraint=False)),
    Column("other_id", Uuid),
)
COLUMNS = tuple(rows_table.c.keys())

# What joins texts on their way, what stands for null there, and what array literals are made of.
_texts = st.text(
    st.sampled_from('ab\x1f\x1e{},"\\\nNUL ü')
    | st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    max_size=8,
)
_rows = st.lists(
    st.tuples(
        st.none() | _texts,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.binary(max_size=70),
        st.none() | st.sampled_from([NOON, after(0.000001)]),
        st.none() | st.booleans(),
        st.none() | st.uuids(),
    ),
    max_size=5,
)


async def make_table(tx: AsyncConnection) -> None:
    await tx.run_sync(rows_table.metadata.create_all)
    await tx.execute(delete(rows_table))


def numbered(values: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(UUID(int=number), *row) for number, row in enumerate(values, 1)]


async def stored(tx: AsyncConnection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await tx.execute(select(rows_table).order_by(rows_table.c.id))]


@given(_rows)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_every_value_comes_back_as_it_was_given(
    database: Database, values: list[tuple[Any, ...]]
) -> None:
    rows = numbered(values)
    async with database.transaction() as tx:
        await make_table(tx)
        await insert_rows(tx, rows_table, COLUMNS, rows)
        assert await stored(tx) == rows
        assert await insert_new(tx, rows_table, "id", COLUMNS, rows) == set()

        turned = [(row[0], *other[1:]) for row, other in zip(rows, reversed(rows), strict=True)]
        await update_rows(tx, rows_table, COLUMNS, turned)
        assert await stored(tx) == turned


@given(st.sets(_texts, min_size=1, max_size=5), st.sets(_texts, max_size=5))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_among_finds_what_is_named_and_nothing_else(
    database: Database, named: set[str], others: set[str]
) -> None:
    everything = sorted(named | others)
    rows = numbered([(name, None, None, None, None, None) for name in everything])
    async with database.transaction() as tx:
        await make_table(tx)
        await insert_rows(tx, rows_table, COLUMNS, rows)
        found = await tx.scalars(select(rows_table.c.name).where(among(tx, rows_table.c.name, named)))
        assert set(found) == named
        ids = [row[0] for row in rows if row[1] in named]
        found = await tx.scalars(select(rows_table.c.name).where(among(tx, rows_table.c.id, ids)))
        assert set(found) == named


@pytest.mark.parametrize(
    ("name", "values", "form"),
    [
        ("name", ["a"] * 50, Form.SAME),
        ("seen_at", [NOON] * 50, Form.SAME),
        ("name", [None] * 50, Form.SAME),
        ("name", ["a"] * 49, Form.JOINED),
        ("name", ["a", "b", None], Form.JOINED),
        ("count", [1, 2], Form.JOINED),
        ("id", [UUID(int=1), UUID(int=2)], Form.JOINED),
        ("content", [b"1", b"2"], Form.JOINED),
        ("content", [b"1", b"2" * 65], Form.ARRAY),
        ("name", ["a", "b\x1f"], Form.ARRAY),
        ("name", ["a", "\x1e"], Form.ARRAY),
        ("seen_at", [NOON, after(1)], Form.ARRAY),
    ],
)
def test_what_many_rows_send_is_what_costs_the_driver_least(
    name: str, values: list[str | int | UUID | bytes | datetime | None], form: Form
) -> None:
    assert columns_of([rows_table.c[name]], [values]).forms == (form,)
