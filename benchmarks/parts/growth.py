"""whether it stays as fast, and as small, as the tables and the backlog grow."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg
from sqlalchemy.engine import make_url

from benchmarks.backlog import load
from benchmarks.books import CREDITS, Template, plain, postgresql_template
from benchmarks.cluster import Cluster
from benchmarks.contest import Lap, lap
from benchmarks.contestants import ours
from benchmarks.figures import Goal, Table, median
from benchmarks.options import Options
from benchmarks.samples import ORGANIZATIONS, org_ids

BACKLOG = 1_000_000
"""What a process must get through within its memory."""


async def measure(options: Options) -> Table:
    """Run ours on empty and on filled tables in turn, then over a long backlog."""
    assert options.postgres is not None, "growth is measured on PostgreSQL: set QM_TEST_POSTGRES"
    sizes = [0, 1_000_000, 10_000_000] if options.full else [0, 1_000_000]
    laps: dict[int, list[Lap]] = {size: [] for size in sizes}
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        templates = {
            size: await stack.enter_async_context(filled(options.postgres, size, size // 10))
            for size in sizes
        }
        options.say(f"filled: {', '.join(f'{size:,}' for size in sizes)} identities")
        backlog = await load(cluster, options.events)
        for number in range(options.rounds):
            for size in sizes:
                entries = size // 10
                contestant = ours(f"ours_{size}", "ours", templates[size], entries_before=entries)
                measured = await lap(cluster, backlog, contestant)
                laps[size].append(measured)
                options.say(f"round {number + 1}: {size:,} identities: {measured.per_second:,.0f}/s")
        if options.full:
            backlog = await load(cluster, BACKLOG)
            long = await lap(cluster, backlog, ours("ours_long", "ours", templates[0]))
        else:
            long = laps[0][-1]
    return _table(laps, long, options.events)


@contextlib.asynccontextmanager
async def filled(address: str, known: int, entries: int) -> AsyncIterator[Template]:
    """Make books in which so many identities and ledger entries stand already."""
    async with postgresql_template(address, org_ids()) as template:
        if known:
            await _fill(plain(make_url(template.url)), known, entries)
        yield template


async def _fill(address: str, known: int, entries: int) -> None:
    connection = await asyncpg.connect(address, command_timeout=900)
    try:
        # The key is built once over all rows; row by row it would take ten times as long.
        await connection.execute("ALTER TABLE identities DROP CONSTRAINT pk_identities")
        await connection.execute(
            "INSERT INTO identities (identity, fingerprint) "
            "SELECT gen_random_uuid(), sha256(int8send(n)) FROM generate_series(1, $1::bigint) AS n",
            known,
        )
        await connection.execute("ALTER TABLE identities ADD CONSTRAINT pk_identities PRIMARY KEY (identity)")
        each = entries // ORGANIZATIONS
        await connection.execute(
            "INSERT INTO ledger_entries "
            "(transaction_id, org_id, entry, kind, credits, balance_after, reason, created_at) "
            "SELECT gen_random_uuid(), org_id, n + 1, 'adjustment', 1, $2::bigint + n, 'before', now() "
            "FROM organizations, generate_series(1, $1::bigint) AS n",
            each,
            CREDITS,
        )
        await connection.execute(
            "UPDATE organizations SET balance = balance + $1::bigint, entries = entries + $1::bigint", each
        )
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def _table(laps: dict[int, list[Lap]], long: Lap, events: int) -> Table:
    rates = {size: median(one.per_second for one in of_size) for size, of_size in laps.items()}
    biggest = max(rates)
    found = Table(
        title=f"Charging {events:,} events where much stands already (PostgreSQL, medians)",
        columns=["identities there", "ledger entries there", "events/s", "of empty", "peak MB"],
    )
    for size, of_size in laps.items():
        found.rows.append(
            (
                f"{size:,}",
                size // 10,
                rates[size],
                rates[size] / rates[0],
                median(one.peak_mb for one in of_size),
            )
        )
    found.notes = [
        f"Over a backlog of {long.events:,}: {long.per_second:,.0f}/s, {long.peak_mb:.0f} MB at most."
    ]
    found.goals = [
        Goal(
            f"rate with {biggest:,} identities, of empty",
            "at least 0.85",
            rates[biggest] / rates[0],
            0.85,
        ),
        Goal(f"MB over a backlog of {long.events:,}", "at most 250", long.peak_mb, most=250),
    ]
    found.data = {
        "events": events,
        "per_second": rates,
        "laps": {size: [one.per_second for one in of_size] for size, of_size in laps.items()},
        "backlog_mb": long.peak_mb,
    }
    return found
