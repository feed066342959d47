"""`python -m tests.mutation`: change the code in small ways, one at a time, and see whether the tests notice.

Every mutant that no test notices has to stand in `survivors.toml` with the reason why it is no hole. With
QM_TEST_POSTGRES set, what is sent to PostgreSQL alone is tried too. Needs the extra `mutation`.
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutation import tree
from tests.mutation.survivors import Survivor, allowed, listed
from tests.mutation.targets import TARGETS
from tests.mutation.verdicts import BrokenTestsError, Mutant, Verdict, sampled

LEAST = 0.90
"""The share of a target's mutants that the tests have to notice."""


def main() -> int:
    """Try mutants and print what became of them; 0 where nothing is left unexplained."""
    arguments = _arguments()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    targets = [one for one in TARGETS if not arguments.target or one.name in arguments.target]
    began = time.monotonic()

    def tell(line: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {line}", file=sys.stderr, flush=True)

    sample = None if arguments.sample is None else sampled(arguments.sample, seed)
    if sample is not None:
        tell(f"a sample of {arguments.sample}, --seed {seed}")
    tree.copy(targets)
    os.chdir(tree.WORK)
    from tests.mutation.engine import run  # noqa: PLC0415 - mutmut reads its settings when it is imported

    try:
        mutants = run(
            targets,
            **({} if sample is None else {"choose": sample}),
            jobs=arguments.jobs,
            limit_s=arguments.limit,
            tell=tell,
        )
    except BrokenTestsError as error:
        print(error, file=sys.stderr)
        return 1
    on_postgresql = bool(os.environ.get("QM_TEST_POSTGRES"))
    survivors = listed()
    unexplained = _unexplained(mutants, survivors, on_postgresql=on_postgresql)
    rows = _rows(mutants, unexplained)
    print(_table(rows))
    for one in unexplained:
        print(f"\n{one.verdict}: {one.change.file} {one.change.function}\n    {one.change.text}")
    if sample is None:
        for change in _no_longer(mutants, survivors, on_postgresql=on_postgresql):
            print(f"\nlisted, and noticed all the same: {change.file} {change.function}\n    {change.text}")
    report = {
        "seed": None if sample is None else seed,
        "seconds": round(time.monotonic() - began, 1),
        "postgresql": on_postgresql,
        "targets": rows,
        "mutants": [
            {
                "target": one.target,
                "file": one.change.file,
                "function": one.change.function,
                "mutant": one.change.text,
                "verdict": one.verdict,
            }
            for one in mutants
        ],
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    untried = sum(one.verdict is Verdict.UNTRIED for one in mutants)
    if untried:
        print(f"\n{untried} mutants were not tried within {arguments.limit:.0f} s")
    weak = [] if sample is not None else [row for row in rows if row["killed"] < LEAST * row["mutants"]]
    for row in weak:
        print(f"\n{row['target']}: less than {LEAST:.0%} noticed")
    return 1 if unexplained or weak or (untried and sample is None) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    names = [one.name for one in TARGETS]
    parser.add_argument("--target", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants of all, at random")
    parser.add_argument("--seed", type=int, help="of the sample; without it one is chosen and told")
    parser.add_argument("--jobs", type=int, default=2, help="mutants tried at a time (default: %(default)s)")
    parser.add_argument(
        "--limit", type=float, default=3600, metavar="SECONDS", help="stop after (default: 3600)"
    )
    report = tree.WORK.parent / "report.json"
    parser.add_argument("--json", type=_path, default=report, help="where the report goes")
    return parser.parse_args()


def _path(text: str) -> Path:
    return Path(text).absolute()


def _unexplained(
    mutants: Sequence[Mutant], survivors: Sequence[Survivor], *, on_postgresql: bool
) -> list[Mutant]:
    left = allowed(survivors, on_postgresql=on_postgresql)
    found = []
    for one in mutants:
        if one.verdict.noticed or one.verdict is Verdict.UNTRIED:
            continue
        if left[one.change]:
            left[one.change] -= 1
        else:
            found.append(one)
    return found


def _no_longer(mutants: Sequence[Mutant], survivors: Sequence[Survivor], *, on_postgresql: bool) -> list:
    alive = Counter(one.change for one in mutants if not one.verdict.noticed)
    files = {one.change.file for one in mutants}
    listed_ones = allowed(survivors, on_postgresql=on_postgresql)
    return [change for change in listed_ones - alive if change.file in files]


def _rows(mutants: Sequence[Mutant], unexplained: Sequence[Mutant]) -> list[dict]:
    rows = []
    open_ = {one.name for one in unexplained}
    keys = dict.fromkeys((one.target, one.change.file) for one in mutants)
    for target in dict.fromkeys(target for target, _ in keys):
        files = [file for of, file in keys if of == target]
        for file in [*files, None]:
            of_row = [
                one
                for one in mutants
                if one.target == target
                and file in {None, one.change.file}
                and one.verdict is not Verdict.UNTRIED
            ]
            rows.append(
                {
                    "target": target,
                    "file": file,
                    "mutants": len(of_row),
                    "killed": sum(one.verdict.noticed for one in of_row),
                    "looped": sum(one.verdict is Verdict.LOOPED for one in of_row),
                    "listed": sum(not one.verdict.noticed and one.name not in open_ for one in of_row),
                    "unexplained": sum(one.name in open_ for one in of_row),
                }
            )
    return rows


def _table(rows: Sequence[dict]) -> str:
    lines = [
        f"{'':36}{'mutants':>9}{'killed':>8}{'listed':>8}{'open':>6}{'killed/all':>12}{'without listed':>16}"
    ]
    for row in rows:
        of = row["mutants"] - row["listed"]
        name = f"  {row['file']}" if row["file"] else row["target"]
        lines.append(
            f"{name:36}{row['mutants']:9}{row['killed']:8}{row['listed']:8}{row['unexplained']:6}"
            f"{_share(row['killed'], row['mutants']):>12}{_share(row['killed'], of):>16}"
        )
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


if __name__ == "__main__":
    sys.exit(main())
