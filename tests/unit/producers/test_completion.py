import asyncio

import pytest

from producers.completion import to_its_end


async def test_work_gives_its_result() -> None:
    async def work() -> int:
        return 7

    assert await to_its_end(work()) == 7


async def test_a_cancellation_waits_for_the_work() -> None:
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()
        ended.set()

    task = asyncio.ensure_future(to_its_end(work()))
    await begun.wait()
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_cancellation_does_not_wait_for_ever() -> None:
    begun = asyncio.Event()
    go_on = asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()
        raise RuntimeError("nobody asks any more")

    task = asyncio.ensure_future(to_its_end(work(), within_s=0))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
