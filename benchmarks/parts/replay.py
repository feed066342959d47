"""A replay, as the command that an operator gives: its whole time counts, its start too."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.backlog import Backlog, load
from benchmarks.books import Template, postgresql_template, sqlite_template
from benchmarks.cluster import Cluster
from benchmarks.contest import lap, new_group
from benchmarks.contestants import READ, settings
from benchmarks.figures import Cell, Table
from benchmarks.options import Options
from benchmarks.running import ROOT
from benchmarks.samples import org_ids


@dataclass(frozen=True, slots=True)
class Ended:
    """What one run of the command came to."""

    said: dict[str, Any]
    seconds: float
    peak_mb: float


async def measure(options: Options) -> Table:
    """Replay a topic of new events, then the same again, then as a dry run."""
    rows: list[tuple[str, float, float, float]] = []
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        templates = {"SQLite": await stack.enter_async_context(sqlite_template(org_ids()))}
        if options.postgres is not None:
            templates["PostgreSQL"] = await stack.enter_async_context(
                postgresql_template(options.postgres, org_ids())
            )
        backlog = await load(cluster, options.events)
        bare = await lap(cluster, backlog, READ)
        rows.append((READ.name, bare.per_second, 1.0, bare.peak_mb))
        for name, template in sorted(templates.items()):
            for case, ended in (await _replays(cluster, backlog, template)).items():
                rate = backlog.records / ended.seconds
                rows.append((f"{name}: {case}", rate, rate / bare.per_second, ended.peak_mb))
                options.say(f"{name}: {case}: {rate:,.0f}/s")
    shown: list[tuple[Cell, ...]] = list(rows)
    return Table(
        title=f"Replaying {options.events:,} events",
        columns=["command", "events/s", "of reading alone", "peak MB"],
        rows=[*shown],
        data={"per_second": {name: rate for name, rate, *_ in rows}},
    )


async def _replays(cluster: Cluster, backlog: Backlog, template: Template) -> dict[str, Ended]:
    async with cluster.borrowed(), template.copy() as url:
        environment = await settings(cluster, group=new_group(), database_url=url)
        new = await _replay(environment, backlog.topic, "--rate", "0")
        assert new.said["new"] == backlog.identities, new.said
        known = await _replay(environment, backlog.topic)
        looked = await _replay(environment, backlog.topic, "--dry-run")
        for ended in (known, looked):
            assert ended.said["duplicate"] == backlog.records, ended.said
        return {"new events": new, "known events": known, "dry run over known events": looked}


async def _replay(environment: dict[str, str], topic: str, *more: str) -> Ended:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
    command = [sys.executable, "-m", "consumer", "replay", "--topic", topic, "--json", *more]

    def run() -> Ended:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=inherited | environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, (command, status, printed)
        return Ended(json.loads(printed), time.perf_counter() - began, usage.ru_maxrss / 1024)

    return await asyncio.to_thread(run)
