"""one, two and three processes of ours on one PostgreSQL, on the same cores."""

import contextlib

import asyncpg
from aiokafka import AIOKafkaProducer
from sqlalchemy.engine import make_url

from benchmarks.backlog import held
from benchmarks.books import plain, postgresql_template
from benchmarks.cluster import Cluster
from benchmarks.contest import Lap, lap
from benchmarks.contestants import ours
from benchmarks.figures import Goal, Table, median
from benchmarks.options import Options
from benchmarks.samples import org_ids

INSTANCES = (1, 2, 3)


async def measure(options: Options) -> Table:
    """Run so many processes over one backlog, in turn."""
    assert options.postgres is not None, "several processes need PostgreSQL: set QM_TEST_POSTGRES"
    laps: dict[int, list[Lap]] = {count: [] for count in INSTANCES}
    deadlocks: dict[int, int] = dict.fromkeys(INSTANCES, 0)
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        template = await stack.enter_async_context(postgresql_template(options.postgres, org_ids()))
        for number in range(options.rounds):
            for count in INSTANCES:

                async def look(url: str, count: int = count) -> None:
                    deadlocks[count] += await _deadlocks(url)

                contestant = ours(f"ours_{count}", "ours", template, instances=count, look=look)
                async with cluster.borrowed(), held(cluster, options.events) as (backlog, producer):

                    async def release(_running: object, producer: AIOKafkaProducer = producer) -> None:
                        await producer.commit_transaction()

                    measured = await lap(cluster, backlog, contestant, begin=release)
                laps[count].append(measured)
                options.say(f"round {number + 1}: {count} processes: {measured.per_second:,.0f}/s")
    return _table(laps, deadlocks, options.events)


async def _deadlocks(url: str) -> int:
    connection = await asyncpg.connect(plain(make_url(url)))
    try:
        found = await connection.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
    finally:
        await connection.close()
    return int(found)


def _table(laps: dict[int, list[Lap]], deadlocks: dict[int, int], events: int) -> Table:
    rates = {count: median(one.per_second for one in of_count) for count, of_count in laps.items()}
    shares = {
        count: sorted(len(partitions) for partitions in of_count[-1].assignments.values())
        for count, of_count in laps.items()
    }
    found = Table(
        title=f"Processes of ours beside one another on the same cores ({events:,} events, medians)",
        columns=[
            "processes",
            "events/s in sum",
            "of one",
            "deadlocks",
            "partitions each",
            "CPU us/event",
        ],
    )
    for count, of_count in laps.items():
        found.rows.append(
            (
                str(count),
                rates[count],
                rates[count] / rates[1],
                deadlocks[count],
                ", ".join(map(str, shares[count])),
                median(one.cpu_s / one.events for one in of_count) * 1e6,
            )
        )
    uneven = max(max(share) - min(share) for share in shares.values())
    found.goals = [
        Goal("two processes' rate, of one's", "at least 1", rates[2] / rates[1], least=1),
        Goal("three processes' rate, of one's", "at least 1", rates[3] / rates[1], least=1),
        Goal("deadlocks between processes", "none", sum(deadlocks.values()), most=0),
        Goal("partitions one has more than another", "none", uneven, most=0),
    ]
    found.data = {
        "events": events,
        "per_second": rates,
        "deadlocks": deadlocks,
        "laps": {count: [one.per_second for one in of_count] for count, of_count in laps.items()},
    }
    return found
