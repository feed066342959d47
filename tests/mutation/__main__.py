"""`python -m tests.mutation`: change the code in small ways, one at a time, and see whether the tests notice.

Every mutant that no test notices has to stand in `survivors.toml` with the reason why it is no hole. With
QM_TEST_POSTGRES set, what is sent to PostgreSQL alone is tried too. Needs the extra `proof`.
"""

import argparse
import os
import random
import sys
import time
from pathlib import Path
from typing import Final

import click

from tests.mutation import report, tree
from tests.mutation.report import LEAST, Standing
from tests.mutation.survivors import listed
from tests.mutation.targets import TARGETS
from tests.mutation.verdicts import BrokenTestsError, Verdict, but, sampled

_REPORT: Final = tree.WORK.parent / "report.json"


def main() -> int:
    """Try mutants and print what became of them; 0 where nothing is left unexplained."""
    arguments = _arguments()
    targets = [one for one in TARGETS if not arguments.target or one.name in arguments.target]
    on_postgresql = bool(os.environ.get("QM_TEST_POSTGRES"))
    began = time.monotonic()

    def tell(line: str) -> None:
        click.echo(f"[{time.monotonic() - began:4.0f} s] {line}", err=True)

    choose = but(report.killed_in(arguments.json)) if arguments.again else but({})
    if arguments.sample is not None:
        choose = sampled(arguments.sample, arguments.seed)
        tell(f"a sample: --sample {arguments.sample} --seed {arguments.seed}")
    tree.copy(targets)
    os.chdir(tree.WORK)
    from tests.mutation.engine import run  # noqa: PLC0415 - mutmut reads its settings when it is imported

    try:
        mutants = run(targets, choose=choose, jobs=arguments.jobs, limit_s=arguments.limit, tell=tell)
    except BrokenTestsError as error:
        click.echo(error, err=True)
        return 1

    found = report.standings(mutants, listed(), on_postgresql=on_postgresql)
    rows = list(report.rows(mutants, found))
    report.save(
        arguments.json,
        mutants,
        found,
        seconds=round(time.monotonic() - began, 1),
        sample=arguments.sample,
        seed=arguments.seed,
        postgresql=on_postgresql,
    )
    click.echo(report.table(rows))
    for one, standing in zip(mutants, found, strict=True):
        if standing is Standing.OPEN:
            click.echo(f"\n{one.verdict}: {one.change.file} {one.change.function}\n    {one.change.text}")
    if arguments.sample is not None:
        # What was not tried in time was never promised; but something was.
        tried = len(found) - found.count(Standing.UNTRIED)
        return 1 if Standing.OPEN in found or not tried else 0

    for change in report.no_longer(mutants, listed()):
        click.echo(f"\nlisted, but noticed or gone: {change.file} {change.function}\n    {change.text}")
    weak = [row.target for row in rows if not row.file and row.raw < LEAST]
    for target in weak:
        click.echo(f"\n{target or 'all'}: less than {LEAST:.0%} killed")
    untried = found.count(Standing.UNTRIED)
    if untried:
        click.echo(f"\n{untried} were not tried within {arguments.limit:.0f} s: go on with --again")
    looped = sum(one.verdict is Verdict.LOOPED for one in mutants)
    click.echo(f"\n{looped} of the killed ran without end; {time.monotonic() - began:.0f} s in all")
    return 1 if Standing.OPEN in found or weak or untried else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    names = [one.name for one in TARGETS]
    parser.add_argument("--target", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants of all, at random")
    parser.add_argument("--seed", type=int, help="of the sample; without it one is chosen and told")
    parser.add_argument("--again", action="store_true", help="only what the report does not call killed")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="tried at a time (default: 2)")
    parser.add_argument("--limit", type=float, default=3600, metavar="SECONDS", help="stop then (3600)")
    parser.add_argument("--json", type=_path, default=_REPORT, metavar="FILE", help="the report")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(10**6)
    return arguments


def _path(text: str) -> Path:
    return Path(text).absolute()


if __name__ == "__main__":
    sys.exit(main())
