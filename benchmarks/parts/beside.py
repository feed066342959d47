"""what live events notice of a replay that runs beside them, of known events and of new ones."""

import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

import asyncpg
from sqlalchemy.engine import make_url

from benchmarks.backlog import Backlog, load
from benchmarks.books import plain, postgresql_template, verify
from benchmarks.cluster import Cluster, eventually
from benchmarks.command import replaying
from benchmarks.contest import ENDS_WITHIN_S, new_group
from benchmarks.contestants import settings
from benchmarks.figures import Goal, Table, median, percentile
from benchmarks.meter import Meter, Timed
from benchmarks.options import Options
from benchmarks.samples import ORGANIZATIONS, job_value, org_id, org_ids
from benchmarks.service import service, settled
from consumer.cli.replaying import DEFAULT_NEW_PER_S

A_SECOND = 50
ALONE, KNOWN, NEW = "no replay", "a replay of known events", "a replay of new events"
MOST = 2
"""Times its own p99 that live latency may have beside a replay."""
KNOWN_A_SECOND = 25_000
"""More than a replay passes over beside live events: it is not to end before they do."""
STARTS_WITHIN_S = 3
BEGINS_WITHIN_S = 60.0
NEW_FROM, LIVE_FROM = 10**9, 2 * 10**9
"""The first numbers of what is new and of what is live; those of the history are below."""


@dataclass(slots=True)
class Beside:
    """What was measured in one case.

    Attributes:
        rounds: How long each live event took, in seconds, of each round.
        rates: Records a second that the replay passed meanwhile, of each round.
    """

    rounds: list[list[float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def ms(self, share: float) -> list[float]:
        """Return each round's percentile in milliseconds."""
        return [percentile(taken, share) * 1e3 for taken in self.rounds]

    def times(self, share: float, alone: "Beside") -> float:
        """Return the middle of the rounds' ratios to what was measured alone in the same round."""
        return median(
            beside / by_itself for beside, by_itself in zip(self.ms(share), alone.ms(share), strict=True)
        )


@dataclass(slots=True)
class _Stage:
    """An instance that runs, what it reads, and what is replayed beside it.

    Attributes:
        environment: The settings of the instance and of the replay.
        live: The topic of the live events, with a history that is known.
        missed: A topic of events that are new.
        meter: Sends what is live.
        places: A connection to the database, where a replay notes its place.
        numbers: Of live events.
        sent: How many live events there were.
        brought_in: How many new events replays have brought in.
    """

    environment: Mapping[str, str]
    live: Backlog
    missed: Backlog
    meter: Meter
    places: asyncpg.Connection
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(LIVE_FROM, 10**12)))
    sent: int = 0
    brought_in: int = 0

    async def latencies(self, seconds: int) -> list[float]:
        """Send live events and wait for their outcomes."""
        events = []
        for place in range(seconds * A_SECOND):
            number = next(self.numbers)
            org = org_id(number % ORGANIZATIONS).encode()
            value = job_value(number, org)
            events.append(Timed(place / A_SECOND, f"evt-{number:012}", self.live.topic, org, value))
        self.sent += len(events)
        return [*(await self.meter.latencies(events)).values()]

    async def beside_known(self, seconds: int, found: Beside) -> None:
        """Measure while the history is replayed, from its beginning each time."""
        before = await self._place(self.live.topic)
        async with replaying(self.environment, self.live.topic, "--restart") as replay:
            await self._measure(self.live.topic, before, seconds, found)
            said = (await replay.interrupted()).said
        assert said["new"] == 0, said

    async def beside_new(self, seconds: int, found: Beside) -> None:
        """Measure while what is new is replayed, from where the last one was interrupted."""
        before = await self._place(self.missed.topic)
        async with replaying(self.environment, self.missed.topic) as replay:
            await self._measure(self.missed.topic, before, seconds, found)
            self.brought_in = (await replay.interrupted()).said["new"]

    async def _measure(self, topic: str, before: int, seconds: int, found: Beside) -> None:
        async def under_way() -> bool:
            # Begun anew its place is 0 first, while nothing is read yet.
            return await self._place(topic) not in {0, before}

        await eventually(under_way, within_s=BEGINS_WITHIN_S, what="the replay is under way")
        first, began = await self._place(topic), time.perf_counter()
        found.rounds.append(await self.latencies(seconds))
        found.rates.append((await self._place(topic) - first) / (time.perf_counter() - began))

    async def _place(self, topic: str) -> int:
        """Say how many records of a topic are behind the replay of it; 0: there is none."""
        passed = await self.places.fetchval(
            "SELECT sum(next_offset - first_offset) FROM replay_partitions WHERE topic = $1", topic
        )
        return int(passed or 0)


async def measure(options: Options) -> Table:
    """Measure without a replay, beside one of what is known and beside one of what is new, in turn."""
    assert options.postgres is not None, (
        "a replay runs beside an instance on PostgreSQL: set QM_TEST_POSTGRES"
    )
    seconds = 20 if options.full else 8
    found = {case: Beside() for case in (ALONE, KNOWN, NEW)}
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        template = await stack.enter_async_context(postgresql_template(options.postgres, org_ids()))
        url = await stack.enter_async_context(template.copy())
        outcomes = await cluster.create("credits")
        stage = await stack.enter_async_context(_stage(options, cluster, url, outcomes, seconds))
        for number in range(options.rounds):
            found[ALONE].rounds.append(await stage.latencies(seconds))
            await stage.beside_known(seconds, found[KNOWN])
            await settled(options.settle_s)
            await stage.beside_new(seconds, found[NEW])
            await settled(options.settle_s)
            told = ", ".join(f"beside {case} {one.ms(0.99)[-1]:.0f} ms" for case, one in found.items())
            options.say(f"round {number + 1}: p99 {told}")
        charges = stage.live.identities + stage.brought_in + stage.sent
        await _published(cluster, outcomes, charges)
        await verify(url, charges=charges, others=ORGANIZATIONS)
    return table(found)


@contextlib.asynccontextmanager
async def _stage(
    options: Options, cluster: Cluster, url: str, outcomes: str, seconds: int
) -> AsyncIterator[_Stage]:
    """Have an instance run that has taken in a history."""
    lasts = STARTS_WITHIN_S + seconds
    live = await load(cluster, lasts * KNOWN_A_SECOND)
    missed = await load(cluster, int(options.rounds * lasts * DEFAULT_NEW_PER_S), first=NEW_FROM)
    environment = await settings(
        cluster, group=new_group(), database_url=url, job_completed=live.topic, credits_outcomes=outcomes
    )
    places = await asyncpg.connect(plain(make_url(url)))
    try:
        async with service(environment):
            await _published(cluster, outcomes, live.identities)
            # Else the database catches up on it beside whoever happens to be measured first.
            await places.execute("VACUUM ANALYZE")
            await places.execute("CHECKPOINT")
            options.say(f"{live.identities:,} events are known")
            async with Meter.connect(cluster.address, [outcomes]) as meter:
                stage = _Stage(environment, live, missed, meter, places)
                await settled(options.settle_s)
                await stage.latencies(1)  # connections and statements are made
                yield stage
    finally:
        await places.close()


async def _published(cluster: Cluster, outcomes: str, count: int) -> None:
    async def there() -> bool:
        return await cluster.count(outcomes) >= count

    await eventually(there, within_s=ENDS_WITHIN_S, every_s=0.5, what=f"{count:,} outcomes are published")


def table(found: Mapping[str, Beside]) -> Table:
    """Put the cases side by side, each of the one without a replay."""
    alone = found[ALONE]
    return Table(
        title=f"Event to outcome at {A_SECOND} events a second beside a replay, ms (medians of rounds)",
        columns=["beside", "p50", "p99", "p50, of no replay", "p99, of no replay", "events", "replayed/s"],
        rows=[
            (
                case,
                median(one.ms(0.5)),
                median(one.ms(0.99)),
                one.times(0.5, alone),
                one.times(0.99, alone),
                sum(map(len, one.rounds)),
                median(one.rates) if one.rates else None,
            )
            for case, one in found.items()
        ],
        notes=[
            "Each replay without `--rate`; begun before the first live event, and not at its end by the last."
        ],
        goals=[
            Goal(
                f"p99 beside {case}, of no replay",
                f"at most {MOST} times",
                found[case].times(0.99, alone),
                most=MOST,
            )
            for case in (KNOWN, NEW)
        ],
        data={
            "p50_ms": {case: one.ms(0.5) for case, one in found.items()},
            "p99_ms": {case: one.ms(0.99) for case, one in found.items()},
            "replayed_per_second": {case: one.rates for case, one in found.items() if one.rates},
        },
    )
