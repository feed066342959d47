"""SQLite under the production's database code, in the loop's own thread: each statement is an edge.

The files are real ones, and so is every statement; only the driver's thread is left out, and the waiting for
another connection's write transaction happens in the simulated time.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import aiosqlite

from tests.simulation.edges import Edge
from tests.simulation.loop import PROCESS, Killed, SimProcess

_EDGES = {"execute", "executemany"}
_ENDS = {"commit", "rollback"}
_BEGIN = "BEGIN IMMEDIATE"


class SimFile:
    """A database file: who writes to it now, and who waits to."""

    def __init__(self) -> None:
        self.writer: InlineConnection | None = None
        self.waiting: list[asyncio.Future[None]] = []
        self.commits = 0

    def release(self, connection: "InlineConnection") -> None:
        if self.writer is connection:
            self.writer = None
            waiting, self.waiting = self.waiting, []
            for one in waiting:
                if not one.done():
                    one.set_result(None)


class _InlineQueue:
    """Where the driver's thread would take its orders from."""

    def put_nowait(self, order: tuple[asyncio.Future[Any] | None, Any]) -> None:
        future, function = order
        result = function()
        if future is not None:
            future.set_result(result)


class InlineConnection(aiosqlite.Connection):
    """A connection without a thread."""

    def __init__(self, connector: Any, file: SimFile, process: SimProcess, edge: Edge) -> None:
        self._running = True
        self._connection = None
        self._connector = connector
        self._iter_chunk_size = 64
        self._tx = _InlineQueue()  # type: ignore[assignment]
        self._thread = SimpleNamespace(daemon=True)  # type: ignore[assignment]
        self._file = file
        self._process = process
        self._edge = edge
        process.on_death.append(self._close)

    def __del__(self) -> None:
        """Its process has closed it, or is dead."""

    def _close(self) -> None:
        self._running = False
        raw, self._connection = self._connection, None
        if raw is not None:
            # Closed alone, it would keep its lock for as long as a cursor of it is referred to.
            raw.rollback()
            raw.close()
        self._file.release(self)

    def stop(self) -> None:
        self._close()

    def __await__(self) -> Any:
        return self._connect().__await__()

    async def _connect(self) -> "InlineConnection":
        if self._connection is None:
            self._connection = self._connector()
        return self

    async def close(self) -> None:
        self._close()

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        if self._process.dead:
            raise Killed
        if not self._running or self._connection is None:
            raise ValueError("Connection closed")
        name = self._name_of(fn, args)
        if name is None or (name in _ENDS and not self._connection.in_transaction):
            return fn(*args, **kwargs)
        if args and args[0] == _BEGIN:
            while self._file.writer is not None:
                turn = asyncio.get_running_loop().create_future()
                self._file.waiting.append(turn)
                await turn
            self._file.writer = self

        def effect() -> Any:
            try:
                return fn(*args, **kwargs)
            finally:
                if name in _ENDS:
                    if name == "commit" and self._file.writer is self:
                        self._file.commits += 1
                    self._file.release(self)

        return await self._edge(f"database.{name}", effect)

    @staticmethod
    def _name_of(fn: Any, args: tuple[Any, ...]) -> str | None:
        """What this call is to the world; None: a step inside the driver, or one that sets it up."""
        called = fn.__name__
        if called in _ENDS:
            return str(called)
        if called not in _EDGES or args[0].startswith("PRAGMA"):
            return None
        return "begin" if args[0].startswith("BEGIN") else "statement"


@contextlib.contextmanager
def inline_sqlite(file: SimFile, edge_of: Any) -> Iterator[None]:
    """Have the driver connect without threads, each connection under the process that asks for it."""

    def connect(database: str, **options: Any) -> InlineConnection:
        process = PROCESS.get()
        assert process is not None, "only simulated processes connect"
        return InlineConnection(lambda: sqlite3.connect(database, **options), file, process, edge_of(process))

    original = aiosqlite.connect
    aiosqlite.connect = connect  # type: ignore[assignment]
    try:
        yield
    finally:
        aiosqlite.connect = original
