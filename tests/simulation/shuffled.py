"""A conductor that lets processes go on in an order drawn from a seed, and has things befall them.

What a process waits for at an edge is done by the world when it is chosen: a frozen process's request may be
served while it sleeps, and its caller learns of it late.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.simulation.edges import LATE_BY_S, LITELLM, for_ever
from tests.simulation.loop import Killed, SimLoop, SimProcess, nobody

T = TypeVar("T")

_UNSEEN = {"database.statement", "clock"}
"""No other process can tell when these happen: a transaction's snapshot and its lock stand from its first
statement on, and what it wrote shows at its commit."""


@dataclass(eq=False, slots=True)
class Parked:
    """A process that waits at an edge."""

    process: SimProcess
    name: str
    effect: Callable[[], Any]
    future: asyncio.Future[Any]
    not_before: float = 0.0

    @property
    def in_flight(self) -> bool:
        """Whether it needs its process no more to take effect."""
        return self.name.startswith(LITELLM)


class Shuffled:
    """Chooses who goes on, and tells `each_turn` before each choice.

    Args:
        loop: The loop of the world.
        chance: Where the order is drawn from.
        haste: How often time passes although somebody could go on, from 0 to 1.
        each_turn: Called with the number of each turn.
    """

    def __init__(
        self, loop: SimLoop, chance: random.Random, *, haste: float, each_turn: Callable[[int], None]
    ) -> None:
        self._loop = loop
        self._chance = chance
        self._haste = haste
        self._each_turn = each_turn
        self.parked: list[Parked] = []
        self.turn = 0
        self.trace: list[str] = []
        loop.idle = self._idle

    async def edge(self, process: SimProcess, name: str, effect: Callable[[], T]) -> T:
        if process.dead:
            await for_ever()
        if name in _UNSEEN:
            return effect()
        parked = Parked(process, name, effect, self._loop.create_future())
        self.parked.append(parked)
        try:
            result: T = await parked.future
        except asyncio.CancelledError:
            self._given_up(parked)
            raise
        return result

    def moment(self, process: SimProcess, name: str, effect: Callable[[], T]) -> T:
        if process.dead:
            raise Killed
        self.note(f"{process} {name}")
        return effect()

    def note(self, line: str) -> None:
        self.trace.append(f"{self.turn:6d} {self._loop.now:8.2f} s  {line}")

    def waiting_of(self, process: SimProcess) -> Sequence[Parked]:
        return [one for one in self.parked if one.process is process]

    def let_go(self, parked: Parked, remark: str = "") -> None:
        """Have an edge take effect now."""
        self.parked.remove(parked)
        self.note(f"{parked.process} {parked.name}{remark}")
        try:
            result = parked.effect()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
            if not parked.future.done():
                parked.future.set_exception(error)
            return
        if not parked.future.done():
            parked.future.set_result(result)

    def forget(self, process: SimProcess) -> None:
        """A process has died: what it had sent may still take effect, or never does."""
        for parked in self.waiting_of(process):
            self.parked.remove(parked)
            if parked.in_flight and self._chance.random() < 0.5:
                self._later(parked, "its caller is dead")

    def _given_up(self, parked: Parked) -> None:
        if parked not in self.parked:
            return
        self.parked.remove(parked)
        # A call whose caller waits no longer may have been sent, and a commit may have been done.
        if not parked.process.dead and self._chance.random() < 0.5:
            if parked.in_flight:
                self._later(parked, "its caller gave up")
            elif parked.name == "database.commit":
                self.note(f"{parked.process} {parked.name} nobody waits for")
                with contextlib.suppress(Exception):
                    parked.effect()

    def _later(self, parked: Parked, why: str) -> None:
        def take_effect() -> None:
            self.note(f"{parked.process} {parked.name} takes effect late, {why}")
            with contextlib.suppress(Exception):
                parked.effect()

        self._loop.call_later(self._chance.uniform(0.0, LATE_BY_S), take_effect, context=nobody())

    def _idle(self) -> bool:
        self.turn += 1
        self._each_turn(self.turn)
        ready = [
            one
            for one in self.parked
            if one.not_before <= self._loop.now and (one.in_flight or not one.process.frozen)
        ]
        if not ready or (self._chance.random() < self._haste and self._loop.pass_time()):
            return False
        self.let_go(self._chance.choice(ready))
        return True
