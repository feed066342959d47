"""One program after another over the same backlog, timed alike and from outside.

The clock starts when the broker says that the program's consumer group is complete, and stops when every
offset is committed and every outcome stands on its topic. So starting an interpreter counts for nobody, and
nobody's own word is taken for anything.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from benchmarks.backlog import Backlog
from benchmarks.cluster import Cluster, eventually
from benchmarks.running import Running, machine_cpu_s, program

JOINS_WITHIN_S = 60.0
ENDS_WITHIN_S = 900.0
LOOK_EVERY_S = 0.03
LOOK_AT_LEAST_S = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """How a program is started once, with a group and topics of its own.

    Attributes:
        arguments: Behind `python`.
        environment: Beside the inherited one.
        group: Its consumer group.
        outcomes: The topic its outcomes stand on; None: it writes none.
        expected: How many outcomes there are to be.
        instances: How many processes of it.
        check: Proves afterwards that it did its work; raises where it did not.
    """

    arguments: list[str]
    environment: dict[str, str]
    group: str
    outcomes: str | None
    expected: int
    instances: int = 1
    check: Callable[[], Awaitable[None]] | None = None


Prepare = Callable[[Cluster, Backlog], AbstractAsyncContextManager[Plan]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A program that takes part.

    Attributes:
        key: Its name in JSON.
        name: Its name for people.
        prepare: Makes what it needs for one run.
    """

    key: str
    name: str
    prepare: Prepare


@dataclass(frozen=True, slots=True)
class Lap:
    """One run of one program.

    Attributes:
        events: How many records it read.
        seconds: How long it took.
        cpu_s: The processor time of its processes meanwhile.
        machine_cpu_s: That of the whole machine: broker, database and programs.
        peak_mb: The most memory that one of its processes had resident.
        outcomes: How many outcomes stood on its topic in the end.
        log: What its processes printed.
    """

    events: int
    seconds: float
    cpu_s: float
    machine_cpu_s: float
    peak_mb: float
    outcomes: int
    assignments: dict[str, list[int]] = field(default_factory=dict)
    log: str = ""

    @property
    def per_second(self) -> float:
        """Events a second."""
        return self.events / self.seconds


async def lap(
    cluster: Cluster,
    backlog: Backlog,
    contestant: Contestant,
    *,
    begin: Callable[[list[Running]], Awaitable[None]] | None = None,
    end: Callable[[list[Running]], Awaitable[None]] | None = None,
) -> Lap:
    """Run one program once over the whole backlog.

    Args:
        cluster: The cluster.
        backlog: What is read.
        contestant: The program.
        begin: Called with its processes when the clock has started.
        end: Called with its processes when it has stopped.

    Raises:
        ProgramFailed: It ended, or ended badly.
        TimeoutError: It does not get there.
        WrongBooks: It got there with wrong books.
    """
    async with cluster.borrowed(), contestant.prepare(cluster, backlog) as plan:
        async with _started(plan) as running:
            await eventually(
                lambda: _complete(cluster, plan, running),
                within_s=JOINS_WITHIN_S,
                every_s=LOOK_EVERY_S,
                what="the group is complete",
            )
            measured = await _timed(cluster, backlog, plan, running, begin)
            if end is not None:
                await end(running)
        if plan.check is not None:
            await plan.check()
    return measured


@contextlib.asynccontextmanager
async def _started(plan: Plan) -> AsyncIterator[list[Running]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(program(plan.arguments, plan.environment))
            for _ in range(plan.instances)
        ]


async def _complete(cluster: Cluster, plan: Plan, running: list[Running]) -> bool:
    for one in running:
        one.check()
    return await cluster.members(plan.group) == plan.instances


async def _timed(
    cluster: Cluster,
    backlog: Backlog,
    plan: Plan,
    running: list[Running],
    begin: Callable[[list[Running]], Awaitable[None]] | None,
) -> Lap:
    began, cpu, machine = time.perf_counter(), _cpu_s(running), machine_cpu_s()
    if begin is not None:
        await begin(running)
    while (share := await _done(cluster, backlog, plan, running)) < 1:
        taken = time.perf_counter() - began
        if taken > ENDS_WITHIN_S:
            raise TimeoutError(f"not within {ENDS_WITHIN_S:g} s: {share:.0%} is done")
        # Looking costs what is looked at time: seldom at first, and often where it must soon be done.
        left = taken * (1 - share) / share if share else 2 * LOOK_EVERY_S
        await asyncio.sleep(min(max(left / 2, LOOK_EVERY_S), LOOK_AT_LEAST_S))
    return Lap(
        events=backlog.records,
        seconds=time.perf_counter() - began,
        cpu_s=_cpu_s(running) - cpu,
        machine_cpu_s=machine_cpu_s() - machine,
        peak_mb=max(one.peak_mb() for one in running),
        outcomes=0 if plan.outcomes is None else await cluster.count(plan.outcomes),
        assignments=await cluster.assignments(plan.group, backlog.topic),
        log="\n".join(one.output() for one in running),
    )


async def _done(cluster: Cluster, backlog: Backlog, plan: Plan, running: list[Running]) -> float:
    """Return what share is done; 1: every outcome is there, and every offset is committed."""
    for one in running:
        one.check()
    if plan.outcomes is not None:
        there = await cluster.count(plan.outcomes)
        if there < plan.expected:
            return there / plan.expected
    committed = await cluster.committed(plan.group, backlog.topic)
    left = sum(max(0, end - committed.get(partition, 0)) for partition, end in backlog.ends.items())
    return 1 - left / backlog.records


def _cpu_s(running: list[Running]) -> float:
    return sum(one.cpu_s() for one in running)


def new_group() -> str:
    """Name a consumer group that nobody else uses."""
    return f"bench-{uuid.uuid4().hex[:8]}"
