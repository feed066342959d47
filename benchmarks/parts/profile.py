"""Where our time goes: what share is fetch, decode, decide, SQL, produce, waiting."""

import asyncio
import contextlib
import json
import signal
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.backlog import Backlog, load
from benchmarks.books import Template, postgresql_template, sqlite_template
from benchmarks.cluster import Cluster
from benchmarks.contest import lap
from benchmarks.contestants import ours
from benchmarks.figures import Table
from benchmarks.options import Options
from benchmarks.running import Running
from benchmarks.samples import org_ids

ORDER = ("fetch", "decode", "decide", "SQL", "produce", "commit, group", "event loop", "other")


async def measure(options: Options) -> Table:
    """Profile one run over a backlog on each database."""
    profiles: dict[str, dict[str, Any]] = {}
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        templates = {"SQLite": await stack.enter_async_context(sqlite_template(org_ids()))}
        if options.postgres is not None:
            templates["PostgreSQL"] = await stack.enter_async_context(
                postgresql_template(options.postgres, org_ids())
            )
        backlog = await load(cluster, options.events)
        for name, template in sorted(templates.items()):
            profiles[name] = await _profile(cluster, backlog, template)
            options.say(f"profiled: {name}")
    return _table(profiles, options.events)


async def _profile(cluster: Cluster, backlog: Backlog, template: Template) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "profile.json"

        async def begin(running: list[Running]) -> None:
            running[0].process.send_signal(signal.SIGUSR1)

        async def end(running: list[Running]) -> None:
            running[0].process.send_signal(signal.SIGUSR2)
            while not file.exists():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)

        await lap(cluster, backlog, ours("ours", "ours", template, profile=str(file)), begin=begin, end=end)
        found: dict[str, Any] = json.loads(file.read_text())
        return found


def _table(profiles: dict[str, dict[str, Any]], events: int) -> Table:
    found = Table(
        title=f"Where the time of one process goes, microseconds an event ({events:,} events)",
        columns=["work", *(f"{name}" for name in profiles), *(f"{name}, share" for name in profiles)],
    )
    spent = {name: _spent(profile) for name, profile in profiles.items()}
    works = [work for work in ORDER if any(work in one for one in spent.values())]
    for work in [*works, "threads beside (SQLite)", "waiting"]:
        seconds = [one.get(work, 0.0) for one in spent.values()]
        walls = [profile["seconds"] for profile in profiles.values()]
        found.rows.append(
            (
                work,
                *(each / events * 1e6 for each in seconds),
                *(f"{each / wall:.0%}" for each, wall in zip(seconds, walls, strict=True)),
            )
        )
    found.rows.append(
        ("wall clock", *(p["seconds"] / events * 1e6 for p in profiles.values()), *("100%" for _ in profiles))
    )
    found.notes = ["Waiting is for the database, the broker or a core; threads run beside it."]
    for name, profile in profiles.items():
        total = profile["samples"]
        hottest = list(profile["functions"].items())[:25]
        found.data[name] = profile
        found.notes += [
            f"{name}: most time in itself:",
            *(f"  {count / total:6.1%}  {function}" for function, count in hottest),
        ]
    return found


def _spent(profile: dict[str, Any]) -> dict[str, float]:
    cpu, samples = profile["main_cpu_s"], profile["samples"]
    spent = {work: count / samples * cpu for work, count in profile["work"].items()}
    return spent | {
        "threads beside (SQLite)": profile["other_threads_cpu_s"],
        "waiting": profile["seconds"] - cpu,
    }
