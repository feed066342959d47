"""Edges: the moments at which a process touches the world, and who decides when they come.

An edge has a name and an effect. The effect is one step of the world; the process goes on after it, or not.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from tests.simulation.loop import Killed, SimLoop, SimProcess, nobody

T = TypeVar("T")

LITELLM = "litellm"
LATE_BY_S = 3.0
"""How long after its caller's death a call may still take effect at LiteLLM."""


class Edge(Protocol):
    """What a port awaits at each edge: runs the effect at a moment of the harness's choosing, or never."""

    async def __call__(self, name: str, effect: Callable[[], T]) -> T: ...


class Conductor(Protocol):
    """Decides when each edge happens."""

    async def edge(self, process: SimProcess, name: str, effect: Callable[[], T]) -> T: ...

    def moment(self, process: SimProcess, name: str, effect: Callable[[], T]) -> T:
        """An edge that can't be waited for: it happens at once, or the process dies at it."""


class Death(StrEnum):
    """How a process dies at an edge."""

    BEFORE = "before"
    AFTER = "after"
    LATE = "late"
    """The call is under way: it takes effect when its caller is long dead."""


@dataclass(frozen=True, slots=True)
class Passed:
    """An edge that was passed."""

    number: int
    process: str
    name: str
    at: float


async def for_ever() -> None:
    """Wait for what never comes: where a dead process stops."""
    await asyncio.get_running_loop().create_future()


class Straight:
    """Lets every edge happen when it comes, counts them, and kills at those of the plan."""

    def __init__(
        self, loop: SimLoop, deaths: Mapping[int, Death], on_death: Callable[[SimProcess], None]
    ) -> None:
        self._loop = loop
        self._deaths = deaths
        self._on_death = on_death
        self.passed: list[Passed] = []
        self.on_passed: Callable[[Passed], None] = lambda _passed: None

    async def edge(self, process: SimProcess, name: str, effect: Callable[[], T]) -> T:
        if process.dead:
            await for_ever()
        death = self._pass(process, name)
        if death in {Death.BEFORE, Death.LATE}:
            if death is Death.LATE:
                self._loop.call_later(LATE_BY_S, effect, context=nobody())
            self._kill(process)
            await for_ever()
        try:
            result = effect()
        finally:
            if death is Death.AFTER:
                self._kill(process)
        if process.dead:
            await for_ever()
        await asyncio.sleep(0)
        return result

    def moment(self, process: SimProcess, name: str, effect: Callable[[], T]) -> T:
        if process.dead:
            raise Killed
        death = self._pass(process, name)
        if death is Death.BEFORE:
            self._kill(process)
            raise Killed
        result = effect()
        if death is Death.AFTER:
            self._kill(process)
            raise Killed
        return result

    def _pass(self, process: SimProcess, name: str) -> Death | None:
        passed = Passed(len(self.passed), process.name, name, self._loop.now)
        self.passed.append(passed)
        self.on_passed(passed)
        return self._deaths.get(passed.number)

    def _kill(self, process: SimProcess) -> None:
        process.kill()
        self._on_death(process)
