"""`python -m benchmarks [NAME ...]`: run the comparisons and print a line each (`--json` for scripts).

Where QM_TEST_KAFKA and QM_TEST_POSTGRES are set, the real broker and database are measured;
else the embedded broker and SQLite.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

from benchmarks import decoding, ingest, replay
from benchmarks.report import Measured

SUITES: dict[str, Callable[[int], Awaitable[list[Measured]]]] = {
    "decoding": decoding.measure,
    "ingest": ingest.measure,
    "replay": replay.measure,
    "replay-known": replay.measure_known,
}


def main() -> int:
    """Run what is named, all where nothing is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SUITES)}; none: all")
    parser.add_argument("--events", type=int, default=20_000, help="how many events a comparison takes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - SUITES.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    for name in arguments.names or SUITES:
        measured = asyncio.run(SUITES[name](arguments.events))
        baseline = measured[0].per_second
        for one in measured:
            ratio = one.per_second / baseline
            if arguments.json:
                print(
                    json.dumps(
                        {
                            "suite": name,
                            "name": one.name,
                            "per_second": round(one.per_second),
                            "ratio": round(ratio, 3),
                        }
                    )
                )
            else:
                print(
                    f"{name:10} {one.name:56} {one.per_second:10,.0f}/s   {ratio:6.2f} of the baseline",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
