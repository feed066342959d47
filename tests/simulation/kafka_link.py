"""How simulated clients reach the simulated broker: requests that happen at edges, and what befalls them."""

import asyncio
import copy
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar, cast

from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError
from aiokafka.structs import TopicPartition

from tests.simulation.edges import Edge

T = TypeVar("T")

RETRY_BACKOFF_S = 0.1
"""How long aiokafka waits before it asks again."""


async def at_once(name: str, effect: Callable[[], T]) -> T:
    """The edge of a world without a harness."""
    return effect()


class Request(StrEnum):
    """What a client asks of the broker."""

    FETCH = "kafka.fetch"
    COMMIT = "kafka.commit"
    PRODUCE = "kafka.produce"
    JOIN = "kafka.join"
    LEAVE = "kafka.leave"
    HEARTBEAT = "kafka.heartbeat"
    METADATA = "kafka.metadata"
    OFFSETS = "kafka.offsets"
    PRODUCER_ID = "kafka.producer-id"


EDGES = frozenset({Request.FETCH, Request.COMMIT, Request.PRODUCE, Request.JOIN, Request.LEAVE})
"""Those that change the world, or bring something of it into a process."""


@dataclass(slots=True)
class Fault:
    """What befalls the next requests of a kind.

    Attributes:
        request: The kind.
        after: Whether the request takes effect and only its answer is lost.
        error: What the client gets; None: no answer, until its own patience ends.
        times: How many more requests it befalls.
        member: Whose requests; None: anybody's.
        partition: Requests about this partition; None: about any.
    """

    request: Request
    after: bool = False
    error: KafkaError | None = None
    times: int = 1
    member: str | None = None
    partition: TopicPartition | None = None

    def befalls(self, request: Request, member: str, about: Iterable[TopicPartition]) -> bool:
        return (
            self.times > 0
            and self.request is request
            and self.member in {None, member}
            and (self.partition is None or self.partition in about)
        )


class Reach(StrEnum):
    """Whether the broker can be reached."""

    UP = "up"
    DOWN = "down"
    """Connections are refused."""
    SILENT = "silent"
    """Requests are lost on the way."""


class Line:
    """The way to the broker: whether it leads there, and the faults that lie in wait on it."""

    def __init__(self) -> None:
        self.reach = Reach.UP
        self.faults: list[Fault] = []

    @property
    def is_up(self) -> bool:
        return self.reach is Reach.UP

    def take_fault(self, request: Request, member: str, about: Iterable[TopicPartition]) -> Fault | None:
        for fault in self.faults:
            if fault.befalls(request, member, about):
                fault.times -= 1
                return fault
        return None


_SILENCE = object()


class Link:
    """One client's connection.

    Args:
        line: The way to the broker.
        edge: Where requests happen.
        member: Whose it is.
        timeout_s: How long the client waits for an answer.
    """

    def __init__(self, line: Line, edge: Edge, *, member: str, timeout_s: float) -> None:
        self._line = line
        self._edge = edge
        self._member = member
        self._timeout_s = timeout_s
        self.gone = False

    @property
    def is_up(self) -> bool:
        return self._line.is_up and not self.gone

    async def ask(
        self,
        request: Request,
        effect: Callable[[], T],
        *,
        about: Iterable[TopicPartition] = (),
        timeout_s: float | None = None,
    ) -> T:
        """Have the effect happen at the broker, and give the answer.

        Args:
            request: What is asked for.
            effect: What it does at the broker.
            about: The partitions it is about.
            timeout_s: How long to wait for an answer that is lost; None: as long as this client does.

        Raises:
            KafkaError: The broker's refusal, or a fault; what was asked for may have happened all the same.
        """
        about = tuple(about)

        def happen() -> Any:
            return self._happen(request, effect, about)

        answer = await self._edge(request.value, happen) if request in EDGES else happen()
        if self.gone:
            await asyncio.get_running_loop().create_future()
        if answer is _SILENCE:
            await asyncio.sleep(self._timeout_s if timeout_s is None else timeout_s)
            raise RequestTimedOutError
        return cast("T", answer)

    async def moment(self, name: str) -> None:
        """An edge without a request: an answer comes in."""
        await self._edge(name, lambda: None)

    def _happen(self, request: Request, effect: Callable[[], T], about: Iterable[TopicPartition]) -> Any:
        """The request arrives, or what becomes of it on its way."""
        if self.gone or self._line.reach is Reach.SILENT:
            return _SILENCE
        if self._line.reach is Reach.DOWN:
            raise KafkaConnectionError("Connection refused")
        fault = self._line.take_fault(request, self._member, about)
        if fault is None:
            return effect()
        if fault.after:
            effect()
        if fault.error is None:
            return _SILENCE
        raise copy.copy(fault.error)


class Bell:
    """Wakes those who wait for anything to change, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def ring(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the next ring; False where the time ran out before."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            rung, _ = await asyncio.wait([waiter], timeout=timeout_s)
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
        return bool(rung)


def later(delay_s: float, call: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
    """A timer of the broker's own: it belongs to no process, whichever asked for it."""
    return asyncio.get_running_loop().call_later(delay_s, call, *arguments, context=Context())
