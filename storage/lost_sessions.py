"""Sessions of ours on PostgreSQL whose client was lost in the middle of a statement.

A statement is sent in parts: the server has prepared it, and waits for what it is to be executed with. If
that never comes, the session is not idle to the server, and no time-out of its own ends it: its transaction
keeps its locks until the kernel finds out that nobody is there, which may take hours, or for ever behind a
wire that stays open.
"""

from datetime import timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.bulk import on_postgresql

LOST_AFTER: Final = timedelta(seconds=20)
"""Between two parts of a statement a living client takes milliseconds."""

_END: Final = text(
    """
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
    FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = 'quartermaster'
        AND state = 'active' AND wait_event_type = 'Client' AND wait_event = 'ClientRead'
        AND state_change < clock_timestamp() - CAST(:lost_after AS interval)
    """
)


async def end_lost_sessions(tx: AsyncConnection, *, lost_after: timedelta = LOST_AFTER) -> int:
    """End the sessions in this database that any instance of ours has lost so; their transactions roll back.

    Returns:
        How many there were; on SQLite there are none.
    """
    if not on_postgresql(tx):
        return 0
    return int(await tx.scalar(_END, {"lost_after": lost_after}) or 0)
