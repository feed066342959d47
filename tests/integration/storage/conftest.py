"""What the storage tests need beside the databases: counted statements, and a port nobody listens on."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import Database


@pytest.fixture
async def tx(database: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction that is committed at the end of the test."""
    async with database.transaction() as transaction:
        yield transaction


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def statements() -> Callable[[AsyncConnection], AbstractContextManager[list[str]]]:
    """``with statements(tx) as sent``: the statements sent within the block."""

    @contextmanager
    def counting(tx: AsyncConnection) -> Iterator[list[str]]:
        sent: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            sent.append(statement)

        event.listen(tx.sync_connection, "before_cursor_execute", note)
        try:
            yield sent
        finally:
            event.remove(tx.sync_connection, "before_cursor_execute", note)

    return counting


@pytest.fixture
def explain() -> Callable[[AsyncConnection, Callable[[], Awaitable[object]]], Awaitable[str]]:
    """``await explain(tx, lambda: ...)``: PostgreSQL's plans of the statements sent meanwhile."""

    async def explaining(tx: AsyncConnection, work: Callable[[], Awaitable[object]]) -> str:
        sent: list[tuple[str, Any]] = []

        def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
            sent.append((statement, parameters))

        event.listen(tx.sync_connection, "before_cursor_execute", note)
        try:
            await work()
        finally:
            event.remove(tx.sync_connection, "before_cursor_execute", note)
        plans = [
            await tx.exec_driver_sql(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement}", parameters)
            for statement, parameters in sent
        ]
        return "\n".join(line for plan in plans for line in plan.scalars())

    return explaining
