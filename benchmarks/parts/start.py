"""how soon a process is ready, and what an idle one costs."""

import asyncio
import contextlib
import time

from benchmarks.books import postgresql_template, sqlite_template
from benchmarks.cluster import Cluster, eventually
from benchmarks.contest import new_group
from benchmarks.contestants import settings
from benchmarks.figures import Goal, Table, median
from benchmarks.options import Options
from benchmarks.samples import org_ids
from benchmarks.service import service, settled


async def measure(options: Options) -> Table:
    """Start ours so many rounds, and let the last one idle."""
    idle_s = 30 if options.full else 10
    joins, readies, totals = [], [], []
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        template = await stack.enter_async_context(
            sqlite_template(org_ids())
            if options.postgres is None
            else postgresql_template(options.postgres, org_ids())
        )
        url = await stack.enter_async_context(template.copy())
        group = new_group()
        environment = await settings(cluster, group=group, database_url=url)
        for number in range(options.rounds):
            began = time.perf_counter()
            async with service(environment, ready=False) as one:

                async def joined() -> bool:
                    return await cluster.joining(group)

                await eventually(joined, within_s=60, every_s=0.01, what="it joins its group")
                join = time.perf_counter()
                await one.ready()
                ready = time.perf_counter()
                joins.append(join - began)
                readies.append(ready - join)
                totals.append(ready - began)
                options.say(f"round {number + 1}: ready {ready - join:.2f} s after it joined")
                if number == options.rounds - 1:
                    # Where nothing comes for long, it looks for work less often.
                    await settled(20 if options.full else 3)
                    cpu, from_ = one.running.cpu_s(), time.perf_counter()
                    await asyncio.sleep(idle_s)
                    share = (one.running.cpu_s() - cpu) / (time.perf_counter() - from_)
                    resident = one.running.resident_mb()
    return Table(
        title="Starting, and doing nothing",
        columns=["", "measured"],
        rows=[
            ("from the start of the process to the group join, s", median(joins)),
            ("from the group join to ready, s", median(readies)),
            ("from the start of the process to ready, s", median(totals)),
            (f"idle: share of a core over {idle_s} s", f"{share:.2%}"),
            ("idle: resident memory, MB", resident),
        ],
        goals=[
            Goal("seconds from the group join to ready", "at most 3", median(readies), most=3),
            Goal("share of a core when idle", "at most 0.01", share, most=0.01),
            Goal("MB when idle", "at most 80", resident, most=80),
        ],
        data={"join_s": joins, "ready_s": readies, "idle_share": share, "idle_mb": resident},
    )
