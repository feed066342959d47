"""Guarantees 1, 2, 6 and 8 against an upstream gone wrong; the long form is `python -m tests.hostile`.

Every record is compared with a second reading of the contract, and every sum with the books of the database.
"""

import random

import pytest

from storage.database import Database
from tests.hostile.reference import expected
from tests.hostile.run import Run
from tests.hostile.upstream import MAX_BYTES, Upstream

RECORDS = 3000


ON_SQLITE = pytest.mark.parametrize("dialect", ["sqlite"])


async def run(database: Database, seed: int, records: int) -> list[str]:
    path = database.sqlite_path
    assert path is not None
    report = await Run(database, path, seed).go(records, within_s=100)
    assert sum(report.decided.values()) == report.records
    return [] if not report.differences else report.lines()


@ON_SQLITE
async def test_every_record_is_what_the_contract_says_and_all_sums_agree(database: Database) -> None:
    assert await run(database, random.SystemRandom().randrange(2**32), RECORDS) == []


@ON_SQLITE
@pytest.mark.parametrize(
    "seed",
    [
        7,  # a plain `traceparent` header with U+0000 in it: an outcome that was no JSON to strict readers
    ],
)
async def test_what_was_found_once_stays_mended(database: Database, seed: int) -> None:
    assert await run(database, seed, 4000) == []


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
