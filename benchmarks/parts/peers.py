"""Ours against one event at a time, and FastStream's handlers, over the same database."""

import contextlib

from benchmarks.backlog import load
from benchmarks.books import postgresql_template
from benchmarks.cluster import Cluster
from benchmarks.contest import Contestant, Lap, lap
from benchmarks.contestants import (
    SEND,
    faststream_batches,
    faststream_messages,
    one_at_a_time,
    ours,
    peer_books,
)
from benchmarks.figures import Goal, Table, median
from benchmarks.options import Options
from benchmarks.picture import Line
from benchmarks.samples import org_ids

SLOW = ("one_at_a_time", "faststream_messages")
"""They are given the smallest backlog alone, and take longest all the same."""
TITLE = "Charging jobs exactly once on PostgreSQL"


async def measure(options: Options) -> Table:
    """Run ours and the peers over backlogs of several sizes."""
    assert options.postgres is not None, "the peers keep their books in PostgreSQL: set QM_TEST_POSTGRES"
    sizes = sorted({max(500, options.events // share) for share in (50, 10, 1)})
    laps: dict[str, dict[int, list[Lap]]] = {}
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        books = await stack.enter_async_context(peer_books(options.postgres))
        template = await stack.enter_async_context(postgresql_template(options.postgres, org_ids()))
        everyone = [
            SEND,
            ours("ours_postgresql", "ours, PostgreSQL", template),
            faststream_batches(books),
            faststream_messages(books),
            one_at_a_time(books),
        ]
        for size in sizes:
            backlog = await load(cluster, size)
            for number in range(options.rounds):
                for one in everyone:
                    if one.key in SLOW and size > sizes[0]:
                        continue
                    measured = await lap(cluster, backlog, one)
                    laps.setdefault(one.key, {}).setdefault(size, []).append(measured)
                    options.say(
                        f"{size:,} events, round {number + 1}: {one.name}: {measured.per_second:,.0f}/s"
                    )
    return _table(everyone, laps, sizes)


def _table(everyone: list[Contestant], laps: dict[str, dict[int, list[Lap]]], sizes: list[int]) -> Table:
    rates = {
        key: {size: median(one.per_second for one in of_size) for size, of_size in by_size.items()}
        for key, by_size in laps.items()
    }
    best = {key: by_size[max(by_size)] for key, by_size in rates.items()}
    found = Table(
        title="Charging a backlog exactly once on PostgreSQL, events a second (medians)",
        columns=["program", *(f"{size:,} events" for size in sizes), "ours is so many times as fast"],
        notes=["The slow ones are measured on the smallest backlog alone."],
    )
    for one in everyone:
        found.rows.append(
            (
                one.name,
                *(rates[one.key].get(size) for size in sizes),
                best["ours_postgresql"] / best[one.key],
            )
        )
    found.goals = [
        Goal(
            "ours, of one event at a time",
            "at least 60",
            best["ours_postgresql"] / best["one_at_a_time"],
            60,
        ),
        Goal(
            "ours, of FastStream's batches",
            "at least 3",
            best["ours_postgresql"] / best["faststream_batches"],
            3,
        ),
    ]
    found.data = {
        "per_second": {one.key: rates[one.key] for one in everyone},
        "names": {one.key: one.name for one in everyone},
        "cpu_us": {
            one.key: median(lap.cpu_s / lap.events * 1e6 for lap in laps[one.key][max(laps[one.key])])
            for one in everyone
        },
    }
    return found


def lines(table: Table) -> list[Line]:
    """Give what the picture shows of the table."""
    names: dict[str, str] = table.data["names"]
    return [
        Line(names[key], rates, ours=key == "ours_postgresql", limit=key == SEND.key)
        for key, rates in table.data["per_second"].items()
    ]
