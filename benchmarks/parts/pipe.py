"""Charging a backlog end to end, against the bare pipe."""

import asyncio
import contextlib
from dataclasses import asdict

from benchmarks.backlog import Backlog, load
from benchmarks.books import postgresql_template, sqlite_template
from benchmarks.cluster import Cluster
from benchmarks.contest import Contestant, Lap, lap
from benchmarks.contestants import BATCHES, READ, SEND, ours
from benchmarks.figures import Goal, Table, median
from benchmarks.options import Options
from benchmarks.samples import org_ids

GOALS = (
    ("ours_postgresql", "bare_send", "ours on PostgreSQL, of the bare pipe with `send`", 1.0),
    ("ours_postgresql", "bare_batches", "ours on PostgreSQL, of the bare pipe with batches", 0.5),
    ("ours_sqlite", "bare_send", "ours on SQLite, of the bare pipe with `send`", 0.65),
)


async def measure(options: Options) -> Table:
    """Run the bare pipes and ours in turn over one backlog, so many rounds."""
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        contestants = [READ, SEND, BATCHES]
        if options.postgres is not None:
            template = await stack.enter_async_context(postgresql_template(options.postgres, org_ids()))
            contestants.append(ours("ours_postgresql", "ours, PostgreSQL", template))
        template = await stack.enter_async_context(sqlite_template(org_ids()))
        contestants.append(ours("ours_sqlite", "ours, SQLite", template))
        backlog = await load(cluster, options.events)
        await asyncio.sleep(options.settle_s)
        laps = await rounds(cluster, backlog, contestants, options)
    return table(contestants, laps, options.events)


async def rounds(
    cluster: Cluster, backlog: Backlog, contestants: list[Contestant], options: Options
) -> dict[str, list[Lap]]:
    """Let everyone run once a round, in turn."""
    laps: dict[str, list[Lap]] = {one.key: [] for one in contestants}
    for number in range(options.rounds):
        for one in contestants:
            measured = await lap(cluster, backlog, one)
            laps[one.key].append(measured)
            options.say(f"round {number + 1}: {one.name}: {measured.per_second:,.0f}/s")
    return laps


def table(contestants: list[Contestant], laps: dict[str, list[Lap]], events: int) -> Table:
    """Put medians and ratios side by side."""
    rates = {key: median(lap.per_second for lap in laps[key]) for key in laps}
    found = Table(
        title=f"{events:,} `job.completed`, 1,000 organizations, 5 % delivered twice (medians)",
        columns=[
            "program",
            "events/s",
            "of `send`",
            "of batches",
            "CPU us/event",
            "machine us/event",
            "peak MB",
        ],
    )
    for one in contestants:
        mine = laps[one.key]
        found.rows.append(
            (
                one.name,
                rates[one.key],
                rates[one.key] / rates["bare_send"] if "bare_send" in rates else None,
                rates[one.key] / rates["bare_batches"] if "bare_batches" in rates else None,
                median(lap.cpu_s / lap.events for lap in mine) * 1e6,
                median(lap.machine_cpu_s / lap.events for lap in mine) * 1e6,
                median(lap.peak_mb for lap in mine),
            )
        )
    found.goals = [
        Goal(name, f"at least {least:g}", rates[mine] / rates[theirs], least=least)
        for mine, theirs, name, least in GOALS
        if mine in rates and theirs in rates
    ]
    found.data = {
        "events": events,
        "per_second": rates,
        "names": {one.key: one.name for one in contestants},
        "laps": {key: [_plain(lap) for lap in laps[key]] for key in laps},
    }
    return found


def _plain(one: Lap) -> dict[str, object]:
    return {name: value for name, value in asdict(one).items() if name not in {"log", "assignments"}}
