from collections import Counter
from pathlib import Path

from tests.mutation.survivors import Change, Survivor, allowed, change_of, listed
from tests.mutation.targets import TARGETS

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
    change = Change("a.py", "f", "x => y")
    twice = [Survivor(change, "why", None), Survivor(change, "why", None)]

    assert allowed(twice, on_postgresql=True) == Counter({change: 2})


def test_what_only_postgresql_is_sent_may_survive_without_it_alone() -> None:
    survivor = Survivor(Change("a.py", "f", "x => y"), "why", "sqlite")

    assert allowed([survivor], on_postgresql=False)
    assert not allowed([survivor], on_postgresql=True)


def test_every_listed_survivor_is_of_code_that_is_still_there_and_has_a_reason() -> None:
    mutated = {file for target in TARGETS for file in target.files}
    for survivor in listed():
        change = survivor.change
        assert change.file in mutated
        assert len(survivor.reason) > 20, survivor
        assert survivor.on in {None, "sqlite"}
        lines = [line.strip() for line in (ROOT / change.file).read_text("utf-8").splitlines()]
        for line in change.text.split("=>")[0].strip().split(" | "):
            assert line in lines, f"{change.file} {change.function}: {line}"


def test_every_witness_is_there_and_no_file_is_mutated_twice() -> None:
    files = [file for target in TARGETS for file in target.files]
    assert len(files) == len(set(files))
    for path in [*files, *(witness for target in TARGETS for witness in target.witnesses)]:
        assert (ROOT / path).exists(), path
