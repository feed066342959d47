"""Seeded schedules: several instances, the events they get, and what befalls them, all drawn from one number.

A plan is a value. The same plan gives the same run; a smaller plan that still goes wrong is a better report.
"""

import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from consumer import clock_watch, observer
from consumer.ingest.drain import Drain
from consumer.provisioning import pool
from producers.relay import Relay
from tests.checker.check import check
from tests.checker.history import Policy
from tests.simulation.faults import Fault, Kind, befall, is_time_for
from tests.simulation.loop import SimLoop
from tests.simulation.shuffled import Shuffled
from tests.simulation.witness import history_of
from tests.simulation.world import World, simulate

SPANS: Final = (60, 120, 300)
"""Within so many turns everything is published and everything befalls; dense, more falls together."""
IDLE_S: Final = 4.0
"""How long an instance that nobody wakes waits until it looks again: looks that find nothing cost as much."""
PAGE_ROWS: Final = 2
"""So few rows of the outbox at a time that the relay's passes have several pages, as with a long backlog."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event that is published at a turn."""

    turn: int
    type: str
    id: str
    data: Mapping[str, Any]

    def __str__(self) -> str:
        return f"turn {self.turn}: {self.type} {self.id} {dict(self.data)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run.

    Attributes:
        seed: Where the order of the steps is drawn from.
        instances: How many there are at the beginning.
        haste: How often time passes although somebody could go on.
        events: What is published.
        faults: What befalls.
    """

    seed: int
    instances: int
    haste: float
    events: tuple[Event, ...]
    faults: tuple[Fault, ...]


def plan_of(seed: int, *, instances: int | None = None) -> Plan:
    """Draw a plan."""
    chance = random.Random(seed)
    orgs = [f"org{n}" for n in range(chance.randint(1, 2))]
    users = ["ann", "bob", "olga"]
    events: list[Event] = []
    span = chance.choice(SPANS)

    def turn() -> int:
        return chance.randrange(1, span)

    for org in orgs:
        for n in range(chance.choice([1, 1, 1, 2, 0])):
            data = {"org_id": org, "name": f"{org} {n}", "owner_user_id": "olga"}
            more = {"initial_credits": chance.randint(0, 4), "max_budget_usd": "5.00"}
            events.append(Event(turn(), "org.created", f"{org}-c{n}", data | more))
        for user in chance.sample(users, chance.randint(0, 2)):
            for n in range(chance.choice([1, 1, 2])):
                extra = {"email": f"{user}@example.org"} if chance.random() < 0.3 else {}
                joined = {"org_id": org, "user_id": user, **extra}
                events.append(Event(turn(), "user.joined", f"{org}-{user}-{n}", joined))
        for n in range(chance.randint(1, 6)):
            status = chance.choice(["completed", "completed", "completed", "failed", "cancelled"])
            done = {"org_id": org, "job_id": f"job{chance.randint(0, 5)}", "status": status}
            events.append(Event(turn(), "job.completed", f"{org}-j{n}", done))
    for again in chance.sample(events, min(len(events), chance.randint(0, 4))):
        data = dict(again.data)
        if chance.random() < 0.3:
            data["note"] = "another"
        events.append(replace(again, turn=turn(), data=data))
    kinds = [*Kind, Kind.KILL, Kind.KILL, Kind.KILL, Kind.FREEZE]
    faults = tuple(
        Fault(turn(), chance.choice(kinds), chance.randrange(3), chance.random())
        for _ in range(chance.randint(1, 8))
    )
    return Plan(
        seed,
        instances or chance.choice([2, 3]),
        chance.choice([0.01, 0.05, 0.2]),
        tuple(sorted(events, key=lambda one: one.turn)),
        tuple(sorted(faults, key=lambda one: one.turn)),
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a plan."""

    plan: Plan
    violations: tuple[str, ...]
    turns: int
    outcomes: int
    befell: Mapping[str, int]
    trace: tuple[str, ...] = ()


class _Fate:
    """Carries a plan out, turn by turn."""

    def __init__(self, plan: Plan, world: World, chance: random.Random) -> None:
        self._events = list(plan.events)
        self._faults = list(plan.faults)
        self._world = world
        self._chance = chance
        self.befell: dict[str, int] = {}
        self.conductor: Shuffled

    @property
    def over(self) -> bool:
        return not self._events and not self._faults

    def turn(self, turn: int) -> None:
        while self._events and self._events[0].turn <= turn:
            event = self._events.pop(0)
            self.conductor.note(f"published {event.type} {event.id}")
            self._world.publish(event.type, event.id, event.data)
        due = [one for one in self._faults if is_time_for(one, turn, self._world, self.conductor)]
        for fault in due:
            self._faults.remove(fault)
            self._befall(fault)

    def _befall(self, fault: Fault) -> None:
        self.befell[fault.kind.value] = self.befell.get(fault.kind.value, 0) + 1
        self.conductor.note(f"*** {fault}")
        befall(fault, self._world, self.conductor, self._chance)


@contextlib.contextmanager
def _looking_seldom_and_little() -> Iterator[None]:
    with (
        patch.object(observer, "LOOK_EVERY_S", 5 * IDLE_S),
        patch.object(clock_watch, "LOOK_EVERY_S", 5 * IDLE_S),
        patch.object(pool, "_IDLE_S", IDLE_S),
        patch.object(pool, "_SWEEP_S", IDLE_S),
        patch.dict(Relay.__init__.__kwdefaults__, poll_s=IDLE_S, page_rows=PAGE_ROWS),
        patch.dict(Drain.__init__.__kwdefaults__, idle=IDLE_S),
    ):
        yield


def run(plan: Plan, *, folder: Path, template: Path) -> Verdict:
    """Carry a plan out and judge what it left."""
    loop = SimLoop()
    world = World(loop, folder, template, seed=plan.seed)
    chance = random.Random(plan.seed)
    fate = _Fate(plan, world, chance)
    conductor = Shuffled(loop, chance, haste=plan.haste, each_turn=fate.turn)
    world.conductor = fate.conductor = conductor
    said: list[str] = []

    async def story(world: World) -> None:
        for _ in range(plan.instances):
            world.start()
        await world.until(lambda: fate.over)
        await world.rest()
        while world.alive:
            await world.stop(world.alive[0])

    try:
        with _looking_seldom_and_little():
            simulate(loop, world, story)
    except Exception as error:  # noqa: BLE001 - whatever ends a run is a finding
        said.append(f"{type(error).__name__}: {error}")
    history = history_of(world)
    said += [str(one) for one in check(history, policy=Policy(may_fail=True))]
    said += [f"the loop complained: {one}" for one in loop.complaints]
    return Verdict(
        plan, tuple(said), conductor.turn, len(history.emitted), fate.befell, tuple(conductor.trace)
    )
