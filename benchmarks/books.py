"""Databases for a run: one made ready as a template, and a copy of it for each program.

A figure counts only where the books it made are right: `verify` says so.
"""

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.transactions import grant_id
from storage import ledger, organizations, outbox, tables
from storage.database import Database
from storage.ledger import EntryKind, LedgerEntry
from storage.migrations import migrate
from storage.organizations import OrgProfile

CREDITS = 10**9
"""What every organization has: enough for every job."""
_LEFT_BEHIND = (
    tables.identities,
    tables.ledger_entries,
    tables.outcomes,
    tables.outbox,
    tables.inbox,
    tables.dead_letters,
)


class WrongBooks(Exception):  # noqa: N818 - says what is so
    """A program left books that do not balance, or not all of what it was given."""


@dataclass(frozen=True, slots=True)
class Template:
    """A database in which organizations are active, and how copies of it are made.

    Attributes:
        url: The template, as our settings take it.
        server: The maintenance database of its server; None: it is a SQLite file.
    """

    url: URL
    server: URL | None

    @contextlib.asynccontextmanager
    async def copy(self) -> AsyncIterator[str]:
        """Give a copy, removed at the end."""
        if self.server is None:
            assert self.url.database is not None
            with tempfile.TemporaryDirectory(prefix="qm-bench-") as folder:
                file = Path(folder) / "books.db"
                shutil.copyfile(self.url.database, file)
                yield self.url.set(database=str(file)).render_as_string()
            return
        name = _new_name()
        await administer(self.server, f"CREATE DATABASE {name} TEMPLATE {self.url.database}")
        try:
            yield self.server.set(database=name).render_as_string(hide_password=False)
        finally:
            await administer(self.server, f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.asynccontextmanager
async def sqlite_template(org_ids: Sequence[str]) -> AsyncIterator[Template]:
    """Make a SQLite file in which these organizations are active."""
    with tempfile.TemporaryDirectory(prefix="qm-bench-") as folder:
        url = make_url(f"sqlite+aiosqlite:///{Path(folder) / 'template.db'}")
        await make_ready(url, org_ids)
        yield Template(url, None)


@contextlib.asynccontextmanager
async def postgresql_template(address: str, org_ids: Sequence[str]) -> AsyncIterator[Template]:
    """Make a PostgreSQL database in which these organizations are active."""
    async with empty_database(address) as url:
        await make_ready(url, org_ids)
        yield Template(url, make_url(address).set(drivername="postgresql+asyncpg"))


@contextlib.asynccontextmanager
async def empty_database(address: str) -> AsyncIterator[URL]:
    """Give a new PostgreSQL database on this server, dropped at the end."""
    server = make_url(address).set(drivername="postgresql+asyncpg")
    name = _new_name()
    await administer(server, f"CREATE DATABASE {name}")
    try:
        yield server.set(database=name)
    finally:
        await administer(server, f"DROP DATABASE {name} WITH (FORCE)")


async def administer(server: URL, command: str) -> None:
    """Run one command on a server's maintenance database, outside a transaction."""
    connection = await asyncpg.connect(plain(server))
    try:
        await connection.execute(command)
    finally:
        await connection.close()


def plain(url: URL) -> str:
    """Return a URL as the drivers themselves take it, password included."""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)


async def make_ready(url: URL, org_ids: Sequence[str]) -> None:
    """Migrate a database and make these organizations active, each with `CREDITS` credits."""
    database = await Database.connect(url.render_as_string(hide_password=False))
    try:
        await migrate(database)
        async with database.transaction() as tx:
            await _activate(tx, org_ids)
    finally:
        await database.close()


async def _activate(tx: AsyncConnection, org_ids: Sequence[str]) -> None:
    now = datetime.now(UTC)
    states = await organizations.lock(tx, org_ids)
    active = [await organizations.activate(tx, states[org], _profile(org, now)) for org in org_ids]
    await ledger.append(tx, [_grant(org, now) for org in org_ids])
    await organizations.save(tx, [state._replace(balance=CREDITS, entries=1) for state in active])


def _profile(org: str, now: datetime) -> OrgProfile:
    return OrgProfile(
        org_id=org,
        name=org,
        owner_user_id="owner",
        team_id=org,
        adopted=False,
        max_budget_usd=None,
        models=(),
        metadata=None,
        provisioned_at=now,
    )


def _grant(org: str, now: datetime) -> LedgerEntry:
    return LedgerEntry(
        transaction_id=grant_id(org),
        org_id=org,
        entry=1,
        kind=EntryKind.GRANT,
        credits=CREDITS,
        balance_after=CREDITS,
        sequence=None,
        job_id=None,
        reason=None,
        corrects=None,
        created_at=now,
    )


async def verify(url: str, *, charges: int, others: int, unpublished: int = 0) -> None:
    """Prove the books: they balance, every event is charged once, no more than this is left to be published.

    Raises:
        WrongBooks: They don't.
    """
    database = await Database.connect(url)
    try:
        async with database.reading() as tx:
            verification = await ledger.verify(tx)
            pending = await outbox.count_pending(tx)
    finally:
        await database.close()
    if not verification.ok:
        raise WrongBooks(f"the books do not balance: {verification.problems[:3]}")
    if verification.entries != charges + others:
        raise WrongBooks(f"{verification.entries - others} charges instead of {charges}")
    if pending != unpublished:
        raise WrongBooks(f"{pending} outcomes are not published, instead of {unpublished}")


async def counts(url: str) -> dict[str, int]:
    """Count the rows of every table in which an event can leave something."""
    database = await Database.connect(url)
    try:
        async with database.reading() as tx:
            return {
                table.name: await tx.scalar(select(func.count()).select_from(table)) or 0
                for table in _LEFT_BEHIND
            }
    finally:
        await database.close()


def _new_name() -> str:
    return f"bench_{uuid.uuid4().hex[:10]}"
