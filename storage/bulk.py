"""Many rows in one statement, on either database.

PostgreSQL gets one parameter a column (`unnest`), SQLite a JSON list for keys and `executemany` for rows (its
JSON cannot carry bytes). Rows are written in the order given, which is the caller's way to keep locks sorted
and numbers in order.

The driver looks at every element of an array three times before it writes it, which costs more than all else
about a row. So a column whose values are all the same goes as one value, and most others as one text, joined
by a character that none of them holds. The server takes that text apart as it plans, so that it knows how
many there are.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    TextClause,
    Uuid,
    any_,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import Column, Table
from sqlalchemy.types import Boolean, Integer, LargeBinary, Text, TypeEngine

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
        wanted = list(values)
        joined = _joined(key.type, wanted)
        if joined is None:
            return key == any_(literal(wanted, ARRAY(key.type)))
        parts = func.string_to_array(literal(joined, Text()), _SEPARATOR, _NULL)
        return key == any_(cast(parts, ARRAY(key.type)))
    listed = json.dumps([_sqlite_key(value) for value in values], ensure_ascii=False)
    return key.in_(select(column("value")).select_from(func.json_each(bindparam(None, listed))))


async def insert_rows(
    tx: AsyncConnection, table: Table, columns: tuple[str, ...], rows: Sequence[Row]
) -> None:
    """Insert `rows`, in their order, in one statement (PostgreSQL) or one `executemany` (SQLite)."""
    if not rows:
        return
    if on_postgresql(tx):
        given = columns_of(_columns(table, columns), zip(*rows, strict=True))
        await tx.execute(_pg_insert(table, columns, given.forms), given.parameters)
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
        given = columns_of(_columns(table, columns), zip(*rows, strict=True))
        statement = _pg_insert(table, columns, given.forms, returning_new=key)
        result = await tx.execute(statement, given.parameters)
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
        given = columns_of(_columns(table, columns), zip(*rows, strict=True))
        await tx.execute(_pg_update(table, columns, given.forms), given.parameters)
    else:
        # The key comes last in SQLite's statement.
        turned = [(*row[1:], row[0]) for row in rows]
        values = _sqlite_rows(table, (*columns[1:], columns[0]), turned)
        await tx.exec_driver_sql(_sqlite_update(table, columns), values)


class Form(Enum):
    """How a column's values are sent to PostgreSQL."""

    SAME = "same"
    JOINED = "joined"
    ARRAY = "array"


class GivenColumns(NamedTuple):
    """The columns of many rows as PostgreSQL gets them."""

    forms: tuple[Form, ...]
    parameters: dict[str, Any]


#: Joins texts, and what stands for a null among them: no identifier may contain either.
_SEPARATOR: Final = "\x1f"
_NULL: Final = "\x1e"
#: Bytes up to which a binary value is sent as hexadecimal digits.
_SHORT: Final = 64
#: The parameter that says how many rows there are, where all columns are one value each.
_ROWS: Final = "how_many"


def columns_of(columns: Sequence[Column[Any]], given: Iterable[Sequence[Any]]) -> GivenColumns:
    """Choose a form for each column's values; `given_sql` reads them in the same forms. One row at least."""
    forms: list[Form] = []
    parameters: dict[str, Any] = {}
    rows = 0
    for of, values in zip(columns, given, strict=True):
        rows = len(values)
        form, parameters[of.name] = _given(of, values)
        forms.append(form)
    if all(form is Form.SAME for form in forms):
        parameters[_ROWS] = rows
    return GivenColumns(tuple(forms), parameters)


def _given(of: Column[Any], values: Sequence[Any]) -> tuple[Form, Any]:
    first = values[0]
    if values.count(first) == len(values):
        return Form.SAME, first
    joined = _joined(of.type, values)
    return (Form.ARRAY, list(values)) if joined is None else (Form.JOINED, joined)


def _joined(type_: TypeEngine[Any], values: Sequence[Any]) -> str | None:
    """One text for all values; None where they have no such form."""
    joined = None
    if isinstance(type_, Uuid | Integer):
        joined = _SEPARATOR.join([_NULL if value is None else str(value) for value in values])
    elif isinstance(type_, LargeBinary) and all(len(value or b"") <= _SHORT for value in values):
        joined = _SEPARATOR.join([_NULL if value is None else f"\\x{value.hex()}" for value in values])
    elif isinstance(type_, Text):
        joined = _SEPARATOR.join([_NULL if value is None else value for value in values])
        if joined.count(_SEPARATOR) != len(values) - 1 or joined.count(_NULL) != values.count(None):
            return None
    # Taken apart, an empty text is no value rather than one that is empty.
    return joined or None


def given_sql(columns: Sequence[Column[Any]], forms: Sequence[Form]) -> str:
    """The table expression that gives the rows of `columns_of`, numbered by `place` from 1."""
    pairs = list(zip(columns, forms, strict=True))
    listed = [of for of, form in pairs if form is not Form.SAME]
    if listed:
        values = ", ".join(_pg_expression(of, form) for of, form in pairs if form is not Form.SAME)
        names = "".join(f'"{of.name}", ' for of in listed)
        rows = f"unnest({values}) WITH ORDINALITY AS u({names}place)"
    else:
        rows = f"generate_series(1, CAST(:{_ROWS} AS integer)) AS u(place)"
    chosen = ", ".join(
        f'{_pg_expression(of, form)} AS "{of.name}"' if form is Form.SAME else f'u."{of.name}"'
        for of, form in pairs
    )
    return f"(SELECT {chosen}, u.place FROM {rows})"  # noqa: S608 (names from our own tables)


def _pg_expression(of: Column[Any], form: Form) -> str:
    name, type_ = of.name, _pg_type(of)
    if form is Form.SAME:
        return f"CAST(:{name} AS {type_})"
    if form is Form.JOINED:
        return f"CAST(string_to_array(CAST(:{name} AS text), E'\\x1f', E'\\x1e') AS {type_}[])"
    return f"CAST(:{name} AS {type_}[])"


def _columns(table: Table, names: Sequence[str]) -> list[Column[Any]]:
    return [table.c[name] for name in names]


def _pg_type(of: Column[Any]) -> str:
    # The collation is a property of the stored column, not of an array sent to it.
    return of.type.compile(dialect=_POSTGRESQL).partition(" COLLATE ")[0]


@lru_cache(maxsize=256)
def _pg_insert(
    table: Table, columns: tuple[str, ...], forms: tuple[Form, ...], *, returning_new: str | None = None
) -> TextClause:
    names = ", ".join(f'"{name}"' for name in columns)
    end = f' ON CONFLICT ("{returning_new}") DO NOTHING RETURNING "{returning_new}"' if returning_new else ""
    return text(
        f'INSERT INTO "{table.name}" ({names}) SELECT {names} FROM '  # noqa: S608 (names from our own tables)
        f"{given_sql(_columns(table, columns), forms)} AS given ORDER BY place{end}"
    )


@lru_cache(maxsize=256)
def _pg_update(table: Table, columns: tuple[str, ...], forms: tuple[Form, ...]) -> TextClause:
    changes = ", ".join(f'"{name}" = given."{name}"' for name in columns[1:])
    return text(
        f'UPDATE "{table.name}" AS kept SET {changes} FROM '  # noqa: S608
        f"{given_sql(_columns(table, columns), forms)} AS given "
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
