"""A replay that is killed again and again, and one that is not: do they end with the same books?"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from cryptography.fernet import Fernet
from sqlalchemy import func, select

from storage.database import Database
from storage.tables import replay_partitions

PROGRAM: Final = (sys.executable, "-m", "consumer")
_LOOK_EVERY_S: Final = 0.02
_PATIENCE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Killed:
    """What became of a replay that was killed: how often, behind what, and what it said at its end."""

    kills: int
    after: list[int]
    said: Mapping[str, Any]


def environment(address: str, topic: str, url: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
    return inherited | {
        "QM_KAFKA_BOOTSTRAP_SERVERS": address,
        "QM_TOPIC_JOB_COMPLETED": topic,
        "QM_DATABASE_URL": url,
        "QM_LITELLM_URL": "http://127.0.0.1:9",  # nobody: a replay calls nothing there
        "QM_LITELLM_MASTER_KEY": "sk-nobody",
        "QM_KEY_ENCRYPTION_KEY": Fernet.generate_key().decode(),
    }


async def replay(env: Mapping[str, str], topic: str, *more: str) -> Mapping[str, Any]:
    """Run a replay to its end and return its JSON."""
    process = await _begin(env, topic, *more)
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    said: Mapping[str, Any] = json.loads(out)
    return said


async def replay_killed(
    env: Mapping[str, str],
    topic: str,
    url: str,
    *,
    events: int,
    kills: int,
    random: Random,
    more: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Killed:
    """Run a replay, kill it at random points of its way, and again, then let it end."""
    points = sorted(random.randrange(1, int(events * 0.85)) for _ in range(kills))
    after: list[int] = []
    for point in points:
        process = await _begin(env, topic, *more)
        reached = await _reach(url, point, process)
        # Anywhere within the batch that comes next.
        await asyncio.sleep(random.random() * 0.05)
        if process.returncode is not None:
            break
        process.send_signal(signal.SIGKILL)
        await process.wait()
        after.append(reached)
        say(f"killed behind offset {reached:,}")
    return Killed(len(after), after, await replay(env, topic, *more))


async def _begin(env: Mapping[str, str], topic: str, *more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *PROGRAM,
        "replay",
        "--topic",
        topic,
        "--no-breaker",
        "--json",
        *more,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _reach(url: str, point: int, process: asyncio.subprocess.Process) -> int:
    """Wait until the place that is noted is behind so many records, or the process ends."""
    passed = func.sum(replay_partitions.c.next_offset - replay_partitions.c.first_offset)
    database = await Database.connect(url)
    give_up_at = time.monotonic() + _PATIENCE_S
    try:
        while True:
            async with database.reading() as tx:
                reached = int(await tx.scalar(select(passed)) or 0)
            if reached >= point or process.returncode is not None:
                return reached
            assert time.monotonic() < give_up_at, "the replay does not get on"
            await asyncio.sleep(_LOOK_EVERY_S)
    finally:
        await database.close()
