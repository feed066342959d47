"""What befalls a world in which several instances run: to them, to Kafka, to LiteLLM, to the clock."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.simulation.litellm import Hit, Trouble
from tests.simulation.loop import SimProcess, nobody
from tests.simulation.shuffled import Shuffled
from tests.simulation.world import World

RESTART_WITHIN_S: Final = 2.0
FREEZE_S: Final = 20.0
"""Longer than a lease and a session last."""
STALL_S: Final = 20.0
AWAY_S: Final = 10.0
CLOCK_STEP_S: Final = 40.0
WAIT_TURNS: Final = 200
"""How long a fault waits for its moment."""
_WAITS: Final = 2
_HALF: Final = 0.5


class Kind(StrEnum):
    """What can befall a world."""

    KILL = "kill"  # an instance dies, before or after what it was about to do
    FREEZE = "freeze"  # an instance stands still, perhaps past its leases and its session
    STALL = "stall"  # one edge takes long
    STOP = "stop"  # an instance is stopped in order, and another started
    JOIN = "join"  # one more instance
    EXPELLED = "expelled"  # the group takes a living instance for dead
    TROUBLE = "trouble"  # calls to LiteLLM meet something
    AWAY = "away"  # LiteLLM is gone for a while
    BROKER_AWAY = "broker away"  # Kafka is gone for a while
    COMMIT_LOST = "commit lost"  # offsets are not committed, or nobody learns that they were
    PRODUCE_LOST = "produce lost"  # an acknowledgement is lost, or the append
    CLOCK = "clock"  # the database's clock steps


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that befalls at a turn; `who` chooses an instance, `amount` (0 to 1) says how much."""

    turn: int
    kind: Kind
    who: int
    amount: float

    @property
    def waits_for_a_call(self) -> bool:
        """Whether it comes when an instance has a call to LiteLLM under way: at random few would."""
        return self.kind in {Kind.KILL, Kind.FREEZE, Kind.STALL} and self.who == _WAITS

    def __str__(self) -> str:
        return f"turn {self.turn}: {self.kind} (who {self.who}, amount {self.amount:.3f})"


@dataclass(frozen=True, slots=True)
class _Scene:
    fault: Fault
    world: World
    conductor: Shuffled
    chance: random.Random

    @property
    def one(self) -> SimProcess | None:
        """The instance that is meant, rather one with a call under way; None where none runs."""
        running = _running(self.world)
        busy = [one for one in running if _is_busy(one, self.conductor)]
        choice = busy if busy and self.fault.waits_for_a_call else running
        return choice[self.fault.who % len(choice)] if choice else None

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        self.world.loop.call_later(seconds, act, context=nobody())


def is_time_for(fault: Fault, turn: int, world: World, conductor: Shuffled) -> bool:
    """Whether it happens at this turn."""
    if not fault.waits_for_a_call or turn >= fault.turn + WAIT_TURNS:
        return turn >= fault.turn
    return turn >= fault.turn and any(_is_busy(one, conductor) for one in _running(world))


def _running(world: World) -> list[SimProcess]:
    return [one for one in world.alive if not one.frozen]


def _is_busy(one: SimProcess, conductor: Shuffled) -> bool:
    return any(parked.in_flight for parked in conductor.waiting_of(one))


def befall(fault: Fault, world: World, conductor: Shuffled, chance: random.Random) -> None:
    """Have it happen now."""
    _HOW[fault.kind](_Scene(fault, world, conductor, chance))


def _kill(scene: _Scene) -> None:
    one = scene.one
    if one is None:
        return
    waiting = scene.conductor.waiting_of(one)
    if waiting and scene.chance.random() < _HALF:
        scene.conductor.let_go(scene.chance.choice(waiting), ", and dies")
    one.kill()
    scene.conductor.forget(one)
    scene.later(RESTART_WITHIN_S * scene.fault.amount, scene.world.start)


def _freeze(scene: _Scene) -> None:
    one = scene.one
    if one is None:
        return

    def wake_up() -> None:
        scene.conductor.note(f"{one} wakes up")
        scene.world.loop.thaw(one)

    one.frozen = True
    scene.later(0.1 + FREEZE_S * scene.fault.amount, wake_up)


def _stall(scene: _Scene) -> None:
    waiting = [] if scene.one is None else scene.conductor.waiting_of(scene.one)
    if waiting:
        waiting[-1].not_before = scene.world.loop.now + STALL_S * scene.fault.amount
        scene.later(STALL_S * scene.fault.amount, lambda: None)


def _stop(scene: _Scene) -> None:
    if scene.one is not None:
        scene.world.stops[scene.one.name].set()
        scene.world.start()


def _join(scene: _Scene) -> None:
    scene.world.start()


def _expel(scene: _Scene) -> None:
    if scene.one is not None:
        scene.world.broker.expire(scene.one.name)


def _trouble(scene: _Scene) -> None:
    trouble = list(Trouble)[int(scene.fault.amount * len(Trouble))]
    scene.world.proxy.hits.append(Hit(trouble, times=1 + scene.fault.who))


def _away(scene: _Scene) -> None:
    def back() -> None:
        scene.world.proxy.away = False

    scene.world.proxy.away = True
    scene.later(AWAY_S * scene.fault.amount, back)


def _broker_away(scene: _Scene) -> None:
    scene.world.broker.down(silent=scene.fault.who == 0)
    scene.later(AWAY_S * scene.fault.amount, scene.world.broker.up)


def _commit_lost(scene: _Scene) -> None:
    scene.world.broker.fail_commit(after=scene.fault.amount < _HALF)


def _produce_lost(scene: _Scene) -> None:
    scene.world.broker.fail_produce(after=scene.fault.amount < _HALF)


def _clock(scene: _Scene) -> None:
    scene.world.clock_offset_s += CLOCK_STEP_S * (scene.fault.amount - _HALF)


_HOW: Final[Mapping[Kind, Callable[[_Scene], None]]] = {
    Kind.KILL: _kill,
    Kind.FREEZE: _freeze,
    Kind.STALL: _stall,
    Kind.STOP: _stop,
    Kind.JOIN: _join,
    Kind.EXPELLED: _expel,
    Kind.TROUBLE: _trouble,
    Kind.AWAY: _away,
    Kind.BROKER_AWAY: _broker_away,
    Kind.COMMIT_LOST: _commit_lost,
    Kind.PRODUCE_LOST: _produce_lost,
    Kind.CLOCK: _clock,
}
