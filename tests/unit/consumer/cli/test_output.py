"""What commands print for people."""

import pytest

from consumer.cli.output import print_facts, print_json, print_table, say


def test_a_table_is_aligned_without_trailing_space(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("user", "credits"), [("ann", 5), ("barbara", -10), (None, None)])

    assert (
        capsys.readouterr().out == "user     credits\nann            5\nbarbara      -10\n-              -\n"
    )


def test_nothing_is_cut_off_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("hash", "id"), [("a" * 64, "b" * 120)])

    assert f"{'a' * 64}  {'b' * 120}" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["[bold]not markup[/bold]", ":smile:", "\\[x]"])
def test_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], text: str) -> None:
    say(text)
    print_facts([("name", text)])
    print_table(("name",), [(text,)])

    assert capsys.readouterr().out.count(text) == 3


def test_nothing_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("name", "a\x1b[2Jb\nc")])

    assert capsys.readouterr().out == "name  a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c\n"


def test_json_is_one_document_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"b": None, "a": ["ä"]})

    assert capsys.readouterr().out == '{\n  "b": null,\n  "a": [\n    "ä"\n  ]\n}\n'
