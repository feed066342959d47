"""Bytes of others as people see them: readable, harmless, and cut where they are long."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.cli.letter_view import readable
from consumer.harmless import is_steering


def test_json_has_a_line_for_each_member_and_its_numbers_as_they_were_spelled() -> None:
    kind, lines, cut = readable(b'{"b":1.50,"a":[25,"Zo\xc3\xab"]}', full=False)
    assert (kind, cut) == ("JSON", False)
    assert lines == ["{", '  "b": 1.50,', '  "a": [', "    25,", '    "Zoë"', "  ]", "}"]


@pytest.mark.parametrize("value", [b'{"a": 1, "a": 2}', b"{", b"NaN", b"", b'{"n": 1' + b"0" * 30 + b"}"])
def test_what_is_not_the_json_we_take_stays_as_it_was_written(value: bytes) -> None:
    assert readable(value, full=False) == ("text", [value.decode()], False)


def test_what_is_not_text_is_shown_in_hexadecimal_beside_its_letters() -> None:
    kind, lines, cut = readable(b"\xff\x00hello, world! and more", full=False)
    assert (kind, cut) == ("not UTF-8, in hexadecimal", False)
    assert lines == [
        "00000000  ff 00 68 65 6c 6c 6f 2c 20 77 6f 72 6c 64 21 20  ..hello, world! ",
        "00000010  61 6e 64 20 6d 6f 72 65                          and more",
    ]


@pytest.mark.parametrize("value", [b"x" * 5_000, b"\n" * 100, b"\xff" * 5_000, json.dumps([1] * 90).encode()])
def test_long_values_are_cut_unless_all_is_asked_for(value: bytes) -> None:
    _, short, cut = readable(value, full=False)
    _, whole, nothing_cut = readable(value, full=True)
    assert (cut, nothing_cut) == (True, False)
    assert len(short) <= 60
    assert "".join(short) in "".join(whole)
    assert len("".join(short)) < len("".join(whole)) or len(short) < len(whole)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_nothing_that_steers_is_left(value: bytes) -> None:
    for full in (False, True):
        _, lines, _ = readable(value, full=full)
        assert not [one for line in lines for one in line if is_steering(one) and one != "\t"]


def test_line_ends_of_other_kinds_make_no_line_of_ours() -> None:
    assert readable("a\r\nb\u2028c\x85d".encode(), full=False)[1] == ["a\\r", "b\\u2028c\\x85d"]
