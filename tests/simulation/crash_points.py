"""Every crash point of a scenario: each edge, just before and after its effect, and calls that come late.

The run that meets no crash says what has to stand in the end; every other run is compared with it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.checker.check import check
from tests.checker.history import Policy
from tests.simulation.edges import LITELLM, Death, Passed, Straight
from tests.simulation.facts import Facts, facts_of
from tests.simulation.loop import SimLoop, SimProcess, nobody
from tests.simulation.scenarios import Scenario
from tests.simulation.witness import history_of
from tests.simulation.world import World, simulate

Deaths = Mapping[int, Death]
"""At which edges the process dies, by the number of the edge."""

RESTART_AFTER_S = 0.5


@dataclass(frozen=True, slots=True)
class Run:
    """What a run came to.

    Attributes:
        passed: Its edges, in order.
        first: The number of the first one after what stood before.
        states: How much of the world had changed before each of them, and at the end.
        facts: What stood in the end.
        violations: Which guarantees did not hold, whatever other runs came to.
        deaths: How many processes died.
    """

    passed: list[Passed]
    first: int
    states: list[tuple[int, ...]]
    facts: Facts
    violations: list[str]
    told: Mapping[str, int]
    deaths: int


def run(scenario: Scenario, deaths: Deaths, *, folder: Path, template: Path) -> Run:
    """Run a scenario with one instance that is started again whenever it dies.

    Raises:
        Hung: It does not come to rest.
    """
    loop = SimLoop()
    world = World(loop, folder, template, seed=1, **scenario.settings)

    def start_again(_process: SimProcess) -> None:
        loop.call_later(RESTART_AFTER_S, world.start, context=nobody())

    conductor = world.conductor = Straight(loop, deaths, start_again)
    states: list[tuple[int, ...]] = []
    conductor.on_passed = lambda _passed: states.append(_state(world))
    first = 0

    async def story(world: World) -> None:
        nonlocal first
        world.start()
        await scenario.before(world)
        first = len(conductor.passed)
        world.proxy.hits.extend(scenario.hits)
        await scenario.story(world)
        await world.rest()
        while world.alive:
            await world.stop(world.alive[0])

    simulate(loop, world, story)
    states.append(_state(world))
    facts = facts_of(world)
    told = Counter(type_ for type_, _round, _data in facts.outcomes.values())
    violations = [str(one) for one in check(history_of(world), policy=Policy(may_fail=True))]
    return Run(
        conductor.passed, first, states, facts, violations, told, sum(one.dead for one in world.processes)
    )


def points(base: Run) -> Iterator[tuple[int, Death]]:
    """Every point of a run at which a process can die."""
    for passed in base.passed[base.first :]:
        yield passed.number, Death.BEFORE
        yield passed.number, Death.AFTER
        if passed.name.startswith(LITELLM):
            yield passed.number, Death.LATE


def distinct(base: Run) -> list[tuple[int, Death]]:
    """The points that leave different worlds behind; every other one leaves the same as one of these.

    What a process that died had in memory is gone. So two deaths between which nothing was committed, sent
    or acknowledged differ in nothing.
    """
    seen: set[tuple[int, ...]] = set()
    chosen: list[tuple[int, Death]] = []
    for number, death in points(base):
        if death is Death.LATE:
            chosen.append((number, death))
            continue
        state = base.states[number + (death is Death.AFTER)]
        if state not in seen:
            seen.add(state)
            chosen.append((number, death))
    return chosen


def _state(world: World) -> tuple[int, ...]:
    return (world.file.commits, world.broker.changes, len(world.proxy.calls))


def problems(base: Run, other: Run) -> list[str]:
    """What a run with deaths did wrong, and in what it came to something else than the one without."""
    return other.violations + base.facts.differences(other.facts)
