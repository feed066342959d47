"""Work that a cancellation must not cut in half."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_its_end(work: Coroutine[Any, Any, T], *, within_s: float = 1.0) -> T:
    """Do something, and let it end by itself also where we are cancelled meanwhile.

    A transaction cut off in the middle can leave its connection, and on SQLite the lock of the whole file, to
    the garbage collector; a Kafka client cut off while it connects or closes leaves its connections.

    Args:
        work: What to do.
        within_s: How long a cancellation waits for it, in seconds; after that it goes on unobserved.

    Raises:
        asyncio.CancelledError: We were cancelled, once the work has ended or the time is up.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(look_at)
        await asyncio.wait([task], timeout=within_s)
        raise


def look_at(future: asyncio.Future[Any]) -> None:
    """Take note of a result that nobody waits for; the loop would log an error that nobody looks at."""
    with contextlib.suppress(asyncio.CancelledError):
        future.exception()
