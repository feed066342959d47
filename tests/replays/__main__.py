"""Kill a replay at random points, again and again; compare its books with those of one that was left alone.

A topic with a mixed history (jobs, repeats, contradictions, broken records, what needs LiteLLM) is replayed
into two databases: into one undisturbed, into the other with SIGKILL at random points, each time begun again
with the same command. Exit 0: both hold the same books, and once more adds nothing. Exit 1: they differ.

QM_TEST_KAFKA and QM_TEST_POSTGRES name running servers; without them: the embedded broker and SQLite.
"""
# ruff: noqa: T201 - a command prints

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from tests.parts.choice import POSTGRES
from tests.parts.databases import migrated, postgres, temporary_database
from tests.parts.kafka import TopicFactory, kafka
from tests.replays.history import PARTITIONS, books, differences, prepare, publish
from tests.replays.killing import environment, replay, replay_killed

_CREDITS = 10**9


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.replays",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: a new one")
    parser.add_argument("--events", type=int, default=200_000, help="how many (200000)")
    parser.add_argument("--kills", type=int, default=20, help="how often (20)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}: give it again with --seed {arguments.seed}", file=sys.stderr, flush=True)
    report = asyncio.run(_compare(arguments))
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        for name, what in report.items():
            print(f"{name:16} {what}")
    return 1 if report["differences"] or report["kills"] < arguments.kills else 0


async def _compare(arguments: argparse.Namespace) -> dict[str, object]:
    with kafka() as address:
        async with TopicFactory(address) as factory, _database() as undisturbed, _database() as disturbed:
            (topic,) = await factory.create("history", partitions=PARTITIONS)
            await publish(address, topic, arguments.events, arguments.seed)
            start = time.monotonic()
            await prepare(undisturbed, _CREDITS)
            whole = await replay(environment(address, topic, undisturbed), topic, "--rate", "0")
            seconds = time.monotonic() - start
            _say(f"undisturbed: {whole['new']:,} new of {arguments.events:,} in {seconds:.0f} s")
            stood = await books(undisturbed)

            await prepare(disturbed, _CREDITS)
            env = environment(address, topic, disturbed)
            killed = await replay_killed(
                env,
                topic,
                disturbed,
                events=arguments.events,
                kills=arguments.kills,
                random=Random(arguments.seed),
                more=("--rate", "0"),
                say=_say,
            )
            found = differences(stood, await books(disturbed))
            again = await replay(env, topic)
            found += differences(stood, await books(disturbed))
            if again["new"]:
                found.append(f"once more: {again['new']} new")
            if killed.said["resumed"] and whole["new"] != killed.said["new"]:
                found.append(f"told as new: {whole['new']} and {killed.said['new']}")
            return {
                "seed": arguments.seed,
                "events": arguments.events,
                "kills": killed.kills,
                "killed behind": killed.after,
                "new": killed.said["new"],
                "books": {name: len(part) for name, part in stood.items()},
                "differences": found,
            }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@asynccontextmanager
async def _database() -> AsyncIterator[str]:
    if POSTGRES.is_real:
        with postgres() as server:
            async with temporary_database(server) as url:
                address = url.render_as_string(hide_password=False)
                await migrated(address)
                yield address
        return
    with tempfile.TemporaryDirectory() as folder:
        address = f"sqlite+aiosqlite:///{Path(folder) / 'books.db'}"
        await migrated(address)
        yield address


if __name__ == "__main__":
    sys.exit(main())
