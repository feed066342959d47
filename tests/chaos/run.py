"""One run: load and nemesis side by side, then calm, then the verdict."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.chaos.load import Amount, Load
from tests.chaos.nemesis import Nemesis
from tests.chaos.world import TICK_S, World, fresh_name
from tests.checker.check import check
from tests.checker.history import History
from tests.checker.reading import Reading, read

_SETTLE_S: Final = 240.0
_DEPENDENCY_WAIT_S: Final = 120


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a run.

    Attributes:
        seed: Decides the load and the nemesis's moves; the processes' own timing it cannot decide.
        size: How many instances there usually are.
        kills: How many to kill at least.
        rebalances: How many rebalances at least.
        limit_s: When the nemesis has to be done.
        expected_s: How long it will probably take: the load's organizations and users are spread over it.
        amount: Organizations and users, and how many jobs a second.
    """

    seed: int
    size: int
    kills: int
    rebalances: int
    limit_s: float
    expected_s: float
    orgs: int = 40
    users: int = 60
    jobs_a_second: float = 50.0
    dependency_wait_s: int = _DEPENDENCY_WAIT_S
    litellm_timeout_s: int = 10
    """What the dead had in hand is taken up again after twice this and ten seconds."""


@dataclass(slots=True)
class Report:
    """What was done, what came out, and what should not have."""

    seed: int
    database: str
    figures: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    not_reached: list[str] = field(default_factory=list)
    logged: dict[str, int] = field(default_factory=dict)
    """Warnings and errors in the instances' logs, for whoever wonders: being killed has consequences."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.violations and not self.not_reached

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True, slots=True)
class Parts:
    """Where a run's servers are."""

    kafka: str
    database_url: str
    litellm_url: str
    litellm_key: str


async def run(plan: Plan, parts: Parts, folder: Path, *, say: Callable[[str], None]) -> Report:
    """Do it, and report. The evidence (logs, history) stands in `folder`."""
    started = time.monotonic()
    database = parts.database_url.partition("+")[0].partition(":")[0]
    report = Report(plan.seed, database)
    name = fresh_name()
    amount = Amount(
        orgs=plan.orgs,
        users=plan.users,
        ticks=max(100, int(plan.expected_s / TICK_S)),
        jobs_a_tick=plan.jobs_a_second * TICK_S,
    )
    load = Load(Random(f"load {plan.seed}"), name, amount)
    async with World.opened(
        kafka=parts.kafka,
        database_url=parts.database_url,
        litellm_url=parts.litellm_url,
        litellm_key=parts.litellm_key,
        folder=folder,
        load=load,
        name=name,
        settings={
            "QM_DEPENDENCY_WAIT": str(plan.dependency_wait_s),
            "QM_LITELLM_TIMEOUT_S": str(plan.litellm_timeout_s),
        },
    ) as world:
        nemesis = Nemesis(
            world,
            Random(f"nemesis {plan.seed}"),
            size=plan.size,
            kills=plan.kills,
            rebalances=plan.rebalances,
        )
        beside = [
            asyncio.ensure_future(world.look()),
            asyncio.ensure_future(_tell(world, nemesis, plan, started, say)),
        ]
        try:
            await _torment(world, nemesis, plan)
            say(f"{_since(started)} calm: letting everything finish")
            settled = await world.settle(_SETTLE_S)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        if not settled:
            report.violations.append(f"guarantee 1: not finished {_SETTLE_S:.0f} s after: {world.glance}")
        await nemesis.count(now=True)
        await world.fleet.stop_all()
        say(f"{_since(started)} collecting what it left behind")
        history = await world.history()
        policy = await world.policy()
        report.violations += [str(one) for one in check(history, policy=policy)]
        report.violations += world.fleet.unexpected
        if (said := await world.verified()) is not None:
            report.violations.append(f"guarantee 6: `ledger verify` says {said}")
        reading = read(history, policy)
        _count(report, reading, history, nemesis, world)
        _compare(report, plan, nemesis)
        report.logged = world.fleet.logged()
        _keep(folder, history, report)
    report.seconds = round(time.monotonic() - started, 1)
    return report


async def _torment(world: World, nemesis: Nemesis, plan: Plan) -> None:
    calm = asyncio.Event()
    sending = asyncio.ensure_future(world.send(calm))
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(plan.limit_s):
                await nemesis.run()
    finally:
        calm.set()
        await sending
    for instance in list(world.fleet.running):
        if instance.held:
            instance.go_on()
    while len(world.fleet.running) < plan.size:
        await world.fleet.start()


async def _tell(
    world: World, nemesis: Nemesis, plan: Plan, started: float, say: Callable[[str], None]
) -> None:
    while True:
        await asyncio.sleep(5)
        glance = world.glance
        say(
            f"{_since(started)} kills {nemesis.kills}/{plan.kills}, rebalances "
            f"{nemesis.rebalanced}/{plan.rebalances}, stops {nemesis.done['stops']}, hangs "
            f"{nemesis.done['hangs']}, joins {nemesis.done['joins']} | delivered "
            f"{world.delivered.total():,}, events {glance.taken:,}, unread {glance.unread}, waiting "
            f"{glance.waiting}, unpublished {glance.unpublished} | instances {len(world.fleet.running)}"
        )


def _since(started: float) -> str:
    return f"[{time.monotonic() - started:5.0f} s]"


def _count(report: Report, reading: Reading, history: History, nemesis: Nemesis, world: World) -> None:
    outcomes = reading.outcomes.values()
    letters = reading.letters.values()
    report.figures = {
        "kills": nemesis.kills,
        "kills_with_work_in_hand": nemesis.hit_work,
        "stops": nemesis.done["stops"],
        "hangs": nemesis.done["hangs"],
        "joins": nemesis.done["joins"],
        "rebalances": nemesis.rebalanced,
        "instances_started": world.fleet.started,
        "deliveries": len(history.published),
        "events": len(reading.events),
        "deliveries_of_an_event_again": sum(len(some) - 1 for some in reading.events.values()),
        "bad_records": len(reading.rejected),
        "passed_over": len(reading.passed_over),
        "outcomes": len(outcomes),
        "outcome_records": sum(len(one.records) for one in outcomes),
        "outcomes_repeated": sum(len(one.records) - 1 for one in outcomes),
        "dead_letters": len(letters),
        "dead_letters_repeated": sum(len(some) - 1 for some in letters),
        "ledger_entries": len(history.ledger),
        "teams": len(history.proxy.teams) if history.proxy else 0,
        "keys": len(history.proxy.keys) if history.proxy else 0,
        "lost": _of(report, "guarantee 1"),
        "twice": _of(report, "guarantee 2"),
        "orphans": _of(report, "guarantee 5"),
        "violations": len(report.violations),
    }
    for one in outcomes:
        report.outcomes[one.type] = report.outcomes.get(one.type, 0) + 1


def _of(report: Report, guarantee: str) -> int:
    return sum(one.startswith(guarantee) for one in report.violations)


def _compare(report: Report, plan: Plan, nemesis: Nemesis) -> None:
    if nemesis.kills < plan.kills:
        report.not_reached.append(f"{nemesis.kills} of {plan.kills} kills within the time limit")
    if nemesis.rebalanced < plan.rebalances:
        report.not_reached.append(
            f"{nemesis.rebalanced} of {plan.rebalances} rebalances within the time limit"
        )


def _keep(folder: Path, history: History, report: Report) -> None:
    """Write down what the verdict was based on."""
    for name in ("published", "emitted", "ledger"):
        with (folder / f"{name}.txt").open("w") as sink:
            sink.writelines(f"{one}\n" for one in getattr(history, name))
    (folder / "litellm.txt").write_text(f"{history.proxy}\n")
    (folder / "violations.txt").write_text("".join(f"{one}\n" for one in report.violations))
