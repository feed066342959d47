"""`python -m benchmarks [PART ...]`: measured comparisons, each a ratio against a baseline in the same run.

Every part prints a table of medians. QM_TEST_KAFKA and QM_TEST_POSTGRES name the real broker and database,
QM_TEST_LITELLM a proxy (else the stand-in).
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

from benchmarks import picture
from benchmarks.figures import Table
from benchmarks.options import Options
from benchmarks.parts import (
    beside,
    decoding,
    fairness,
    growth,
    guard,
    instances,
    latency,
    organizations,
    peers,
    pipe,
    profile,
    provisioning,
    replay,
    start,
)

Part = Callable[[Options], Coroutine[None, None, Table]]

PARTS: dict[str, tuple[str, Part]] = {
    "pipe": ("charging a backlog end to end, against the bare pipe", pipe.measure),
    "peers": ("ours beside one event at a time and FastStream", peers.measure),
    "provisioning": ("organizations and users at LiteLLM, against a bare loop", provisioning.measure),
    "latency": ("from event to outcome at 50 events a second", latency.measure),
    "fairness": ("what others notice of a slow or busy organization", fairness.measure),
    "growth": ("where much stands already, and a long backlog", growth.measure),
    "organizations": ("more and more organizations", organizations.measure),
    "start": ("how soon it is ready, and what it costs to idle", start.measure),
    "instances": ("one, two, three processes", instances.measure),
    "decoding": ("from bytes to a checked event", decoding.measure),
    "replay": ("a back-fill, against reading alone", replay.measure),
    "beside": ("what live events notice of a replay beside them", beside.measure),
    "profile": ("where our process's time goes", profile.measure),
}
MARKS = ("<!-- figures -->", "<!-- end of figures -->")
"""Between these the README has its table."""
LONG = {"beside", "organizations"}
"""Left out where no part is named, unless --full is given: together the others take ten minutes."""
GUARD = "guard"
"""By name alone: it judges, and ends with 1 where ours has become slower."""


def main() -> int:
    """Run the parts that are named, the shorter ones where none is; 1 where a guard fails."""
    parser = _parser()
    arguments = parser.parse_args()
    parts = {name: part for name, (_, part) in PARTS.items()} | {GUARD: guard.measure}
    unknown = set(arguments.parts) - parts.keys()
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    kafka = os.environ.get("QM_TEST_KAFKA")
    if kafka is None:
        parser.error("QM_TEST_KAFKA names no broker: what is compared needs a real one")
    options = Options(
        kafka=kafka,
        postgres=os.environ.get("QM_TEST_POSTGRES"),
        litellm=os.environ.get("QM_TEST_LITELLM"),
        litellm_key=os.environ.get("QM_TEST_LITELLM_KEY", "sk-master-1234"),
        events=arguments.events or (300_000 if arguments.full else 20_000),
        rounds=arguments.rounds,
        full=arguments.full,
        record=arguments.record,
    )
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it warns of every topic that is just made
    tables: dict[str, Table] = {}
    for name in arguments.parts or [name for name in PARTS if arguments.full or name not in LONG]:
        tables[name] = asyncio.run(parts[name](options))
        print(tables[name].text(), flush=True)
        _write(tables, arguments)  # after each: a long run that breaks leaves what it found
    return int(any(one.guards and not all(goal.met for goal in one.goals) for one in tables.values()))


def _write(tables: dict[str, Table], arguments: argparse.Namespace) -> None:
    if arguments.json:
        arguments.json.write_text(json.dumps({name: one.plain() for name, one in tables.items()}, indent=1))
    if arguments.markdown:
        arguments.markdown.write_text(_document(tables))
    if arguments.picture and "peers" in tables:
        arguments.picture.write_text(picture.draw(peers.TITLE, peers.lines(tables["peers"])))
    if arguments.readme and "pipe" in tables and "peers" in tables:
        _put_between_marks(arguments.readme, _summary(tables["pipe"], tables["peers"]))


def _summary(piped: Table, beside: Table) -> str:
    """Put the rates of `pipe` and `peers` into one table: of each program what its largest backlog gave."""
    rates: dict[str, float] = piped.data["per_second"]
    names: dict[str, str] = piped.data["names"] | beside.data["names"]
    slower = {
        key: of_key[max(of_key)] for key, of_key in beside.data["per_second"].items() if key not in rates
    }
    rows = sorted((rates | slower).items(), key=lambda row: -row[1])
    lines = ["| program | events/s | of the bare pipe |", "| --- | ---: | ---: |"]
    for key, rate in rows:
        name = f"**{names[key]}**" if key.startswith("ours") else names[key]
        lines.append(f"| {name} | {rate:,.0f} | {rate / rates['bare_send']:.2f} |")
    return "\n".join(lines)


def _put_between_marks(file: Path, text: str) -> None:
    before, _, rest = file.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    file.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


def _document(tables: dict[str, Table]) -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    parts = [f"## `{name}`\n\n{one.markdown()}" for name, one in tables.items()]
    return "\n".join(
        [
            "# Figures\n",
            f"Written by `{command}` on {os.cpu_count()} cores, Python {python}.",
            "What is compared, and how: [benchmarks.md](benchmarks.md).\n",
            *parts,
        ]
    )


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:14} {about}" for name, (about, _) in PARTS.items())
    alone = f"  {GUARD:14} ends with 1 where ours has fallen behind the bare pipe; only by name"
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"parts:\n{listed}\n{alone}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure; none: everything")
    parser.add_argument("--events", type=int, help="of a backlog (default: 20,000; with --full 300,000)")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help="the sizes that the goals name; takes an hour")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables as Markdown")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw what `peers` found, as SVG")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="also renew the table between its marks")
    parser.add_argument("--record", action="store_true", help="have `guard` write its mark anew")
    return parser


if __name__ == "__main__":
    sys.exit(main())
