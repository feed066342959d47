"""What is told of a replay: against reading alone, and of live events beside it."""

import pytest

from benchmarks.command import Replaying
from benchmarks.contest import Lap
from benchmarks.parts import beside, replay
from benchmarks.parts.beside import ALONE, Beside
from benchmarks.parts.replay import Timings
from benchmarks.running import ProgramFailed, launched

_SAYS = "import json, sys; print(json.dumps({'new': 1})); sys.stderr.write('a warning')"


def test_a_replays_rate_is_that_without_its_start() -> None:
    timings = Timings(1_000, seconds=[3.0, 6.0, 9.0], starts_s=[1.0, 1.0, 2.0], peaks_mb=[80.0, 90.0, 85.0])
    assert timings.per_second == 200
    assert timings.per_second_in_all == pytest.approx(166.7, abs=0.1)
    read = Lap(1_000, seconds=4.0, cpu_s=1.0, machine_cpu_s=1.0, peak_mb=70.0, outcomes=0)
    table = replay.table(1_000, [read], {("PostgreSQL", replay.KNOWN): timings})
    assert table.rows[1][2] == pytest.approx(0.8)
    assert [(goal.measured, goal.met) for goal in table.goals] == [(pytest.approx(0.8), True), (90.0, True)]


@pytest.mark.parametrize(
    ("case", "ms", "met"),
    [(beside.KNOWN, 0.010, True), (beside.KNOWN, 0.011, False), (beside.NEW, 0.011, False)],
)
def test_one_round_that_others_disturbed_does_not_decide(case: str, ms: float, *, met: bool) -> None:
    alone = Beside(rounds=[[0.005] * 3, [0.005] * 3, [0.001] * 3])
    quiet = Beside(rounds=[[0.005] * 3] * 3, rates=[1.0, 2.0, 3.0])
    disturbed = Beside(rounds=[[0.005] * 3, [ms] * 3, [9.0] * 3], rates=[1.0, 2.0, 3.0])
    table = beside.table({ALONE: alone, beside.KNOWN: quiet, beside.NEW: quiet} | {case: disturbed})
    (goal,) = (one for one in table.goals if one.name == f"p99 beside {case}, of no replay")
    assert goal.met is met
    assert table.rows[0][-2:] == (9, None)
    assert table.rows[1][-2:] == (9, 2.0)


async def test_a_commands_peak_is_its_own_and_not_that_of_whoever_began_it() -> None:
    ours = bytearray(b"x" * 200_000_000)
    async with launched(["-c", f"import time; time.sleep(0.3); {_SAYS}"], {}, apart=True) as running:
        ended = await Replaying(running).ended()
    assert len(ours) / 1024**2 > ended.peak_mb > 1
    assert ended.said == {"new": 1}
    assert ended.seconds >= 0.3


async def test_a_command_that_fails_says_what_it_complained_of() -> None:
    async with launched(["-c", f"{_SAYS}; sys.exit(2)"], {}, apart=True) as running:
        with pytest.raises(ProgramFailed, match=r"(?s)ended with 2 instead of 0.*a warning"):
            await Replaying(running).ended()
