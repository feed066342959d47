"""`python -m benchmarks.beside_replay`: how long live events take while a replay runs beside them.

One `quartermaster run` on PostgreSQL and Kafka charges jobs as they come; a job's latency is from its
acknowledgement by the broker to its outcome on the topic. Measured alone, beside a replay of new events, and
beside one of known events, each at the rate that `replay` takes by itself (or --rate).
QM_TEST_KAFKA and QM_TEST_POSTGRES name the servers.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks import ingest
from benchmarks.replay import environment, filled, producing
from benchmarks.samples import ORGANIZATIONS, org_id
from consumer.standin import StandIn
from producers.kafka_client import partition_of

SETTLE_S = 3.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.beside_replay",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--per-second", type=float, default=200, help="live jobs a second (200)")
    parser.add_argument("--seconds", type=float, default=20, help="for how long each (20)")
    parser.add_argument("--rate", help="handed to the replay (its default)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    figures = asyncio.run(_measure(arguments))
    alone = figures["alone"]["p99_ms"]
    for name, one in figures.items():
        one["of_alone"] = round(one["p99_ms"] / alone, 2)
        if arguments.json:
            print(json.dumps({"name": name, **one}))
        else:
            print(
                f"{name:24} p50 {one['p50_ms']:7.1f} ms   p99 {one['p99_ms']:7.1f} ms   "
                f"{one['of_alone']:5.2f} of alone   replayed {one['replayed']:,}"
            )
    return 0


async def _measure(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    address = os.environ["QM_TEST_KAFKA"]
    # Enough that no replay ends before the live events do.
    new = int(arguments.seconds * 10_000)
    async with ingest.books(os.environ["QM_TEST_POSTGRES"]) as database, StandIn() as litellm:
        history = await filled(address, new, first=10**9)
        names = {
            name: await ingest.create(address, f"{name}.{uuid.uuid4().hex[:8]}")
            for name in ("jobs", "provisioning", "credits", "dead")
        }
        env = environment(
            address,
            database,
            QM_LITELLM_URL=litellm.url,
            QM_LITELLM_MASTER_KEY=litellm.master_key,
            QM_KAFKA_GROUP_ID=names["jobs"],
            QM_HTTP_PORT="0",
            QM_TOPIC_ORG_CREATED=names["jobs"],
            QM_TOPIC_USER_JOINED=names["jobs"],
            QM_TOPIC_JOB_COMPLETED=names["jobs"],
            QM_TOPIC_PROVISIONING_OUTCOMES=names["provisioning"],
            QM_TOPIC_CREDITS_OUTCOMES=names["credits"],
            QM_TOPIC_DEAD_LETTERS=names["dead"],
        )
        figures = {}
        rate = [] if arguments.rate is None else ["--rate", arguments.rate]
        async with _running(env), _live(address, names, arguments) as live:
            figures["alone"] = await live("a", replayed=None)
            async with _replaying(env, history, *rate) as replayed:
                figures["beside new events"] = await live("b", replayed=replayed)
            # Whatever that one has brought in is known to this one.
            async with _replaying(env, history, "--restart", *rate) as replayed:
                figures["beside known events"] = await live("c", replayed=replayed)
    return figures


@asynccontextmanager
async def _running(env: dict[str, str]) -> AsyncIterator[None]:
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "consumer", "run", env=env, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def _replaying(
    env: dict[str, str], topic: str, *more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "consumer", "replay", "--topic", topic, "--json", *more),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await asyncio.sleep(SETTLE_S)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def _live(address: str, names: dict[str, str], arguments: argparse.Namespace):  # noqa: ANN202
    consumer = AIOKafkaConsumer(
        names["credits"], bootstrap_servers=address, auto_offset_reset="earliest", fetch_max_wait_ms=20
    )
    await consumer.start()
    async with producing(address, linger_ms=0) as producer:
        seen: dict[str, float] = {}

        async def watch() -> None:
            async for record in consumer:
                seen[json.loads(record.value)["causationid"]] = time.perf_counter()

        watching = asyncio.ensure_future(watch())

        async def live(name: str, *, replayed: asyncio.subprocess.Process | None) -> dict[str, float]:
            sent: dict[str, float] = {}
            await _send(producer, names["jobs"], sent, f"warm-{name}", arguments, seconds=SETTLE_S)
            sent.clear()
            await _send(producer, names["jobs"], sent, name, arguments, seconds=arguments.seconds)
            count: float = 0
            if replayed is not None:
                still_running = replayed.returncode is None
                if still_running:
                    replayed.terminate()
                assert replayed.stdout is not None
                said = json.loads(await replayed.stdout.read())
                assert still_running, f"the replay ended before the live events did: {said}"
                count = said["new"] + said["duplicate"]
            async with asyncio.timeout(60):
                while not sent.keys() <= seen.keys():  # noqa: ASYNC110 - another process's pace
                    await asyncio.sleep(0.05)
            waits = sorted(1000 * (seen[id_] - at) for id_, at in sent.items())
            cuts = statistics.quantiles(waits, n=100)
            return {"p50_ms": cuts[49], "p99_ms": cuts[98], "replayed": count, "events": len(waits)}

        try:
            yield live
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await consumer.stop()


async def _send(
    producer: AIOKafkaProducer,
    topic: str,
    sent: dict[str, float],
    name: str,
    arguments: argparse.Namespace,
    *,
    seconds: float,
) -> None:
    """Send jobs evenly; note when each was acknowledged."""
    started = time.perf_counter()
    waiting = []
    for number in range(int(seconds * arguments.per_second)):
        await asyncio.sleep(max(0.0, started + number / arguments.per_second - time.perf_counter()))
        id_ = f"{name}-{number}"
        org = org_id(number % ORGANIZATIONS)
        data = {"org_id": org, "job_id": id_, "status": "completed"}
        value = {"specversion": "1.0", "id": id_, "source": "/live", "type": "job.completed", "data": data}
        future = await producer.send(
            topic,
            json.dumps(value).encode(),
            key=org.encode(),
            partition=partition_of(org.encode(), ingest.PARTITIONS),
        )
        future.add_done_callback(lambda _done, id_=id_: sent.setdefault(id_, time.perf_counter()))
        waiting.append(future)
    await asyncio.gather(*waiting)


if __name__ == "__main__":
    sys.exit(main())
