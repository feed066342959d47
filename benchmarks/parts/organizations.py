"""How cost grows with the number of organizations: the more there are, the more rows a batch locks."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg
from sqlalchemy.engine import make_url

from benchmarks.backlog import load
from benchmarks.books import CREDITS, Template, plain, postgresql_template
from benchmarks.cluster import Cluster
from benchmarks.contest import Lap, lap
from benchmarks.contestants import ours
from benchmarks.figures import Table, median
from benchmarks.options import Options


async def measure(options: Options) -> Table:
    """Run ours over backlogs of as many events, of more and more organizations."""
    assert options.postgres is not None, "it is measured on PostgreSQL: set QM_TEST_POSTGRES"
    counts = [10, 1_000, 100_000, 1_000_000] if options.full else [10, 1_000, 100_000]
    laps: dict[int, list[Lap]] = {}
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        for count in counts:
            async with cluster.borrowed(), crowded(options.postgres, count) as template:
                backlog = await load(cluster, options.events, organizations=count)
                contestant = ours(f"ours_{count}", "ours", template, organizations=count)
                laps[count] = [await lap(cluster, backlog, contestant) for _ in range(options.rounds)]
            rate = median(one.per_second for one in laps[count])
            options.say(f"{count:,} organizations: {rate:,.0f}/s")
    rates = {count: median(one.per_second for one in of_count) for count, of_count in laps.items()}
    return Table(
        title=f"Charging {options.events:,} events of more and more organizations (PostgreSQL, medians)",
        columns=["organizations", "events/s", "of 1,000", "CPU us/event", "machine us/event"],
        rows=[
            (
                f"{count:,}",
                rates[count],
                rates[count] / rates[1_000],
                median(one.cpu_s / one.events for one in of_count) * 1e6,
                median(one.machine_cpu_s / one.events for one in of_count) * 1e6,
            )
            for count, of_count in laps.items()
        ],
        notes=["By Zipf's law the first has 34 % of the events of 10, and 7 % of those of a million."],
        data={"events": options.events, "per_second": rates},
    )


@contextlib.asynccontextmanager
async def crowded(address: str, count: int) -> AsyncIterator[Template]:
    """Make books with so many active organizations, each with `CREDITS` credits."""
    async with postgresql_template(address, []) as template:
        connection = await asyncpg.connect(plain(make_url(template.url)), command_timeout=600)
        try:
            await connection.execute(
                "INSERT INTO organizations (org_id, status, balance, entries) "
                "SELECT 'org-' || lpad(n::text, greatest(4, length(n::text)), '0'), 'active', $2::bigint, 1 "
                "FROM generate_series(0, $1::bigint - 1) AS n",
                count,
                CREDITS,
            )
            await connection.execute(
                "INSERT INTO ledger_entries "
                "(transaction_id, org_id, entry, kind, credits, balance_after, created_at) "
                "SELECT gen_random_uuid(), org_id, 1, 'grant', balance, balance, now() FROM organizations"
            )
            await connection.execute("VACUUM ANALYZE")
        finally:
            await connection.close()
        yield template
