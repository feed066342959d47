"""Short forms of `python -m tests.simulation`, run as anyone would run it: in a process of its own."""

import asyncio
import json
import sys
from typing import Any

import pytest

from tests.simulation.scenarios import SCENARIOS

pytestmark = pytest.mark.timeout(600)


async def simulate(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.simulation",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def figures(*arguments: str) -> dict[str, Any]:
    status, out, errors = await simulate(*arguments, "--json")
    found: dict[str, Any] = json.loads(out) if out else {}
    assert (status, errors, found.get("findings")) == (0, "", [])
    return found


@pytest.mark.proof
@pytest.mark.parametrize("scenario", [one.name for one in SCENARIOS])
async def test_guarantees_1_to_5_hold_wherever_the_process_is_killed(scenario: str) -> None:
    found = await figures("crash-points", "--scenario", scenario, "--pairs", "3", "--workers", "1")
    assert found["scenarios"] == 1
    (each,) = found["each"]
    assert each["points"] >= 2 * each["edges"] > 0
    assert each["run"] == each["distinct"] + 3


@pytest.mark.proof
async def test_guarantees_1_to_6_hold_for_instances_that_get_into_each_others_way() -> None:
    found = await figures("schedules", "--seeds", "40", "--workers", "2")
    assert found["seeds"] == 40
    assert found["outcomes"] > 40
    assert len(found["befell"]) > 8


async def test_a_seed_gives_the_same_run_again() -> None:
    first = await simulate("seed", "17")
    assert first[0] == 0
    assert "published" in first[2]
    assert await simulate("seed", "17") == first


@pytest.mark.parametrize(
    ("defect", "scenario", "told"),
    [
        ("offsets-before-effects", "jobs", "ledger"),
        ("acknowledged-before-sent", "new user", "outcomes"),
        ("nothing-written-down", "failed organization, compensated", "left behind"),
        ("waiting-jobs-reversed", "jobs and a user before the organization", "order"),
    ],
)
async def test_a_planted_defect_is_found(defect: str, scenario: str, told: str) -> None:
    status, _, errors = await simulate(
        "crash-points", "--scenario", scenario, "--planted", defect, "--workers", "2"
    )
    assert status == 1
    assert told in errors


async def test_schedules_find_a_planted_defect_and_tell_the_smallest_plan() -> None:
    status, _, errors = await simulate(
        "schedules", "--first", "46", "--seeds", "10", "--planted", "offsets-before-effects", "--workers", "2"
    )
    assert status == 1
    assert "guarantee 1" in errors
    assert "VIOLATION" in errors
