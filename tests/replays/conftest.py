"""A second database beside a test's own."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.parts.databases import temporary_database


@pytest.fixture
async def another_database_url(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[str]:
    """One more database of this test alone, migrated and empty, of the same kind as `database_url`."""
    if dialect == "sqlite":
        path = tmp_path / "another.db"
        shutil.copyfile(request.getfixturevalue("_sqlite_template"), path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    server, template = request.getfixturevalue("postgres_url"), request.getfixturevalue("_postgres_template")
    async with temporary_database(server, template=template) as url:
        yield url.render_as_string(hide_password=False)
