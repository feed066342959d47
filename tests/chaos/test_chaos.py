"""The short form of `python -m tests.chaos`: a dozen kills and a few rebalances, on servers of its own."""

from pathlib import Path
from random import Random

import pytest

from consumer.standin import StandIn
from tests.chaos.load import Amount, Load
from tests.chaos.run import Parts, Plan, run
from tests.parts.databases import temporary_database
from tests.parts.servers import OwnKafka, OwnPostgres


@pytest.mark.timeout(600)
async def test_guarantees_1_to_8_hold_though_killed_hung_and_rebalanced(
    own_kafka: OwnKafka, own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    """Guarantees 1 to 8: three instances on PostgreSQL, held against everything they left behind."""
    plan = Plan(
        seed=20260301,
        size=3,
        kills=12,
        rebalances=3,
        limit_s=200,
        expected_s=45,
        orgs=8,
        users=10,
        jobs_a_second=40,
        dependency_wait_s=25,
        litellm_timeout_s=3,
    )
    async with (
        StandIn() as standin,
        temporary_database(own_postgres.url) as url,
    ):
        parts = Parts(
            own_kafka.address, url.render_as_string(hide_password=False), standin.url, standin.master_key
        )
        report = await run(plan, parts, tmp_path, say=print)
    assert report.violations == [], report
    assert report.not_reached == [], report


def test_the_same_seed_sends_the_same() -> None:
    """What goes in is repeatable, whatever the processes make of it."""

    def sent(seed: str) -> object:
        load = Load(Random(seed), "world", Amount(orgs=5, users=5, ticks=100))
        return [load.tick() for _ in range(100)] + [load.rest()]

    assert sent("one") == sent("one")
    assert sent("one") != sent("two")
