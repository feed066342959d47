"""Whether it stays as fast, and as small, as the tables and the backlog grow."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
from sqlalchemy.engine import make_url

from benchmarks.backlog import load
from benchmarks.books import CREDITS, Template, plain, postgresql_template
from benchmarks.cluster import Cluster
from benchmarks.contest import Lap, lap
from benchmarks.contestants import ours
from benchmarks.figures import Goal, Table, median
from benchmarks.options import Options
from benchmarks.running import ROOT
from benchmarks.samples import ORGANIZATIONS, org_ids

BACKLOG = 1_000_000
"""What a process must get through within its memory."""


@dataclass(frozen=True, slots=True)
class Case:
    """What stands there already.

    Attributes:
        identities: How many events were ever taken.
        cut: Whether the tables are cut into partitions.
    """

    identities: int
    cut: bool = False

    @property
    def entries(self) -> int:
        """How many ledger entries there are beside each organization's first."""
        return self.identities // 10

    def __str__(self) -> str:
        """Name it in a table."""
        return f"{self.identities:,}{', in partitions' if self.cut else ''}"


EMPTY = Case(0)


async def measure(options: Options) -> Table:
    """Run ours on empty and on filled tables in turn, then over a long backlog."""
    assert options.postgres is not None, "growth is measured on PostgreSQL: set QM_TEST_POSTGRES"
    cases = [EMPTY, Case(1_000_000)]
    if options.full:
        cases += [Case(10_000_000), Case(10_000_000, cut=True)]
    laps: dict[Case, list[Lap]] = {case: [] for case in cases}
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        templates: dict[Case, Template] = {}
        for case in cases:
            templates[case] = await stack.enter_async_context(filled(options.postgres, case))
            options.say(f"filled: {case} identities")
        backlog = await load(cluster, options.events)
        for number in range(options.rounds):
            for case in cases:
                contestant = ours("ours", "ours", templates[case], entries_before=case.entries)
                measured = await lap(cluster, backlog, contestant)
                laps[case].append(measured)
                options.say(f"round {number + 1}: {case} identities: {measured.per_second:,.0f}/s")
        long = laps[EMPTY][-1]
        if options.full:
            backlog = await load(cluster, BACKLOG)
            long = await lap(cluster, backlog, ours("ours_long", "ours", templates[EMPTY]))
    return _table(laps, long, options.events)


@contextlib.asynccontextmanager
async def filled(address: str, case: Case) -> AsyncIterator[Template]:
    """Make books in which so much stands already."""
    async with postgresql_template(address, org_ids()) as template:
        connection = await asyncpg.connect(plain(make_url(template.url)), command_timeout=900)
        try:
            if case.identities:
                await _fill(connection, case)
            if case.cut:
                await connection.execute((ROOT / "deploy" / "partition.sql").read_text())
            await connection.execute("VACUUM ANALYZE")
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()
        yield template


async def _fill(connection: asyncpg.Connection, case: Case) -> None:
    # The key is built once over all rows; row by row it would take ten times as long.
    await connection.execute("ALTER TABLE identities DROP CONSTRAINT pk_identities")
    await connection.execute(
        "INSERT INTO identities (identity, fingerprint) "
        "SELECT gen_random_uuid(), sha256(int8send(n)) FROM generate_series(1, $1::bigint) AS n",
        case.identities,
    )
    await connection.execute("ALTER TABLE identities ADD CONSTRAINT pk_identities PRIMARY KEY (identity)")
    each = case.entries // ORGANIZATIONS
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


def _table(laps: dict[Case, list[Lap]], long: Lap, events: int) -> Table:
    rates = {case: median(one.per_second for one in of_case) for case, of_case in laps.items()}
    most = max((case for case in rates if not case.cut), key=lambda case: case.identities)
    share = rates[most] / rates[EMPTY]
    found = Table(
        title=f"Charging {events:,} events where much stands already (PostgreSQL, medians)",
        columns=["identities there", "ledger entries there", "events/s", "of empty", "peak MB"],
        rows=[
            (
                str(case),
                case.entries,
                rates[case],
                rates[case] / rates[EMPTY],
                median(one.peak_mb for one in of_case),
            )
            for case, of_case in laps.items()
        ],
        goals=[
            Goal(f"rate with {most} identities, of empty", "at least 0.85", share, least=0.85),
            Goal(f"MB over a backlog of {long.events:,}", "at most 250", long.peak_mb, most=250),
        ],
        data={
            "events": events,
            "per_second": {str(case): rate for case, rate in rates.items()},
            "laps": {str(case): [one.per_second for one in of_case] for case, of_case in laps.items()},
            "backlog_mb": long.peak_mb,
        },
    )
    found.notes = [
        f"Over a backlog of {long.events:,}: {long.per_second:,.0f}/s, {long.peak_mb:.0f} MB at most."
    ]
    return found
