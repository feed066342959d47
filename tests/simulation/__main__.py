"""`python -m tests.simulation`: every crash point, and seeded schedules of several instances.

The production service runs unchanged over real SQLite files, a simulated Kafka and a simulated LiteLLM, in
simulated time. The same seed gives the same run, step by step, on every machine.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tests.parts.databases import migrated
from tests.parts.loops import run_apart
from tests.simulation import crash_points, schedules
from tests.simulation.edges import Death
from tests.simulation.planted import PLANTED
from tests.simulation.scenarios import SCENARIOS, Scenario
from tests.simulation.shrinking import shrink
from tests.simulation.workers import scratch, spread

SHOWN = 5
"""How many findings are told in full."""


@click.group(help=__doc__)
def main() -> None:
    # The order of sets hangs on it, and a run is to be the same everywhere.
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )


_workers = click.option(
    "--workers", default=os.cpu_count() or 2, show_default=True, help="Processes at once."
)
_seconds = click.option("--seconds", type=float, help="Begin nothing new after so long.")
_json = click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
_planted = click.option(
    "--planted", type=click.Choice(sorted(PLANTED)), help="Plant this defect first, to see it found."
)


@main.command("crash-points")
@click.option("--scenario", "wanted", help="Only the scenario of this name, or those with it in their names.")
@click.option("--all", "everything", is_flag=True, help="Every point, also those that leave the same world.")
@click.option(
    "--pairs", default=0, help="So many pairs of crashes in a row for each scenario, drawn by --seed."
)
@click.option("--sample", type=int, help="Of each scenario only so many deaths, drawn by --seed.")
@click.option("--seed", default=1, show_default=True, help="Where pairs and samples are drawn from.")
@_workers
@_seconds
@_planted
@_json
def crash_points_command(  # noqa: PLR0917 - click gives them by name
    wanted: str | None,
    everything: bool,  # noqa: FBT001
    pairs: int,
    sample: int | None,
    seed: int,
    workers: int,
    seconds: float | None,
    planted: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Kill the process at every edge of every scenario, before and after its effect, and compare the ends."""
    template = _template()
    until = None if seconds is None else time.monotonic() + seconds
    if planted:
        PLANTED[planted]()
    chosen = [one for one in SCENARIOS if one.name == wanted] or [
        one for one in SCENARIOS if wanted is None or wanted in one.name
    ]
    rows, findings = [], []
    for scenario in chosen:
        row, found = _try_scenario(
            scenario,
            template,
            everything=everything,
            pairs=pairs,
            sample=sample,
            seed=seed,
            workers=workers,
            until=until,
        )
        rows.append(row)
        findings += found
        if not as_json:
            click.echo(
                f"{scenario.name:66} {row['edges']:5} edges {row['points']:5} points, "
                f"{row['distinct']:4} worlds: {row['run']:5} runs, {len(found)} wrong"
            )
    total: Any = {
        key: sum(row[key] for row in rows) for key in ("edges", "points", "distinct", "run", "wrong")
    }
    _tell(total | {"scenarios": len(rows), "seed": seed, "each": rows}, findings, as_json=as_json)
    if until is not None and time.monotonic() > until:
        raise click.ClickException("the time was up before all points were tried")


def _try_scenario(
    scenario: Scenario,
    template: Path,
    *,
    everything: bool,
    pairs: int,
    sample: int | None,
    seed: int,
    workers: int,
    until: float | None,
) -> tuple[dict[str, Any], list[str]]:
    (base,) = [
        result
        for _, result in spread(
            [{}],
            lambda deaths, folder: crash_points.run(scenario, deaths, folder=folder, template=template),
            workers=1,
        )
    ]
    wrong = _without_crash(scenario, base)
    if isinstance(base, str) or wrong:
        nothing = dict.fromkeys(("edges", "points", "distinct"), 0)
        return {"name": scenario.name, **nothing, "run": 1, "wrong": 1}, [
            f"{scenario.name}, without any crash: {wrong}"
        ]
    every = list(crash_points.points(base))
    distinct = crash_points.distinct(base)
    deaths: list[crash_points.Deaths] = [
        {number: death} for number, death in (every if everything else distinct)
    ]
    if sample is not None:
        deaths = random.Random(f"{seed} {scenario.name}").sample(deaths, min(sample, len(deaths)))
    deaths += _pairs(base, random.Random(f"{seed} {scenario.name}"), pairs)

    def attempt(deaths: crash_points.Deaths, folder: Path) -> tuple[list[str], int]:
        run = crash_points.run(scenario, deaths, folder=folder, template=template)
        return crash_points.problems(base, run), run.deaths

    found, runs = [], 0
    for one, result in spread(deaths, attempt, workers=workers, until=until):
        runs += 1
        _progress(f"{scenario.name}: {runs} of {len(deaths)}")
        if isinstance(result, str):
            found.append(_finding(scenario, base, one, result))
        elif result[1] != len(one) and len(one) == 1:
            found.append(_finding(scenario, base, one, f"died {result[1]} times"))
        elif result[0]:
            found.append(_finding(scenario, base, one, "; ".join(result[0])))
    return {
        "name": scenario.name,
        "edges": len(base.passed) - base.first,
        "points": len(every),
        "distinct": len(distinct),
        "run": runs,
        "wrong": len(found),
    }, found


def _without_crash(scenario: Scenario, base: crash_points.Run | str) -> str:
    """What is wrong already where nothing befalls; nothing: empty."""
    if isinstance(base, str):
        return base
    if dict(base.told) != dict(scenario.tells):
        return f"told {dict(base.told)}, not {dict(scenario.tells)}"
    return "; ".join(base.violations)


def _pairs(base: crash_points.Run, chance: random.Random, count: int) -> list[crash_points.Deaths]:
    """Two crashes in a row: the second somewhere on the way of the process that was started again."""
    points = crash_points.distinct(base)
    return [
        {first: death, first + chance.randint(1, 250): chance.choice([Death.BEFORE, Death.AFTER])}
        for first, death in (chance.choice(points) for _ in range(count))
    ]


def _finding(scenario: Scenario, base: crash_points.Run, deaths: crash_points.Deaths, what: str) -> str:
    where = ", ".join(
        f"{death} edge {number}" + (f" ({base.passed[number].name})" if number < len(base.passed) else "")
        for number, death in sorted(deaths.items())
    )
    return f"{scenario.name}, killed {where}: {what}"


@main.command("schedules")
@click.option("--seeds", default=200, show_default=True, help="How many.")
@click.option("--first", default=1, show_default=True, help="The first of them.")
@click.option("--instances", type=int, help="So many at the beginning, instead of two or three.")
@click.option(
    "--shrink/--no-shrink", "shrinking", default=True, help="Look for the smallest plan that goes wrong."
)
@_workers
@_seconds
@_planted
@_json
def schedules_command(  # noqa: PLR0917 - click gives them by name
    seeds: int,
    first: int,
    instances: int | None,
    shrinking: bool,  # noqa: FBT001
    workers: int,
    seconds: float | None,
    planted: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Run two and three instances against each other, in an order and with faults drawn from seeds."""
    template = _template()
    until = None if seconds is None else time.monotonic() + seconds
    if planted:
        PLANTED[planted]()
    plans = [schedules.plan_of(seed, instances=instances) for seed in range(first, first + seeds)]

    def attempt(plan: schedules.Plan, folder: Path) -> schedules.Verdict:
        return schedules.run(plan, folder=folder, template=template)

    befell: Counter[str] = Counter()
    figures: Counter[str] = Counter()
    findings, wrong = [], []
    for plan, verdict in spread(plans, attempt, workers=workers, until=until):
        figures["seeds"] += 1
        if isinstance(verdict, str):
            findings.append(f"seed {plan.seed}: {verdict}")
            continue
        figures["turns"] += verdict.turns
        figures["events"] += len(plan.events)
        figures["outcomes"] += verdict.outcomes
        befell.update(verdict.befell)
        if verdict.violations:
            wrong.append(plan)
            findings.append(f"seed {plan.seed}: " + "; ".join(verdict.violations))
        _progress(f"{figures['seeds']} of {seeds} seeds, {len(findings)} wrong")
    figures["wrong"] = len(findings)
    total = dict(figures) | {"first": first, "befell": dict(sorted(befell.items()))}
    if wrong and shrinking:
        (_, smallest), *_ = spread(
            [wrong[0]], lambda plan, folder: shrink(plan, lambda one: attempt(one, folder)), workers=1
        )
        if not isinstance(smallest, str):
            _show(smallest)
    _tell(total, findings, as_json=as_json)


@main.command("seed")
@click.argument("seed", type=int)
@click.option("--instances", type=int)
@_planted
def seed_command(seed: int, instances: int | None, planted: str | None) -> None:
    """Run one seed and show every step of it."""
    template = _template()
    if planted:
        PLANTED[planted]()
    plan = schedules.plan_of(seed, instances=instances)
    ((_, verdict),) = spread(
        [plan], lambda plan, folder: schedules.run(plan, folder=folder, template=template), workers=1
    )
    if isinstance(verdict, str):
        raise click.ClickException(verdict)
    _show(verdict)
    if verdict.violations:
        raise SystemExit(1)


def _show(verdict: schedules.Verdict) -> None:
    plan = verdict.plan
    click.echo(f"seed {plan.seed}, {plan.instances} instances, haste {plan.haste}", err=True)
    for one in (*plan.events, *plan.faults):
        click.echo(f"  {one}", err=True)
    for line in verdict.trace:
        click.echo(line, err=True)
    for violation in verdict.violations:
        click.echo(f"VIOLATION: {violation}", err=True)


def _tell(total: dict[str, Any], findings: Sequence[str], *, as_json: bool) -> None:
    _progress("")
    if as_json:
        click.echo(json.dumps(total | {"findings": list(findings)}))
    else:
        click.echo(", ".join(f"{name} {value}" for name, value in total.items() if name != "each"))
    for finding in findings[:SHOWN]:
        click.echo(finding, err=True)
    if len(findings) > SHOWN:
        click.echo(f"... and {len(findings) - SHOWN} more", err=True)
    if findings:
        raise SystemExit(1)


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{line}", nl=False, err=True)


def _template() -> Path:
    """A migrated database to copy, in the memory of this machine where it has such a place."""
    path = scratch() / "template.db"
    run_apart(migrated(f"sqlite+aiosqlite:///{path}"))
    return path


if __name__ == "__main__":
    main()
