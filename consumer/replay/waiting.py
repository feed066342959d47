"""Waiting until running instances have done what follows from a replay, or from another round."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from consumer.pauses import wait_for_any
from consumer.replay.running import patiently
from schemas.outcomes import Origin
from storage import inbox
from storage.database import Database
from storage.inbox import WaitReason

LOOK_EVERY_S: Final = 0.5


async def wait_until_decided(
    database: Database,
    origin: Origin,
    *,
    stop: asyncio.Event,
    on_progress: Callable[[Mapping[WaitReason, int]], None],
    look_every_s: float = LOOK_EVERY_S,
) -> int:
    """Wait until no event of this origin waits for anything; it may have failed.

    Args:
        database: The books.
        origin: How the events came; those of other replays are waited for, too.
        stop: Ends the wait.
        on_progress: Told now and then what waits, by reason.
        look_every_s: Seconds between two looks.

    Returns:
        How many still wait: 0, unless `stop` was set.

    Raises:
        DatabaseUnavailable: It has been away for a minute.
    """

    async def read() -> Mapping[WaitReason, int]:
        async with database.reading() as tx:
            return await inbox.waiting_of_origin(tx, origin)

    while True:
        waiting = await patiently(read)
        on_progress(waiting)
        if stop.is_set() or not waiting:
            return sum(waiting.values())
        await wait_for_any(stop, timeout=look_every_s)
