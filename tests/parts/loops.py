"""Loops of their own for what lives as long as the test session.

A test's loop ends with the test; whatever a session fixture makes must not hang on the first one's.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end on a loop and thread of its own."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()


@contextlib.contextmanager
def held_apart(manager: contextlib.AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Holds an asynchronous context open on a loop and thread of its own, and gives what it gives."""
    opened: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, T]] = Future()

    async def hold() -> None:
        close = asyncio.Event()
        async with manager as value:
            opened.set_result((asyncio.get_running_loop(), close, value))
            await close.wait()

    def run() -> None:
        try:
            asyncio.run(hold())
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)

    thread = threading.Thread(target=run, name="held-apart")
    thread.start()
    try:
        loop, close, value = opened.result()
        try:
            yield value
        finally:
            loop.call_soon_threadsafe(close.set)
    finally:
        thread.join()
