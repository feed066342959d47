import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumer import lost_sessions
from consumer.lost_sessions import LostSessions
from storage.database import DatabaseUnavailable


class Database:
    """Answers nothing but that it is asked."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect

    @contextlib.asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        yield None


async def run(database: Any, looks: Iterator[int | Exception], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Run until the looks are used up; give what was logged."""
    stop = asyncio.Event()

    async def end(_tx: object) -> int:
        found = next(looks, None)
        if found is None:
            stop.set()
            return 0
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(lost_sessions, "end_lost_sessions", end)
    monkeypatch.setattr(lost_sessions, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(lost_sessions, "LOOK_AGAIN_S", 0.0)
    with capture_logs() as logs:
        async with asyncio.timeout(10):
            await LostSessions(database).run(stop)
    return logs


async def test_what_was_lost_is_told_and_a_database_that_is_away_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = iter([0, DatabaseUnavailable("away"), 2])

    (told,) = await run(Database("postgresql"), looks, monkeypatch)

    assert (told["event"], told["count"]) == ("lost_sessions_ended", 2)


async def test_a_file_has_no_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([1])
    stop = asyncio.Event()
    stop.set()
    monkeypatch.setattr(lost_sessions, "end_lost_sessions", lambda _tx: next(looks))

    await LostSessions(Database("sqlite")).run(stop)  # type: ignore[arg-type]

    assert next(looks) == 1
