"""Databases that belong to one test: a SQLite file, or a database of its own on the PostgreSQL server."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg
from sqlalchemy.engine import URL, make_url

from storage.database import Database
from storage.migrations import migrate
from tests.parts.choice import POSTGRES, Source
from tests.parts.images import image_of


@contextlib.contextmanager
def postgres() -> Iterator[URL]:
    """The chosen server: the address of its maintenance database, as a user who may create databases."""
    if POSTGRES.source is Source.GIVEN:
        yield make_url(str(POSTGRES.given)).set(drivername="postgresql+asyncpg")
        return
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - only with Docker

    with PostgresContainer(image_of("postgres"), driver="asyncpg") as container:
        yield make_url(container.get_connection_url())


@contextlib.asynccontextmanager
async def temporary_database(server: URL, *, template: str | None = None) -> AsyncIterator[URL]:
    """A new database, empty or a copy of the template; dropped at the end, whoever is still connected."""
    url = await create_database(server, template=template)
    try:
        yield url
    finally:
        await drop_database(url, server)


async def create_database(server: URL, *, template: str | None = None) -> URL:
    """A new database, empty or a copy of the template, under a name of its own."""
    name = f"qm_test_{uuid.uuid4().hex[:12]}"
    # Byte order, so that a test's text sorts the same on every machine.
    source = f"template {template}" if template else "template template0 encoding 'UTF8' locale 'C'"
    await administer(server, f"create database {name} {source}")
    return server.set(database=name)


async def drop_database(url: URL, server: URL) -> None:
    """Drops it, whoever is still connected."""
    await administer(server, f"drop database if exists {url.database} with (force)")


async def administer(server: URL, command: str) -> None:
    """One command on the maintenance database, outside a transaction."""
    connection = await asyncpg.connect(plain(server))
    try:
        await connection.execute(command)
    finally:
        await connection.close()


async def migrated(url: str) -> None:
    """Brings the database to the newest schema."""
    database = await Database.connect(url)
    try:
        await migrate(database)
    finally:
        await database.close()


def plain(url: URL) -> str:
    """The URL as text, password included, without SQLAlchemy's driver."""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)
