"""The connection to the database: transactions, what may fail, and the clock everyone shares.

Guarantees: a transaction is durable once `transaction()` or `run()` has returned (on SQLite the write-ahead
log is synced with every commit); a failure of the connection is always `DatabaseUnavailable`; data that the
database itself cannot take is always `DataRefused`; neither says a password or a stored value.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, TypeVar
from urllib.parse import quote

import asyncpg
from sqlalchemy import Select, event, func, literal_column, select, text
from sqlalchemy.engine import URL, Connection, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from storage.types import UtcDateTime

T = TypeVar("T")

DialectName = Literal["sqlite", "postgresql"]

#: How often `Database.run` tries a transaction that lost against another one.
TRIES = 5

#: How long a statement waits for another process's write transaction on SQLite, in milliseconds.
_BUSY_TIMEOUT_MS = 30_000

#: How long the server waits for us within a transaction, which never waits for anything itself, in
#: milliseconds.
_IDLE_IN_TRANSACTION_MS = "20000"

#: How long saying good-bye to the server may take.
_CLOSE_WITHIN_S = 3.0

#: SQLSTATE classes of a server that is not there, not ready, out of resources, or broken beneath.
_UNAVAILABLE_CLASSES = frozenset({"08", "28", "3D", "53", "57", "58", "XX"})
#: A connection that ended up on a standby after a failover (25006) serves nothing that writes.
_UNAVAILABLE_STATES = frozenset({"25006", "55P04"})
#: Values out of range, text that cannot be encoded (22...), and rows too wide for an index (54...).
_REFUSED_CLASSES = frozenset({"22", "54"})
_CONFLICT_STATES = frozenset({"40001", "40P01"})

_SQLITE_CONFLICTS = ("database is locked", "database table is locked")
_SQLITE_READ_ONLY = "attempt to write a readonly database"
_SQLITE_UNAVAILABLE = (
    "unable to open database file",
    "disk i/o error",
    "database or disk is full",
    _SQLITE_READ_ONLY,
    "file is not a database",
    "no active connection",
    "connection closed",
)


class DatabaseUnavailable(Exception):  # noqa: N818 (says what is so)
    """The database cannot be reached or cannot serve now; the same work may succeed later.

    After a commit whose answer was lost it is unknown whether the transaction took place: do the work again,
    its identities make it harmless.
    """


class TransactionConflict(DatabaseUnavailable):
    """The transaction lost against another one (deadlock, lock wait) and left nothing behind."""


class DataRefused(Exception):  # noqa: N818 (says what is so)
    """The database cannot store the data itself, now or later: out of range, not encodable, too long.

    A constraint of ours that fails is not meant: that is a defect and surfaces as SQLAlchemy's
    `IntegrityError`.
    """


#: Built once: it is asked with every batch.
_NOW: dict[str, Select[tuple[Any]]] = {
    "postgresql": select(func.clock_timestamp(type_=UtcDateTime())),
    "sqlite": select(literal_column("strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')", UtcDateTime())),
}


async def database_now(tx: AsyncConnection) -> datetime:
    """The database's own clock, which all instances share; it moves on within a transaction."""
    moment = await tx.scalar(_NOW[tx.dialect.name])
    assert isinstance(moment, datetime)
    return moment


#: Where a function of the program gets the time from; tests hand in their own.
Clock: TypeAlias = Callable[[AsyncConnection], Awaitable[datetime]]


class Database:
    """One SQLite file or PostgreSQL database.

    Make it with `Database.connect`; close it with `close`. Safe to share between the tasks of one event loop.
    """

    def __init__(
        self, url: URL, dialect: DialectName, *, writer: AsyncEngine, reader: AsyncEngine, looker: AsyncEngine
    ) -> None:
        self.url = url
        self.dialect: DialectName = dialect
        self._writer = writer
        self._reader = reader
        self._looker = looker
        # SQLite has one writer at a time. Waiting for it here is fair and instant; its own busy handler
        # polls.
        self._turn: AbstractAsyncContextManager[Any] = (
            asyncio.Lock() if dialect == "sqlite" else contextlib.nullcontext()
        )
        self._connections_opened = 0
        event.listen(writer.sync_engine, "connect", self._count_opened)

    def _count_opened(self, _connection: Any, _record: Any) -> None:
        self._connections_opened += 1

    @property
    def connections_opened(self) -> int:
        """How many connections for writing were opened so far.

        As long as it stays the same, the server has not been replaced by one that lacks the last commits, as
        a standby may: what was committed since then and is remembered is as the database has it.
        """
        return self._connections_opened

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        pool_size: int = 10,
        command_timeout: float | None = 60.0,
        read_only: bool = False,
    ) -> Self:
        """Open the database and make sure that it answers.

        Args:
            url: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://user:password@host/name`; the driver
                may be left out.
            pool_size: The connections kept open at most, on PostgreSQL.
            command_timeout: Seconds after which a statement without an answer counts as
                `DatabaseUnavailable`, on PostgreSQL; None waits for good.
            read_only: Let the database itself refuse everything that writes, in `transaction` too. A SQLite
                file that is not there is not made.

        Raises:
            ValueError: The URL is not one of these; the message does not repeat it.
            DatabaseUnavailable: Nothing answers there.
        """
        parsed = parse_url(url)
        if parsed.get_backend_name() == "sqlite":
            opened = _read_only(parsed) if read_only else parsed
            _open_once(opened)
            reader = _sqlite_reader(opened)
            writer = reader if read_only else _sqlite_writer(parsed)
            database = cls(parsed, "sqlite", writer=writer, reader=reader, looker=reader)
        else:
            writer = _postgresql_engine(parsed, pool_size, command_timeout, read_only=read_only)
            reader = writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            looker = writer.execution_options(isolation_level="AUTOCOMMIT")
            database = cls(parsed, "postgresql", writer=writer, reader=reader, looker=looker)
        try:
            await database.ping()
        except BaseException:
            await database.close()
            raise
        return database

    def __repr__(self) -> str:
        return f"Database({self.url.render_as_string(hide_password=True)!r})"

    @property
    def sqlite_path(self) -> Path | None:
        """The file, on SQLite."""
        return Path(self.url.database or "") if self.dialect == "sqlite" else None

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end of the block, rolled back by an exception.

        On PostgreSQL READ COMMITTED; on SQLite the only one that writes, from its first moment. Never wait
        for a broker or an HTTP answer inside.

        Raises:
            DatabaseUnavailable: The connection failed; `TransactionConflict` if another transaction won.
            DataRefused: The database cannot take the data.
        """
        with _told_apart():
            async with self._turn, self._writer.begin() as tx:
                yield tx

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """One snapshot for reading: what others write meanwhile does not show, and writing is refused.

        Raises:
            DatabaseUnavailable: The connection failed.
        """
        with _told_apart(reading=True):
            async with self._reader.begin() as tx:
                yield tx

    @contextlib.asynccontextmanager
    async def looking(self) -> AsyncIterator[AsyncConnection]:
        """For questions that stand for themselves, mostly one: each sees what is committed when it is asked.

        On PostgreSQL without a transaction around them, which would be two round trips more. Not to write
        with: nothing of the block would be undone by an exception.

        Raises:
            DatabaseUnavailable: The connection failed.
        """
        with _told_apart(reading=True):
            async with self._looker.begin() as tx:
                yield tx

    async def run(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do `work` in a transaction, all of it again where another transaction won.

        `work` may be called several times and must keep nothing from a call that failed.

        Raises:
            DatabaseUnavailable: The connection failed, or it lost `TRIES` times.
            DataRefused: The database cannot take the data.
        """
        for tries_left in range(TRIES - 1, -1, -1):
            try:
                async with self.transaction() as tx:
                    return await work(tx)
            except TransactionConflict:
                if not tries_left:
                    raise
        raise AssertionError

    async def ping(self) -> None:
        """Raise DatabaseUnavailable unless the database answers."""
        async with self.looking() as tx:
            await tx.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection, within seconds also where no server answers.

        Transactions in hand are rolled back.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_WITHIN_S if self.dialect == "postgresql" else None):
                await self._writer.dispose()
        if self.dialect == "sqlite":
            await self._reader.dispose()


def parse_url(url: str) -> URL:
    """Read a database URL and settle its driver.

    Raises:
        ValueError: It names neither SQLite nor PostgreSQL, another driver, or an in-memory database.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        driver = parsed.drivername.partition("+")[2]
    except (ArgumentError, ValueError):
        raise ValueError("the database URL cannot be read") from None
    wanted = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}.get(backend)
    if wanted is None or driver not in ("", wanted):
        raise ValueError("the database URL must begin with sqlite+aiosqlite:// or postgresql+asyncpg://")
    if backend == "sqlite" and (parsed.database or ":memory:").startswith((":memory:", "file::memory:")):
        raise ValueError("an in-memory SQLite database keeps nothing: the database URL must name a file")
    return parsed.set(drivername=f"{backend}+{wanted}")


def _read_only(url: URL) -> URL:
    # SQLite takes such options in a URI alone, where some characters of a path have another meaning.
    path = quote(str(Path(url.database or "").absolute()))
    return url.set(database=f"file:{path}", query={"mode": "ro", "uri": "true"})


def _open_once(url: URL) -> None:
    # The asynchronous driver leaves a thread behind where a file cannot be opened.
    is_uri = "uri" in url.query
    try:
        connection = sqlite3.connect(f"{url.database}?mode=ro" if is_uri else url.database or "", uri=is_uri)
        connection.close()
    except sqlite3.OperationalError as error:
        raise DatabaseUnavailable(f"the database cannot serve: {error}") from None


def _sqlite_writer(url: URL) -> AsyncEngine:
    engine = create_async_engine(url, hide_parameters=True)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # The driver would begin transactions by itself, deferred, and upgrade them later: two of them could
        # then each hold a read lock that the other one's write waits for.
        connection.isolation_level = None
        _pragmas(
            connection,
            f"busy_timeout = {_BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            # NORMAL may lose the last commits on power loss, after the offsets have been committed to Kafka.
            "synchronous = FULL",
            "foreign_keys = ON",
        )

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _sqlite_reader(url: URL) -> AsyncEngine:
    engine = create_async_engine(url, hide_parameters=True)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        _pragmas(connection, f"busy_timeout = {_BUSY_TIMEOUT_MS}", "query_only = ON")

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _pragmas(connection: Any, *pragmas: str) -> None:
    cursor = connection.cursor()
    for pragma in pragmas:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _postgresql_engine(
    url: URL, pool_size: int, command_timeout: float | None, *, read_only: bool = False
) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        # The connection used last is the one whose statements are prepared and whose server process is warm.
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={
            "timeout": 10,
            "command_timeout": command_timeout,
            "server_settings": {
                "application_name": "quartermaster",
                "timezone": "UTC",
                # Whoever lost us without a word keeps our locks no longer than this: else a transaction that
                # was open on a dead connection would hold up everybody until the kernel finds out, in hours.
                "idle_in_transaction_session_timeout": _IDLE_IN_TRANSACTION_MS,
                # One that was lost between the parts of a statement is not idle to the server. What we give
                # up, it gives up as well, and the locks with it.
                "statement_timeout": str(int((command_timeout or 0) * 1000)),
                # Where nobody answers at the other end, it finds out within half a minute, not in hours.
                "tcp_keepalives_idle": "15",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
                "default_transaction_isolation": "read committed",
                "default_transaction_read_only": "on" if read_only else "off",
                # A generic plan made while a table was empty would be kept for the life of the connection.
                "plan_cache_mode": "force_custom_plan",
                # Arrays are guessed at; compiling a plan over a wrong guess costs more than the statement.
                "jit": "off",
            },
        },
    )

    @event.listens_for(engine.sync_engine, "handle_error")
    def lost(context: ExceptionContext) -> None:
        # A connection that may be dead is asked nothing more, not even to roll back; nor are those that stood
        # beside it: after a fail-over each of them would be found dead by a wait of its own.
        if isinstance(context.original_exception, TimeoutError):
            context.is_disconnect = True
            context.invalidate_pool_on_disconnect = True

    @event.listens_for(engine.sync_engine, "close")
    def close(connection: Any, _record: Any) -> None:
        # The driver's own way to close waits for the server without a limit. This one gives it a moment.
        connection.terminate()

    return engine


@contextlib.contextmanager
def _told_apart(*, reading: bool = False) -> Iterator[None]:
    """Turn what drivers raise into the errors of this module; whatever else is raised passes through."""
    try:
        yield
    except (StatementError, PoolTimeoutError, OSError, UnicodeEncodeError, OverflowError) as error:
        translated = _translate(error)
        # A write while reading is a defect of ours, not a server that has become a standby.
        if translated is None or (reading and _is_refused_write(error)):
            raise
        # The driver's message may show stored values or the address with its password.
        raise translated from None
    except asyncpg.PostgresError as error:
        translated = _of_state(error.sqlstate, type(error).__name__)
        if translated is None:
            raise
        raise translated from None
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise DatabaseUnavailable(f"the database connection failed: {type(error).__name__}") from None


def _is_refused_write(error: Exception) -> bool:
    origin = getattr(error, "orig", None)
    return getattr(origin, "sqlstate", None) == "25006" or _SQLITE_READ_ONLY in str(origin)


def _translate(error: Exception) -> Exception | None:
    if isinstance(error, PoolTimeoutError):
        return DatabaseUnavailable("every database connection is in use")
    if isinstance(error, OSError):
        return DatabaseUnavailable(f"the database connection failed: {_of_os(error)}")
    if isinstance(error, UnicodeEncodeError | OverflowError):
        return DataRefused(f"the database cannot store a value: {type(error).__name__}")
    if isinstance(error, DBAPIError):
        return _of_driver(error)
    origin = error.orig if isinstance(error, StatementError) else None
    if isinstance(origin, Exception) and not isinstance(origin, StatementError):
        return _translate(origin)
    return None


def _of_driver(error: DBAPIError) -> Exception | None:
    origin = error.orig
    if isinstance(origin, UnicodeEncodeError | OverflowError | OSError):
        return _translate(origin)
    cause = getattr(origin, "__cause__", None)
    state = getattr(origin, "sqlstate", None)
    name = type(cause or origin).__name__
    if isinstance(cause, asyncpg.InvalidCachedStatementError):
        # Somebody migrated beside us; the statements are prepared anew the next time.
        return TransactionConflict(f"the tables changed: {name}")
    if isinstance(cause, asyncpg.DataError):
        return DataRefused(f"the database cannot store a value: {name}")
    if state is not None:
        return _of_state(state, name)
    if error.connection_invalidated or (isinstance(cause, asyncpg.InterfaceError) and "closed" in str(cause)):
        return DatabaseUnavailable(f"the database connection failed: {name}")
    return _of_sqlite(str(origin), name)


def _of_state(state: str | None, name: str) -> Exception | None:
    state = state or ""
    if state in _CONFLICT_STATES:
        return TransactionConflict(f"another transaction won: {name}")
    if state[:2] in _UNAVAILABLE_CLASSES or state in _UNAVAILABLE_STATES:
        return DatabaseUnavailable(f"the database cannot serve: {name}")
    if state[:2] in _REFUSED_CLASSES:
        return DataRefused(f"the database cannot store a value: {name}")
    return None


def _of_sqlite(message: str, name: str) -> Exception | None:
    lowered = message.lower()
    if any(sign in lowered for sign in _SQLITE_CONFLICTS):
        return TransactionConflict("another process holds the database")
    if any(sign in lowered for sign in _SQLITE_UNAVAILABLE):
        return DatabaseUnavailable(f"the database cannot serve: {lowered}")
    if name == "DataError" or "too big" in lowered:
        return DataRefused("the database cannot store a value: too big")
    return None


def _of_os(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or type(error).__name__
