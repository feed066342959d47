"""The publisher's producers, which fail and are replaced; what it does on a broker is tested on one."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from producers import publisher as module
from producers.kafka_client import KafkaConnection
from producers.publisher import NotPublished, Publisher

EVENT = {"type": "user.joined", "data": {"org_id": "acme", "user_id": "ann"}}


class Producer:
    """Hands out futures that the test resolves."""

    def __init__(self) -> None:
        self.sent: list[asyncio.Future[Any]] = []

    async def send(self, *_record: Any, **_options: Any) -> "asyncio.Future[Any]":
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[-1]


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the others need a few turns, and no time
        await asyncio.sleep(0)


async def test_a_late_failure_of_a_replaced_producer_leaves_its_successor_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Producer] = []
    discarded: list[Producer] = []

    def make(*_connection: Any, **_options: Any) -> Producer:
        made.append(Producer())
        return made[-1]

    async def nothing(*_arguments: Any) -> int:
        return 1

    async def discard(producer: Producer) -> None:
        discarded.append(producer)

    monkeypatch.setattr(module, "make_producer", make)
    monkeypatch.setattr(module, "start_producer", nothing)
    monkeypatch.setattr(module, "look_up", nothing)
    monkeypatch.setattr(module, "discard", discard)

    async with Publisher(KafkaConnection(bootstrap_servers="localhost:9092")) as publisher:
        first, second = (asyncio.ensure_future(publisher.publish(EVENT)) for _ in range(2))
        await until(lambda: made and len(made[0].sent) == 2)
        made[0].sent[0].set_exception(TimeoutError())
        with pytest.raises(NotPublished):
            await first
        third = asyncio.ensure_future(publisher.publish(EVENT))
        await until(lambda: len(made) == 2 and made[1].sent)
        made[0].sent[1].set_exception(TimeoutError())
        with pytest.raises(NotPublished):
            await second

        assert discarded == [made[0]]
        third.cancel()
        await asyncio.wait([third])
