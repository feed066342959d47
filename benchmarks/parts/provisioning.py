"""provisioning organizations and users, against a bare client loop that makes the same calls."""

import asyncio
import contextlib
import json
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from benchmarks.books import empty_database, make_ready, sqlite_template
from benchmarks.cluster import Cluster, eventually
from benchmarks.contest import new_group
from benchmarks.contestants import settings
from benchmarks.figures import Cell, Goal, Table, median
from benchmarks.options import Options
from benchmarks.proxy import Proxy, litellm, remove
from benchmarks.running import ROOT
from benchmarks.samples import org_created, user_joined
from benchmarks.service import service

USERS = 2
"""Of each organization."""
CONCURRENCY = (4, 8, 16, 32)
ENDS_WITHIN_S = 600


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: how long, and how many calls."""

    seconds: float
    calls: float


async def measure(options: Options) -> Table:
    """Find the loop's best concurrency, then run it and ours in turn."""
    orgs = 200 if options.full else 20
    loops: list[Measured] = []
    mine: list[Measured] = []
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        proxy = await stack.enter_async_context(litellm(options))
        await _loop(proxy, 4, 4)  # a proxy's first calls are slow
        tried = {count: (await _loop(proxy, orgs, count)).seconds for count in CONCURRENCY}
        best = min(tried, key=lambda count: tried[count])
        options.say(f"the loop's best concurrency is {best}: {tried[best]:.1f} s")
        for number in range(options.rounds):
            loops.append(await _loop(proxy, orgs, best))
            mine.append(await _ours(options, cluster, proxy, orgs))
            options.say(f"round {number + 1}: loop {loops[-1].seconds:.1f} s, ours {mine[-1].seconds:.1f} s")
    return _table(loops, mine, orgs, best, tried)


async def _loop(proxy: Proxy, orgs: int, concurrency: int) -> Measured:
    name = f"loop-{uuid.uuid4().hex[:8]}"
    arguments = ["--url", proxy.url, "--name", name, "--organizations", str(orgs), "--users", str(USERS)]
    arguments += ["--concurrency", str(concurrency)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.programs.litellm_loop"),
        *arguments,
        cwd=ROOT,
        env=os.environ | {"MASTER_KEY": proxy.key},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, "the loop failed"
    found = json.loads(printed)
    names = [f"{name}-{number}" for number in range(orgs)]
    await remove(proxy, names, _users(names))
    return Measured(found["seconds"], found["calls"])


def _users(orgs: list[str]) -> list[str]:
    return [f"owner-of-{org}" for org in orgs] + [
        f"{org}-user-{number}" for org in orgs for number in range(USERS)
    ]


async def _ours(options: Options, cluster: Cluster, proxy: Proxy, orgs: int) -> Measured:
    names = [f"ours-{uuid.uuid4().hex[:8]}-{number}" for number in range(orgs)]
    group = new_group()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(cluster.borrowed())
        if options.postgres is None:
            template = await stack.enter_async_context(sqlite_template([]))
            url = await stack.enter_async_context(template.copy())
        else:
            database = await stack.enter_async_context(empty_database(options.postgres))
            await make_ready(database, [])
            url = database.render_as_string(hide_password=False)
        outcomes = await cluster.create("provisioning")
        environment = await settings(
            cluster,
            group=group,
            database_url=url,
            litellm_url=proxy.url,
            litellm_key=proxy.key,
            provisioning_outcomes=outcomes,
        )
        one = await stack.enter_async_context(service(environment))
        began = time.perf_counter()
        await _publish(cluster, environment, names)

        async def all_decided() -> bool:
            one.running.check()
            return await cluster.count(outcomes) >= orgs * (1 + USERS)

        await eventually(all_decided, within_s=ENDS_WITHIN_S, what="every organization and user is decided")
        seconds = time.perf_counter() - began
        types = Counter(await cluster.types(outcomes))
        calls = await one.counted("quartermaster_litellm_requests_total")
    assert types == {"org.provisioned": orgs, "user.provisioned": orgs * USERS}, types
    await remove(proxy, names, _users(names))
    return Measured(seconds, calls)


async def _publish(cluster: Cluster, environment: dict[str, str], orgs: list[str]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=cluster.address) as producer:
        for org in orgs:
            await producer.send(
                environment["QM_TOPIC_ORG_CREATED"], org_created(org, f"owner-of-{org}"), key=org.encode()
            )
        for number in range(USERS):
            for org in orgs:
                await producer.send(
                    environment["QM_TOPIC_USER_JOINED"],
                    user_joined(org, f"{org}-user-{number}"),
                    key=org.encode(),
                )
        await producer.flush()


def _table(
    loops: list[Measured], mine: list[Measured], orgs: int, best: int, tried: dict[int, float]
) -> Table:
    loop_s, our_s = median(one.seconds for one in loops), median(one.seconds for one in mine)
    calls = max(one.calls for one in mine)
    most = orgs * 4 + orgs * USERS * 3
    rows: list[Sequence[Cell]] = []
    for name, seconds, made in (
        (f"bare client loop, {best} at a time", loop_s, loops[-1].calls),
        ("ours, end to end over Kafka", our_s, calls),
    ):
        rows.append(
            (
                name,
                seconds,
                orgs * (1 + USERS) / seconds,
                made / seconds,
                made / (orgs * (1 + USERS)),
                loop_s / seconds,
            )
        )
    return Table(
        title=f"Provisioning {orgs} organizations and {orgs * USERS} users (medians)",
        columns=["program", "seconds", "events/s", "calls/s", "calls/event", "of the loop"],
        rows=rows,
        notes=[
            "The loop alone: " + ", ".join(f"{count} at a time {took:.1f} s" for count, took in tried.items())
        ],
        goals=[
            Goal("provisioning, of the bare client loop", "at least 0.9", loop_s / our_s, least=0.9),
            Goal("calls to LiteLLM", f"at most {most}: 4 an organization, 3 a user", calls, most=most),
        ],
        data={
            "loop_s": [one.seconds for one in loops],
            "ours_s": [one.seconds for one in mine],
            "calls": calls,
            "tried_s": tried,
        },
    )
