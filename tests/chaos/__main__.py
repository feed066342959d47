"""Kill, stop, hang and rebalance `quartermaster run` under load; then hold what it left against the contract.

Three instances on PostgreSQL, then one on SQLite, each against a real Kafka cluster and LiteLLM, while events
come in that are repeated, reordered, contradictory and broken, for organizations with fewer credits than
jobs. Afterwards everything may finish; then every record on the topics, the ledger and LiteLLM are compared
with what the guarantees say of exactly these events (tests/checker). Exit 0: all held. Exit 1: something did
not, or the time did not suffice; the evidence is kept, and said where.

The servers: QM_TEST_KAFKA, QM_TEST_POSTGRES and QM_TEST_LITELLM name running ones. Otherwise the scripts in
QM_TEST_SERVERS start Kafka (three brokers) and PostgreSQL for the run, and a stand-in takes LiteLLM's place.
"""
# ruff: noqa: T201 - a command prints

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import URL, make_url

from tests.chaos.run import Parts, Plan, Report, run
from tests.parts.choice import KAFKA, LITELLM, POSTGRES, Source
from tests.parts.databases import temporary_database
from tests.parts.litellm import litellm
from tests.parts.servers import OwnKafka, OwnPostgres

_SHOWN = 8
_SECONDS_A_KILL = {"postgresql": 4.5, "sqlite": 6.5}


def main() -> int:
    arguments = _arguments()
    for variable in [
        name for name in os.environ if name.startswith("QM_") and not name.startswith("QM_TEST_")
    ]:
        del os.environ[variable]
    print(f"seed {arguments.seed}: give it again with --seed {arguments.seed}", file=sys.stderr, flush=True)
    for part in (KAFKA, POSTGRES, LITELLM):
        print(f"  {part}", file=sys.stderr, flush=True)
    try:
        reports = asyncio.run(_run_all(arguments))
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("\nended before the end; nothing is left running", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps([report.document() for report in reports], indent=2))
    else:
        for report in reports:
            _print(report)
    return 0 if all(report.passed for report in reports) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: a new one")
    parser.add_argument("--kills", type=int, default=200, help="how often SIGKILL hits at least (200)")
    parser.add_argument("--rebalances", type=int, default=50, help="how many rebalances at least (50)")
    parser.add_argument("--sqlite-kills", type=int, default=40, help="the same of the run on SQLite (40)")
    parser.add_argument("--minutes", type=float, default=40, help="time limit for each nemesis (40)")
    parser.add_argument(
        "--on", choices=["both", "postgresql", "sqlite"], default="both", help="which database (both)"
    )
    parser.add_argument("--instances", type=int, default=3, help="on PostgreSQL (3)")
    parser.add_argument("--orgs", type=int, default=40, help="how many organizations (40)")
    parser.add_argument("--users", type=int, default=60, help="how many users join (60)")
    parser.add_argument("--jobs-a-second", type=float, default=50, help="how many jobs a second (50)")
    parser.add_argument("--json", action="store_true", help="print the reports as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the evidence also where all held")
    return parser.parse_args()


async def _run_all(arguments: argparse.Namespace) -> list[Report]:
    task = asyncio.current_task()
    assert task is not None
    # Whoever ends us does not leave a dozen processes behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    reports = []
    with contextlib.ExitStack() as stack:
        kafka = await asyncio.to_thread(stack.enter_context, _kafka())
        proxy = await asyncio.to_thread(stack.enter_context, litellm())
        for dialect in ("postgresql", "sqlite"):
            if arguments.on not in {"both", dialect}:
                continue
            folder = Path(tempfile.mkdtemp(prefix=f"chaos-{dialect}-{arguments.seed}-"))
            async with contextlib.AsyncExitStack() as around:
                if dialect == "postgresql":
                    server = await asyncio.to_thread(stack.enter_context, _postgres())
                    url = await around.enter_async_context(temporary_database(server))
                    database_url = url.render_as_string(hide_password=False)
                else:
                    database_url = f"sqlite+aiosqlite:///{folder / 'quartermaster.db'}"
                parts = Parts(kafka, database_url, proxy.url, proxy.key)
                report = await run(_plan(arguments, dialect), parts, folder, say=_say)
            reports.append(report)
            if report.passed and not arguments.keep:
                shutil.rmtree(folder)
            else:
                print(f"the evidence stands in {folder}", file=sys.stderr)
    return reports


def _plan(arguments: argparse.Namespace, dialect: str) -> Plan:
    on_sqlite = dialect == "sqlite"
    kills = arguments.sqlite_kills if on_sqlite else arguments.kills
    return Plan(
        seed=arguments.seed,
        size=1 if on_sqlite else arguments.instances,
        kills=kills,
        rebalances=min(arguments.rebalances, kills // 4) if on_sqlite else arguments.rebalances,
        limit_s=arguments.minutes * 60,
        expected_s=min(arguments.minutes * 60, kills * _SECONDS_A_KILL[dialect]),
        orgs=arguments.orgs,
        users=arguments.users,
        jobs_a_second=arguments.jobs_a_second,
    )


@contextlib.contextmanager
def _kafka() -> Iterator[str]:
    if KAFKA.source is Source.GIVEN:
        yield str(KAFKA.given)
        return
    with OwnKafka() as server:
        yield server.address


@contextlib.contextmanager
def _postgres() -> Iterator[URL]:
    if POSTGRES.source is Source.GIVEN:
        yield make_url(str(POSTGRES.given)).set(drivername="postgresql+asyncpg")
        return
    with OwnPostgres() as server:
        yield server.url


def _say(line: str) -> None:
    """A progress line: on a terminal always the same one."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)


def _print(report: Report) -> None:
    print(f"\n{report.database}, seed {report.seed}, {report.seconds:.0f} s")
    for name, value in (report.figures | report.outcomes).items():
        print(f"  {name.replace('_', ' '):32} {value:>10,}")
    for event, count in report.logged.items():
        print(f"  logged {count:>6,} times  {event}")
    for line in [*report.not_reached, *_first_of_each(report.violations)]:
        print(f"  FAILED: {line}")
    print("  every guarantee held" if report.passed else "  FAILED")


def _first_of_each(violations: list[str]) -> Iterator[str]:
    """The first few violations of each guarantee; all of them stand with the evidence."""
    seen: Counter[str] = Counter()
    for one in violations:
        guarantee = one.partition(":")[0]
        seen[guarantee] += 1
        if seen[guarantee] <= _SHOWN:
            yield one
    for guarantee, count in seen.items():
        if count > _SHOWN:
            yield f"{guarantee}: {count - _SHOWN} more"


if __name__ == "__main__":
    sys.exit(main())
