"""`python -m tests.hostile`: a million hostile records through ingest, each compared with the contract."""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from storage.database import Database
from storage.migrations import migrate
from tests.hostile.run import Report, Run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="how many records (%(default)s)")
    parser.add_argument("--seed", type=int, help="what to follow from; a new one each time, and printed")
    parser.add_argument(
        "--limit", type=float, default=3600.0, metavar="SECONDS", help="give up after (%(default)s)"
    )
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if given.seed is None else given.seed
    _tell(f"hostile: seed {seed}")
    report = asyncio.run(_run(given.events, seed, given.limit))
    _tell("\n".join(report.lines()))
    if report.differences:
        again = f"--seed {seed} --events {given.events}"
        _tell(f"FAILED: {len(report.differences)} difference(s); again with {again}")
        return 1
    _tell("passed: every record is what the contract says, and all sums agree")
    return 0


async def _run(events: int, seed: int, limit_s: float) -> Report:
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        path = Path(folder) / "books.db"
        database = await Database.connect(f"sqlite+aiosqlite:///{path}")
        try:
            await migrate(database)

            def progress(done: int, seconds: float) -> None:
                rate = done / max(seconds, 0.001)
                left = (events - done) / max(rate, 0.001)
                end = "\r" if sys.stdout.isatty() else "\n"
                if sys.stdout.isatty() or done % 50_000 < 1000:
                    _tell(f"{done:>9,} of {events:,}  {rate:,.0f}/s  {left:,.0f} s left ", end=end)

            return await Run(database, path, seed).go(events, within_s=limit_s, progress=progress)
        finally:
            await database.close()


def _tell(text: str, *, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
