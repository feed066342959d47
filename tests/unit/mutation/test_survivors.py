from pathlib import Path

from tests.mutation.report import Standing, no_longer, rows, standings
from tests.mutation.survivors import Change, Survivor, change_of, listed
from tests.mutation.targets import TARGETS
from tests.mutation.verdicts import Mutant, Verdict, but, sampled

ROOT = Path(__file__).parents[3]


def test_a_mutant_is_named_by_the_lines_it_changes_and_no_others() -> None:
    diff = [
        "--- a.py",
        "+++ a.py",
        "@@ -1,3 +1,3 @@",
        " def f():",
        "-    x = g(a,",
        "-    )",
        "+    x = g(",
        "+        )",
    ]

    assert change_of("a.py", "f", diff) == Change("a.py", "f", "x = g(a, => x = g(")


def test_a_line_left_out_is_named_too() -> None:
    assert change_of("a.py", "f", ["-    x()", "-    y()", "+    y()"]).text == "x() =>"


def test_the_same_change_twice_in_a_function_is_to_be_listed_twice() -> None:
    mutants = [mutant("x => y"), mutant("x => y"), mutant("x => y", Verdict.KILLED)]
    once = [Survivor(mutants[0].change, "why", None)]

    assert standings(mutants, once, on_postgresql=False) == ["equivalent", "open", "killed"]
    assert standings(mutants, once * 2, on_postgresql=False) == ["equivalent", "equivalent", "killed"]


def test_what_only_postgresql_is_sent_may_survive_without_it_alone() -> None:
    one = mutant("x => y")
    survivor = Survivor(one.change, "why", "sqlite")

    assert standings([one], [survivor], on_postgresql=False) == ["elsewhere"]
    assert standings([one], [survivor], on_postgresql=True) == ["open"]


def test_what_is_listed_and_killed_all_the_same_is_told() -> None:
    one = mutant("x => y", Verdict.KILLED)

    assert no_longer([one], [Survivor(one.change, "why", None)]) == [one.change]
    assert no_longer([mutant("x => y")], [Survivor(one.change, "why", None)]) == []


def test_scores_count_what_could_be_killed() -> None:
    mutants = [
        mutant("a =>", Verdict.KILLED),
        mutant("b =>"),
        mutant("c =>"),
        mutant("d =>", Verdict.UNTRIED),
    ]
    found = [Standing.KILLED, Standing.EQUIVALENT, Standing.ELSEWHERE, Standing.UNTRIED]

    *_, everything = rows(mutants, found)

    assert (everything.mutants, everything.raw, everything.score) == (2, 0.5, 1.0)


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    mutants = [mutant(f"{n} =>") for n in range(100)]

    assert sampled(10, 1)(mutants) == sampled(10, 1)(mutants)
    assert len(set(sampled(10, 1)(mutants))) == 10
    assert len(sampled(1000, 1)(mutants)) == 100


def test_what_was_killed_before_need_not_be_tried_again() -> None:
    mutants = [mutant(text, Verdict.UNTRIED) for text in ("x => y", "x => y", "z =>")]

    chosen = but({mutants[0].change: 1})(mutants)

    assert [one.verdict for one in chosen] == ["killed", "untried", "untried"]


def mutant(text: str, verdict: Verdict = Verdict.SURVIVED) -> Mutant:
    return Mutant(text, "target", Change("a.py", "f", text), verdict)


def test_every_listed_survivor_is_of_code_that_is_still_there_and_has_a_reason() -> None:
    mutated = {file for target in TARGETS for file in target.files}
    for survivor in listed():
        change = survivor.change
        assert change.file in mutated
        assert len(survivor.reason) > 20, survivor
        assert survivor.on in {None, "sqlite"}
        lines = [line.strip() for line in (ROOT / change.file).read_text("utf-8").splitlines()]
        for line in change.text.split("=>")[0].strip().split(" ;; "):
            assert line in lines, f"{change.file} {change.function}: {line}"


def test_every_witness_is_there_and_no_file_is_mutated_twice() -> None:
    files = [file for target in TARGETS for file in target.files]
    assert len(files) == len(set(files))
    for path in [*files, *(witness for target in TARGETS for witness in target.witnesses)]:
        assert (ROOT / path).exists(), path
