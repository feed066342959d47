"""How these programs end: when they are told to."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine


def until_told(work: Coroutine[None, None, None]) -> None:
    """Run until SIGTERM, which ends it in order."""

    async def run() -> None:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
