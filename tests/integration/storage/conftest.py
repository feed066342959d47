"""What the storage tests need beside the databases: counted statements, and a port nobody listens on."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

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
