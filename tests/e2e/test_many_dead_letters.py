"""A hundred thousand dead letters sent through at once: in bounded memory, each job charged once."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from consumer.ingest.batch import dead_letter_of
from schemas.dead_letters import DeadLetterReason
from schemas.decode import IncomingRecord, Rejected
from schemas.outcomes import Origin
from storage import ledger, organizations, outbox
from storage.database import Database
from storage.dead_letters import DeadLetter
from tests.e2e.world import event
from tests.integration.consumer.ingest.events import NOW, activate

LETTERS = 100_000
ORGS = 100
REFUSED = Rejected(DeadLetterReason.TOO_LARGE, "the value had more bytes than were allowed then")
MOST_MEMORY_MB = 200


async def prepared(url: str) -> None:
    database = await Database.connect(url)
    try:
        for number in range(ORGS):
            await activate(database, org=f"org-{number}", credits_=LETTERS)
        for begin in range(0, LETTERS, 5_000):
            letters = [letter(offset) for offset in range(begin, begin + 5_000)]

            async with database.transaction() as tx:
                await outbox.append_dead_letters(tx, letters)
    finally:
        await database.close()


#: Runs what it is given and writes down what that took. A process of its own: a child's peak begins with
#: that of the process it was forked from, and a test runner's is no measure of ours.
MEASURED = """
import os, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], check=False).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(os.environ["USAGE"], "w") as file:
    print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss, file=file)
sys.exit(code)
"""


def letter(offset: int) -> DeadLetter:
    data = {"org_id": f"org-{offset % ORGS}", "job_id": f"job-{offset}", "status": "completed"}
    value = event("job.completed", data | {"metadata": {"note": "x" * 500}}, id_=f"e-{offset}")
    record = IncomingRecord("job.completed", 0, offset, 0, b"k", value, ())
    return dead_letter_of(record, REFUSED, origin=Origin.LIVE, now=NOW)


async def charges(url: str) -> tuple[int, bool]:
    database = await Database.connect(url)
    try:
        async with database.reading() as tx:
            states = await organizations.read(tx, [f"org-{number}" for number in range(ORGS)])
            return sum(state.charges for state in states.values()), (await ledger.verify(tx)).ok
    finally:
        await database.close()


@pytest.mark.proof
@pytest.mark.timeout(900)
async def test_a_hundred_thousand_are_sent_through_in_bounded_memory(
    database_url: str, tmp_path: Path
) -> None:
    await prepared(database_url)
    environment = {**os.environ, "QM_DATABASE_URL": database_url, "PYTHONPATH": str(Path.cwd())}
    program = (sys.executable, "-m", "consumer", "dead-letters", "redrive", "--all", "--json")
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MEASURED, *program),
            cwd=tmp_path,
            env=environment | {"USAGE": str(tmp_path / "usage")},
            stdout=out,
            stderr=errors,
        )
        await process.wait()

    told = json.loads((tmp_path / "out").read_text())
    assert (told["applied"], told["still_bad"]) == (LETTERS, 0)
    assert process.returncode == 0
    assert await charges(database_url) == (LETTERS, True)
    seconds, peak = map(float, (tmp_path / "usage").read_text().split())
    # Kilobytes on Linux, bytes on macOS.
    peak_mb = peak / (1024 if sys.platform == "linux" else 1024 * 1024)
    print(f"\n{seconds:.0f} s of a core, {peak_mb:.0f} MB at most")  # noqa: T201
    assert peak_mb < MOST_MEMORY_MB
    lines = (tmp_path / "err").read_text().splitlines()
    assert all(line.startswith("Redriving: ") for line in lines)
