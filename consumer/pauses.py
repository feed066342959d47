"""Pauses: how long to wait before the next try, and waiting that ends early when there is a reason to."""

import asyncio
from collections.abc import Callable, Iterator


def growing_pauses(
    jitter: Callable[[], float], *, first: float = 0.25, most: float = 10.0
) -> Iterator[float]:
    """Give pauses in seconds without end: each twice the last up to `most`, each cut by up to half at random.

    Args:
        jitter: gives a number from 0 to 1.
        first: the first pause before it is cut, seconds.
        most: the longest one, seconds.
    """
    pause = first
    while True:
        yield pause * (0.5 + jitter() / 2)
        pause = min(most, pause * 2)


async def wait_for_any(*events: asyncio.Event, timeout: float) -> None:  # noqa: ASYNC109 - the pause is the point
    """Return when one of the events is set, or after `timeout` seconds."""
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiters, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
