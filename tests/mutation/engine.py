"""mutmut, driven from here: it makes the mutants and runs the tests that reach each of them.

Every mutant of a function stands beside it in a copy of the tree; a process forked for each chooses one, so
that imports are paid once. What mutmut lacks is added: operators of our own, a target's own witnesses, a
sample, a limit of time, and timeouts that are looked at twice.
"""

import contextlib
import io
import itertools
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path
from typing import Any

import libcst as cst
import mutmut.__main__ as mutmut_main
from mutmut.mutation import mutators
from mutmut.mutation.data import MutantLineSpans, SourceFileMutationData
from mutmut.mutation.diff_apply import generated_function_names
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import mangled_name_from_mutant_name, orig_function_and_class_names_from_key
from mutmut.workers.isolation import MutantRunner, get_mutant_runner

from tests.mutation.operators import OPERATORS
from tests.mutation.survivors import change_of
from tests.mutation.targets import Target
from tests.mutation.tree import PATIENCE_S, PATIENCE_TIMES
from tests.mutation.verdicts import BrokenTestsError, Choice, Mutant, Verdict


def run(
    targets: Sequence[Target],
    *,
    choose: Choice,
    jobs: int,
    limit_s: float,
    tell: Callable[[str], None],
) -> list[Mutant]:
    """Try mutants of these targets, in a copy of the tree made by `tree.copy`.

    Args:
        targets: What to mutate.
        choose: Which of all mutants to try.
        jobs: How many at a time.
        limit_s: After how many seconds to stop.
        tell: Told how it goes, now and then.

    Raises:
        BrokenTestsError: Nothing can be said about any mutant.
    """
    until = time.monotonic() + limit_s
    tell("making mutants")
    mutants = _make(targets, jobs)
    chosen = choose(mutants)
    untried = sum(one.verdict is Verdict.UNTRIED for one in chosen)
    tell(f"{len(mutants)} mutants, {untried} to be tried; running the witnesses without any")
    runner = get_mutant_runner(jobs)
    _learn_which_tests_reach_what(runner)
    return _try(runner, chosen, {one.name: one for one in targets}, until=until, tell=tell)


# --- mutants --------------------------------------------------------------------------------------------


def _make(targets: Sequence[Target], jobs: int) -> list[Mutant]:
    set_mutant_under_test("mutant_generation")
    mutators.mutation_operators[:] = _operators()  # type: ignore[index]
    Path("mutants").mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        mutmut_main.copy_src_dir()
        mutmut_main.copy_also_copy_files()
        mutmut_main.setup_source_paths()
        mutmut_main.create_mutants(jobs)
    return [
        mutant
        for target in targets
        for file in target.files
        for mutant in _mutants(target, file)
        if not target.only or mutant.change.function in target.only
    ]


def _operators() -> list[Any]:
    """Give mutmut's operators and ours; of a string it makes three mutants that tell no more than one."""

    def one_string(node: cst.BaseString) -> Iterable[cst.BaseString]:
        return itertools.islice(mutators.operator_string(node), 1)

    theirs = [
        (kind, one_string if operator is mutators.operator_string else operator)
        for kind, operator in mutators.mutation_operators
    ]
    return [*theirs, *OPERATORS]


def _mutants(target: Target, file: str) -> Iterator[Mutant]:
    data = SourceFileMutationData(path=Path(file))
    data.load()
    names = list(data.exit_code_by_key)
    spans = MutantLineSpans.load(file)
    assert spans is not None, "made a moment ago"
    wanted = sorted({generated for name in names for generated in generated_function_names(name)})
    sources = dict(zip(wanted, spans.read_function_sources(wanted), strict=True))
    for name in names:
        function, of_class = orig_function_and_class_names_from_key(name)
        before, after = (
            sources[one].replace(one, function).split("\n") for one in generated_function_names(name)
        )
        where = function if of_class is None else f"{of_class}.{function}"
        yield Mutant(name, target.name, change_of(file, where, unified_diff(before, after, lineterm="", n=0)))


# --- the tests ------------------------------------------------------------------------------------------


def _learn_which_tests_reach_what(runner: MutantRunner) -> None:
    """Run all witnesses once, unmutated; prove then that a mutant would make them fail."""
    output = io.StringIO()
    set_mutant_under_test("stats")
    os.environ["PY_IGNORE_IMPORTMISMATCH"] = "1"
    os.environ["MUTMUT_DEPENDENCY_DEPTH"] = "-1"
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = runner.collect_stats([])
    if status != 0 or not state().tests_by_mangled_function_name:
        raise BrokenTestsError(f"the witnesses fail without any mutant:\n{output.getvalue()[-4000:]}")
    set_mutant_under_test("")


def _try(
    runner: MutantRunner,
    chosen: Sequence[Mutant],
    targets: dict[str, Target],
    *,
    until: float,
    tell: Callable[[str], None],
) -> list[Mutant]:
    verdicts = {one.name: one.verdict for one in chosen if one.verdict is not Verdict.UNTRIED}
    slow: list[Mutant] = []
    untried = [one for one in chosen if one.name not in verdicts]
    waiting = sorted(untried, key=lambda one: (_seconds(_witnesses(one, targets)), one.name))
    by_name = {one.name: one for one in chosen}
    report = _Progress(len(untried), tell)

    def take_result() -> None:
        result = runner.wait_for_result()
        match status_by_exit_code[result.exit_code]:
            case "killed":
                verdicts[result.mutant_name] = Verdict.KILLED
            case "survived":
                verdicts[result.mutant_name] = Verdict.SURVIVED
                change = by_name[result.mutant_name].change
                tell(f"survived: {change.file} {change.function}: {change.text}")
            case _:
                slow.append(by_name[result.mutant_name])
        report(verdicts.get(result.mutant_name, Verdict.LOOPED))

    runner.startup()
    try:
        with _limited(until):
            for mutant in waiting:
                tests = _witnesses(mutant, targets)
                if not tests:
                    verdicts[mutant.name] = Verdict.UNREACHED
                    continue
                while not runner.has_capacity():
                    take_result()
                _submit(runner, mutant, tests, times=1)
            while runner.pending_count():
                take_result()
            again, slow[:] = list(slow), []
            for mutant in again:
                _submit(runner, mutant, _witnesses(mutant, targets), times=3)
                take_result()
            verdicts |= {mutant.name: Verdict.LOOPED for mutant in slow}
    except TimeoutError:
        runner.stop_all_workers()
    finally:
        runner.shutdown()
    return [replace(one, verdict=verdicts.get(one.name, Verdict.UNTRIED)) for one in chosen]


def _submit(runner: MutantRunner, mutant: Mutant, tests: list[str], *, times: int) -> None:
    seconds = _seconds(tests) * times + PATIENCE_S * (times - 1)
    limit = math.ceil((seconds + PATIENCE_S) * PATIENCE_TIMES * 2)
    sys.stdout.flush()
    runner.submit(mutant.name, tests, limit, seconds)


def _witnesses(mutant: Mutant, targets: dict[str, Target]) -> list[str]:
    reaching = state().tests_by_mangled_function_name.get(mangled_name_from_mutant_name(mutant.name), set())
    return [test for test in reaching if test.startswith(targets[mutant.target].witnesses)]


def _seconds(tests: Sequence[str]) -> float:
    return sum(state().duration_by_test[test] for test in tests)


@contextlib.contextmanager
def _limited(until: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, until - time.monotonic()))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Progress:
    """Tells every few seconds how far it came."""

    def __init__(self, total: int, tell: Callable[[str], None]) -> None:
        self._total = total
        self._tell = tell
        self._began = self._told = time.monotonic()
        self._done = self._alive = 0

    def __call__(self, verdict: Verdict) -> None:
        now = time.monotonic()
        self._done += 1
        self._alive += not verdict.noticed
        if now - self._told < 5:
            return
        self._told = now
        left = (self._total - self._done) * (now - self._began) / self._done
        self._tell(f"{self._done} of {self._total} tried, {self._alive} not noticed, about {left:.0f} s left")
