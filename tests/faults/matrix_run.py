"""The long form of LiteLLM's fault matrix: `python -m tests.faults.matrix_run`.

Every fault at every call of every scenario, faults that last, and pairs drawn by chance. Runs against the
proxy of QM_TEST_LITELLM, or against the stand-in; ends with status 1 where a cell ended wrong.
"""

import argparse
import asyncio
import contextlib
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import structlog

from tests.faults.fault_proxy import FaultProxy, Kind
from tests.faults.matrix import (
    ENDPOINTS,
    SCENARIOS,
    Cell,
    Lab,
    every_call,
    every_endpoint,
    lasting_cells,
    pairs,
    run_cells,
    sites,
)
from tests.parts.choice import LITELLM
from tests.parts.databases import migrated
from tests.parts.litellm import litellm

_GROUPS = ("calls", "endpoints", "lasting", "pairs")


def _cells(groups: list[str], count: int, seed: int) -> dict[str, list[Cell]]:
    made = {
        "calls": every_call,
        "endpoints": every_endpoint,
        "lasting": lasting_cells,
        "pairs": lambda: pairs(count, seed),
    }
    return {group: made[group]() for group in groups}


def _say_what_there_is() -> None:
    met = Counter((fault.endpoint, fault.kind) for cell in every_call() for fault in cell.faults())
    absent = [
        f"{kind.name} at {endpoint}" for endpoint in ENDPOINTS for kind in Kind if not met[endpoint, kind]
    ]
    wanted = len(ENDPOINTS) * len(Kind)
    print(  # noqa: T201
        f"{len(SCENARIOS)} scenarios make {len(list(sites()))} calls: {met.total()} cells; "
        f"{len(ENDPOINTS)} endpoints x {len(Kind)} faults: {wanted} pairs, without a cell: {absent or 'none'}"
    )


class _Progress:
    """One line that tells how far a group has come."""

    def __init__(self, group: str, total: int) -> None:
        self._group, self._total, self._done, self._begun, self._said = group, total, 0, time.monotonic(), 0.0

    def __call__(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._said > 1 or self._done == self._total:
            self._said = now
            took = now - self._begun
            print(f"\r{self._group}: {self._done} of {self._total} cells, {took:.0f} s", end="", flush=True)  # noqa: T201


async def _run(arguments: argparse.Namespace) -> int:
    wrong: list[str] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        proxy = stack.enter_context(litellm())
        template = folder / "template.db"
        await migrated(f"sqlite+aiosqlite:///{template}")
        async with (
            FaultProxy(*proxy) as faults,
            Lab(
                faults,
                template,
                folder,
                places=arguments.at_once,
                timeout_s=arguments.timeout,
                limit_s=arguments.limit,
            ) as lab,
        ):
            for group, cells in _cells(arguments.groups, arguments.pairs, arguments.seed).items():
                chosen = [cell for cell in cells if arguments.only in str(cell)]
                found = await run_cells(lab, chosen, _Progress(group, len(chosen)))
                print(f"\n{group}: {len(found)} of {len(chosen)} cells ended wrong")  # noqa: T201
                for line in found:
                    print(f"  {line}")  # noqa: T201
                wrong += found
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix_run", description=__doc__)
    parser.add_argument("--groups", nargs="+", choices=_GROUPS, default=["calls", "lasting", "pairs"])
    parser.add_argument("--pairs", type=int, default=200, help="how many pairs")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the pairs"
    )
    parser.add_argument("--only", default="", help="cells whose description holds this")
    parser.add_argument("--at-once", type=int, default=16, help="cells side by side")
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds until a held call is given up")
    parser.add_argument("--limit", type=float, default=3600, help="seconds after which no cell is begun")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print(f"{LITELLM}; seed {arguments.seed}", flush=True)  # noqa: T201
    _say_what_there_is()
    return asyncio.run(_run(arguments))


if __name__ == "__main__":
    sys.exit(main())
