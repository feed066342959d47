"""The regression guard: fails where ours has fallen behind the bare pipe, in the same run.

Times differ from machine to machine and from minute to minute, and a ratio does much less: both programs run
in turn, and the middle of the rounds' ratios counts. `python -m benchmarks guard --record` writes what is
measured as the new mark.
"""

import contextlib
import json
from pathlib import Path

from benchmarks.backlog import Backlog, load
from benchmarks.books import postgresql_template, sqlite_template
from benchmarks.cluster import Cluster
from benchmarks.contest import Contestant, lap
from benchmarks.contestants import SEND, ours
from benchmarks.figures import Goal, Table, median
from benchmarks.options import Options
from benchmarks.samples import org_ids

EVENTS = 20_000
ROUNDS = 3
FALLS_AT_MOST = 0.25
RECORDED = Path(__file__).parents[1] / "recorded.json"


async def measure(options: Options) -> Table:
    """Compare today's ratios with the recorded ones; a bad one gets a second chance."""
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        mine = []
        if options.postgres is not None:
            template = await stack.enter_async_context(postgresql_template(options.postgres, org_ids()))
            mine.append(ours("postgresql", "PostgreSQL", template))
        template = await stack.enter_async_context(sqlite_template(org_ids()))
        mine.append(ours("sqlite", "SQLite", template))
        backlog = await load(cluster, EVENTS)
        ratios = await _ratios(cluster, backlog, mine, options)
        recorded = ratios if options.record else _recorded()
        if any(ratios[key] < _least(recorded[key]) for key in ratios):
            options.say("below the mark: once more")
            again = await _ratios(cluster, backlog, mine, options)
            ratios = {key: max(ratios[key], again[key]) for key in ratios}
    if options.record:
        RECORDED.write_text(
            json.dumps({key: round(ratio, 3) for key, ratio in ratios.items()}, indent=2) + "\n"
        )
    return Table(
        title=f"Ours of the bare pipe with `send` ({EVENTS:,} events, middle of {ROUNDS} rounds)",
        columns=["database", "ratio", "recorded", "least"],
        rows=[(one.name, ratios[one.key], recorded[one.key], _least(recorded[one.key])) for one in mine],
        goals=[
            Goal(
                f"not slower on {one.name}",
                f"at least {_least(recorded[one.key]):.2f}",
                ratios[one.key],
                least=_least(recorded[one.key]),
            )
            for one in mine
        ],
        data={"ratios": ratios, "recorded": recorded},
        guards=True,
    )


async def _ratios(
    cluster: Cluster, backlog: Backlog, mine: list[Contestant], options: Options
) -> dict[str, float]:
    found: dict[str, list[float]] = {one.key: [] for one in mine}
    for number in range(ROUNDS):
        bare = await lap(cluster, backlog, SEND)
        for one in mine:
            measured = await lap(cluster, backlog, one)
            found[one.key].append(measured.per_second / bare.per_second)
            options.say(
                f"round {number + 1}: {one.name} {measured.per_second:,.0f}/s of {bare.per_second:,.0f}/s: "
                f"{found[one.key][-1]:.2f}"
            )
    return {key: median(ratios) for key, ratios in found.items()}


def _least(recorded: float) -> float:
    return recorded * (1 - FALLS_AT_MOST)


def _recorded() -> dict[str, float]:
    found: dict[str, float] = json.loads(RECORDED.read_text())
    return found
