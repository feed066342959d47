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
    BindParameter,
    ColumnElement,
    CursorResult,
    TextClause,
    Uuid,
    any_,
    bindparam,
    cast,
    column,
    func,
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
    form, value = wanted(tx, key, values)
    return is_wanted(key, form, bindparam(None, value, _wanted_type(key, form)))


def wanted(tx: AsyncConnection, key: Column[K], values: Iterable[K]) -> tuple["Form", Any]:
    """Many values of a column as one, with its form: the parameter `wanted` of `is_wanted`."""
    if not on_postgresql(tx):
        return Form.LISTED, json.dumps([_sqlite_key(value) for value in values], ensure_ascii=False)
    all_ = list(values)
    joined = _joined(key.type, all_)
    return (Form.ARRAY, all_) if joined is None else (Form.JOINED, joined)


def is_wanted(
    key: Column[K], form: "Form", parameter: BindParameter[Any] | None = None
) -> ColumnElement[bool]:
    """The condition of `among` for values that are given later, in a query that is built once."""
    if parameter is None:
        parameter = bindparam("wanted", type_=_wanted_type(key, form))
    if form is Form.LISTED:
        return key.in_(select(column("value")).select_from(func.json_each(parameter)))
    if form is Form.ARRAY:
        return key == any_(parameter)
    return key == any_(cast(func.string_to_array(parameter, _SEPARATOR, _NULL), ARRAY(key.type)))


def _wanted_type(key: Column[Any], form: "Form") -> TypeEngine[Any]:
    return ARRAY(key.type) if form is Form.ARRAY else Text()


async def insert_rows(
    tx: AsyncConnection, table: Table, columns: tuple[str, ...], rows: Sequence[Row]
) -> None:
    """Insert `rows`, in their order, in one statement (PostgreSQL) or one `executemany` (SQLite)."""
    if not rows:
        return
    if on_postgresql(tx):
        await write(tx, inserting(table, columns, rows))
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
        inserted = _pg_insert(table, columns, given.forms, returning_new=key)
        result = await tx.execute(_together((((), inserted),)), given.parameters)
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
        await write(tx, updating(table, columns, rows))
    else:
        # The key comes last in SQLite's statement.
        turned = [(*row[1:], row[0]) for row in rows]
        values = _sqlite_rows(table, (*columns[1:], columns[0]), turned)
        await tx.exec_driver_sql(_sqlite_update(table, columns), values)


class Write(NamedTuple):
    """Many rows for PostgreSQL to write: alone, or beside others in one statement.

    Attributes:
        before: What goes into the statement's WITH clause, in order.
        last: What it ends in, and answers; or one more of that clause where others follow.
        parameters: Of both; they are named after table and column.
    """

    before: tuple[str, ...]
    last: str
    parameters: dict[str, Any]


def inserting(table: Table, columns: tuple[str, ...], rows: Sequence[Row]) -> Write:
    """Insert rows, in their order; one at least."""
    given = columns_of(_columns(table, columns), zip(*rows, strict=True))
    return Write((), _pg_insert(table, columns, given.forms), given.parameters)


def updating(table: Table, columns: tuple[str, ...], rows: Sequence[Row]) -> Write:
    """Set the columns after the first on the rows that the first one names; one at least."""
    given = columns_of(_columns(table, columns), zip(*rows, strict=True))
    return Write((), _pg_update(table, columns, given.forms), given.parameters)


async def write(tx: AsyncConnection, *writes: Write) -> CursorResult[Any]:
    """Have PostgreSQL do all of this in one round trip; each into tables of its own, one at least.

    Returns:
        What the last of them answers.
    """
    statement = _together(tuple((one.before, one.last) for one in writes))
    parameters: dict[str, Any] = {}
    for one in writes:
        parameters |= one.parameters
    return await tx.execute(statement, parameters)


@lru_cache(maxsize=512)
def _together(writes: tuple[tuple[tuple[str, ...], str], ...]) -> TextClause:
    *others, (before, last) = writes
    clause = [
        one for place, (first, then) in enumerate(others) for one in (*first, f"also_{place} AS ({then})")
    ]
    clause += before
    return text(f"WITH {', '.join(clause)} {last}" if clause else last)


class Form(Enum):
    """How a column's values are sent: to PostgreSQL in one of three ways, to SQLite as a list."""

    SAME = "same"
    JOINED = "joined"
    ARRAY = "array"
    LISTED = "listed"


class GivenColumns(NamedTuple):
    """The columns of many rows as PostgreSQL gets them."""

    forms: tuple[Form, ...]
    parameters: dict[str, Any]


#: Joins texts, and what stands for a null among them: no identifier may contain either.
_SEPARATOR: Final = "\x1f"
_NULL: Final = "\x1e"
#: From how many values on it is looked whether all are the same. Of fewer it makes no difference but this:
#: each choice of forms is a statement of its own, to be prepared on every connection.
_ALIKE_FROM: Final = 50
#: Bytes up to which a binary value is sent as hexadecimal digits.
_SHORT: Final = 64


def columns_of(columns: Sequence[Column[Any]], given: Iterable[Sequence[Any]]) -> GivenColumns:
    """Choose a form for each column's values; `given_sql` reads them in the same forms. One row at least."""
    forms: list[Form] = []
    parameters: dict[str, Any] = {}
    rows = 0
    for of, values in zip(columns, given, strict=True):
        rows = len(values)
        form, parameters[_parameter(of)] = _given(of, values)
        forms.append(form)
    if all(form is Form.SAME for form in forms):
        parameters[_rows_parameter(columns)] = rows
    return GivenColumns(tuple(forms), parameters)


def _given(of: Column[Any], values: Sequence[Any]) -> tuple[Form, Any]:
    first = values[0]
    if len(values) >= _ALIKE_FROM and values.count(first) == len(values):
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
        rows = f"generate_series(1, CAST(:{_rows_parameter(columns)} AS integer)) AS u(place)"
    chosen = ", ".join(
        f'{_pg_expression(of, form)} AS "{of.name}"' if form is Form.SAME else f'u."{of.name}"'
        for of, form in pairs
    )
    return f"(SELECT {chosen}, u.place FROM {rows})"  # noqa: S608 (names from our own tables)


def _pg_expression(of: Column[Any], form: Form) -> str:
    name, type_ = _parameter(of), _pg_type(of)
    if form is Form.SAME:
        return f"CAST(:{name} AS {type_})"
    if form is Form.JOINED:
        return f"CAST(string_to_array(CAST(:{name} AS text), E'\\x1f', E'\\x1e') AS {type_}[])"
    return f"CAST(:{name} AS {type_}[])"


def _parameter(of: Column[Any]) -> str:
    return f"{of.table.name}_{of.name}"


def _rows_parameter(columns: Sequence[Column[Any]]) -> str:
    """Says how many rows there are, where all columns are one value each."""
    return f"{columns[0].table.name}_rows"


def _columns(table: Table, names: Sequence[str]) -> list[Column[Any]]:
    return [table.c[name] for name in names]


def _pg_type(of: Column[Any]) -> str:
    # The collation is a property of the stored column, not of an array sent to it.
    return of.type.compile(dialect=_POSTGRESQL).partition(" COLLATE ")[0]


@lru_cache(maxsize=256)
def _pg_insert(
    table: Table, columns: tuple[str, ...], forms: tuple[Form, ...], *, returning_new: str | None = None
) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    end = f' ON CONFLICT ("{returning_new}") DO NOTHING RETURNING "{returning_new}"' if returning_new else ""
    return (
        f'INSERT INTO "{table.name}" ({names}) SELECT {names} FROM '  # noqa: S608 (names from our own tables)
        f"{given_sql(_columns(table, columns), forms)} AS given ORDER BY place{end}"
    )


@lru_cache(maxsize=256)
def _pg_update(table: Table, columns: tuple[str, ...], forms: tuple[Form, ...]) -> str:
    changes = ", ".join(f'"{name}" = given."{name}"' for name in columns[1:])
    return (
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
