"""Guarantees 1, 2, 6 and 8 against an upstream gone wrong, in its short form; `python -m tests.hostile` is longer.

Every record is compared with a second reading of the contract, and every sum with the books of the database.
"""

import random
import shutil
from pathlib import Path

import pytest

from storage.database import Database
from tests.hostile.reference import expected
from tests.hostile.run import Run
from tests.hostile.upstream import MAX_BYTES, Upstream

RECORDS = 12_000


async def run(path: Path, seed: int, records: int) -> list[str]:
    database = await Database.connect(f"sqlite+aiosqlite:///{path}")
    try:
        report = await Run(database, path, seed).go(records, within_s=100)
    finally:
        await database.close()
    assert sum(report.decided.values()) == report.records
    return [] if not report.differences else report.lines()


async def test_every_record_is_what_the_contract_says_and_all_sums_agree(
    _sqlite_template: Path, tmp_path: Path
) -> None:
    path = tmp_path / "books.db"
    shutil.copyfile(_sqlite_template, path)
    assert await run(path, random.SystemRandom().randrange(2**32), RECORDS) == []


@pytest.mark.parametrize(
    "seed",
    [
        1,  # a plain `traceparent` header with U+0000 in it: an outcome that was no JSON to strict readers
    ],
)
async def test_what_was_found_once_stays_mended(_sqlite_template: Path, tmp_path: Path, seed: int) -> None:
    path = tmp_path / "books.db"
    shutil.copyfile(_sqlite_template, path)
    assert await run(path, seed, 4000) == []


def test_the_upstream_sends_everything() -> None:
    """A generator that forgot a kind would prove nothing about it."""
    upstream = Upstream(7)
    found = {
        expected(sent.value, sent.headers, max_bytes=MAX_BYTES).what
        for sent in (upstream.next() for _ in range(6000))
    }
    assert found == {
        "event",
        "unknown",
        "null",
        "invalid_json",
        "invalid_envelope",
        "invalid_data",
        "too_large",
    }


def test_a_seed_tells_all() -> None:
    one, other = Upstream(3), Upstream(3)
    assert [one.next() for _ in range(500)] == [other.next() for _ in range(500)]
