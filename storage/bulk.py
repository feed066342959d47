"""Many rows in one statement, on either database.

PostgreSQL gets one array a column (`unnest`), SQLite a JSON list for keys and `executemany` for rows (its
JSON cannot carry bytes). Rows are written in the order given, which is the caller's way to keep locks sorted
and numbers in order.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, TextClause, Uuid, any_, bindparam, column, func, literal, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import Column, Table
from sqlalchemy.types import Boolean

from storage.types import UtcDateTime, datetime_to_text

K = TypeVar("K", str, int, UUID)

Row = Sequence[Any]

_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]


def on_postgresql(tx: AsyncConnection) -> bool:
    """Whether the transaction's database takes arrays."""
    return tx.dialect.name == "postgresql"


def among(tx: AsyncConnection, key: Column[K], values: Iterable[K]) -> ColumnElement[bool]:
    """The condition that a column's value is one of `values`: one parameter, however many there are."""
    if on_postgresql(tx):
        return key == any_(literal(list(values), ARRAY(key.type)))
    listed = json.dumps([_sqlite_key(value) for value in values], ensure_ascii=False)
    return key.in_(select(column("value")).select_from(func.json_each(bindparam(None, listed))))


async def insert_rows(
    tx: AsyncConnection, table: Table, columns: tuple[str, ...], rows: Sequence[Row]
) -> None:
    """Insert `rows`, in their order, in one statement (PostgreSQL) or one `executemany` (SQLite)."""
    if not rows:
        return
    if on_postgresql(tx):
        await tx.execute(_pg_insert(table, columns), _arrays(columns, rows))
    else:
        await tx.exec_driver_sql(_sqlite_insert(table, columns), _sqlite_rows(table, columns, rows))


async def insert_new(
    tx: AsyncConnection, table: Table, key: str, columns: tuple[str, ...], rows: Sequence[Row]
) -> set[Any]:
    """Insert the rows whose `key` (a unique column, the first of `columns`) is not there yet.

    Returns:
        The keys inserted. Every other one is in the table, made by a transaction that has committed.
    """
    if not rows:
        return set()
    if on_postgresql(tx):
        result = await tx.execute(_pg_insert(table, columns, returning_new=key), _arrays(columns, rows))
        return set(result.scalars())
    # The writer is alone from its first moment, so what a look shows still stands at the insert.
    unique = table.c[key]
    there = set((await tx.scalars(select(unique).where(among(tx, unique, [row[0] for row in rows])))).all())
    new = [row for row in rows if row[0] not in there]
    await insert_rows(tx, table, columns, new)
    return {row[0] for row in new}


async def update_rows(
    tx: AsyncConnection, table: Table, columns: tuple[str, ...], rows: Sequence[Row]
) -> None:
    """Set the columns after the first on the rows that the first one names."""
    if not rows:
        return
    if on_postgresql(tx):
        await tx.execute(_pg_update(table, columns), _arrays(columns, rows))
    else:
        # The key comes last in SQLite's statement.
        turned = [(*row[1:], row[0]) for row in rows]
        values = _sqlite_rows(table, (*columns[1:], columns[0]), turned)
        await tx.exec_driver_sql(_sqlite_update(table, columns), values)


def arrays_of(table: Table, columns: tuple[str, ...]) -> str:
    """The arguments of PostgreSQL's `unnest` for these columns, each cast to its type."""
    return ", ".join(f"CAST(:{name} AS {_pg_type(table.c[name])}[])" for name in columns)


def _arrays(columns: tuple[str, ...], rows: Sequence[Row]) -> dict[str, list[Any]]:
    return dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))


def _pg_type(of: Column[Any]) -> str:
    # The collation is a property of the stored column, not of an array sent to it.
    return of.type.compile(dialect=_POSTGRESQL).partition(" COLLATE ")[0]


@lru_cache(maxsize=64)
def _pg_insert(table: Table, columns: tuple[str, ...], *, returning_new: str | None = None) -> TextClause:
    names = ", ".join(f'"{name}"' for name in columns)
    end = f' ON CONFLICT ("{returning_new}") DO NOTHING RETURNING "{returning_new}"' if returning_new else ""
    return text(
        f'INSERT INTO "{table.name}" ({names}) SELECT {names} FROM '  # noqa: S608 (names from our own tables)
        f"unnest({arrays_of(table, columns)}) WITH ORDINALITY AS given({names}, place) ORDER BY place{end}"
    )


@lru_cache(maxsize=64)
def _pg_update(table: Table, columns: tuple[str, ...]) -> TextClause:
    names = ", ".join(f'"{name}"' for name in columns)
    changes = ", ".join(f'"{name}" = given."{name}"' for name in columns[1:])
    return text(
        f'UPDATE "{table.name}" AS kept SET {changes} FROM '  # noqa: S608
        f"unnest({arrays_of(table, columns)}) AS given({names}) "
        f'WHERE kept."{columns[0]}" = given."{columns[0]}"'
    )


@lru_cache(maxsize=64)
def _sqlite_insert(table: Table, columns: tuple[str, ...]) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    return f'INSERT INTO "{table.name}" ({names}) VALUES ({", ".join("?" * len(columns))})'  # noqa: S608


@lru_cache(maxsize=64)
def _sqlite_update(table: Table, columns: tuple[str, ...]) -> str:
    changes = ", ".join(f'"{name}" = ?' for name in columns[1:])
    return f'UPDATE "{table.name}" SET {changes} WHERE "{columns[0]}" = ?'  # noqa: S608


def _sqlite_key(value: str | int | UUID) -> str | int:
    return value.hex if isinstance(value, UUID) else value


def _sqlite_rows(table: Table, columns: tuple[str, ...], rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    converters = [_sqlite_converter(table.c[name]) for name in columns]
    if not any(converters):
        return [tuple(row) for row in rows]
    # Column by column: one test of the converter for all rows.
    turned = [
        values if convert is None else [None if value is None else convert(value) for value in values]
        for convert, values in zip(converters, zip(*rows, strict=True), strict=True)
    ]
    return list(zip(*turned, strict=True))


def _sqlite_converter(of: Column[Any]) -> Callable[[Any], Any] | None:
    if isinstance(of.type, Uuid):
        return _hex
    if isinstance(of.type, UtcDateTime):
        return datetime_to_text
    if isinstance(of.type, Boolean):
        return int
    return None


def _hex(value: UUID) -> str:
    return value.hex
