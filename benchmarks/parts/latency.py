"""from an event to its outcome at 50 events a second, against a record's way through the broker alone."""

import contextlib
from collections.abc import Iterator

from benchmarks.books import postgresql_template, sqlite_template
from benchmarks.cluster import Cluster
from benchmarks.contest import new_group
from benchmarks.contestants import settings
from benchmarks.figures import Goal, Table, percentile
from benchmarks.meter import Meter, Timed
from benchmarks.options import Options
from benchmarks.samples import ORGANIZATIONS, job_value, org_id, org_ids
from benchmarks.service import service, settled

A_SECOND = 50
BARE, OURS = "bare round trip", "event to outcome"


async def measure(options: Options) -> Table:
    """Measure the bare round trip and ours in turn, so many rounds, while ours is up all the time."""
    seconds = 30 if options.full else 8
    found: dict[str, list[float]] = {BARE: [], OURS: []}
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        template = await stack.enter_async_context(
            sqlite_template(org_ids())
            if options.postgres is None
            else postgresql_template(options.postgres, org_ids())
        )
        url = await stack.enter_async_context(template.copy())
        bare, jobs = await cluster.create("bare"), await cluster.create("jobs")
        outcomes = await cluster.create("credits")
        environment = await settings(
            cluster, group=new_group(), database_url=url, job_completed=jobs, credits_outcomes=outcomes
        )
        await stack.enter_async_context(service(environment))
        meter = await stack.enter_async_context(Meter.connect(cluster.address, [bare, outcomes]))
        await settled()
        numbers = iter(range(10**9))
        for topic in (bare, jobs):  # connections and statements are made
            await meter.latencies(_events(topic, numbers, 1))
        for number in range(options.rounds):
            for name, topic in ((BARE, bare), (OURS, jobs)):
                taken = await meter.latencies(_events(topic, numbers, seconds))
                found[name] += taken.values()
                p50, p99 = (percentile(taken.values(), share) * 1e3 for share in (0.5, 0.99))
                options.say(f"round {number + 1}: {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    return _table(found)


def _events(topic: str, numbers: Iterator[int], seconds: int) -> list[Timed]:
    events = []
    for place in range(seconds * A_SECOND):
        number = next(numbers)
        org = org_id(number % ORGANIZATIONS).encode()
        events.append(Timed(place / A_SECOND, f"evt-{number:012}", topic, org, job_value(number, org)))
    return events


def _table(found: dict[str, list[float]]) -> Table:
    p50 = {name: percentile(taken, 0.5) * 1e3 for name, taken in found.items()}
    p99 = {name: percentile(taken, 0.99) * 1e3 for name, taken in found.items()}
    return Table(
        title=f"From event to outcome at {A_SECOND} events a second, milliseconds",
        columns=["", "p50", "p99", "p50, times the bare", "p99, times the bare", "events"],
        rows=[
            (name, p50[name], p99[name], p50[name] / p50[BARE], p99[name] / p99[BARE], len(found[name]))
            for name in found
        ],
        goals=[
            Goal(
                "p50 of event to outcome, of the bare round trip",
                "at most 4 times",
                p50[OURS] / p50[BARE],
                most=4,
            ),
            Goal(
                "p99 of event to outcome, of the bare round trip",
                "at most 3 times",
                p99[OURS] / p99[BARE],
                most=3,
            ),
        ],
        data={"p50_ms": p50, "p99_ms": p99},
    )
