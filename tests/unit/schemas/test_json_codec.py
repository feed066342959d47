import json
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.json_codec import (
    MAX_NESTING,
    InvalidJson,
    decimal_text,
    dump_json,
    parse_json,
    parse_trusted_json,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "EOF"),
        (b"{", "EOF"),
        (b"{} {}", "trailing"),
        (b"\xef\xbb\xbf{}", "expected value"),
        (b'{"a":1,}', "trailing comma"),
        (b"NaN", "expected value"),
        (b'{"a":Infinity}', "expected value"),
        (b"-Infinity", "invalid number"),
        (b"01", "invalid number"),
        (b'"\xff"', "unicode"),
        (b'"\xed\xa0\x80"', "unicode"),
        (b'"\\ud800"', "hex escape"),
        (b'"\\udc00\\ud800"', "surrogate"),
        (b'"\x00"', "control character"),
        (b'{"a":"\\u0000"}', "U+0000"),
        (b'{"\\u0000":1}', "U+0000"),
        (b'"\\\\\\u0000"', "U+0000"),
        (b"9" * 5000, "number"),
        (b"1e99999999999999999999", "number"),
        (nested(MAX_NESTING + 1), "nested beyond 64"),
        (nested(1000), "nested beyond 64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested beyond 64"),
    ],
)
def test_refuses_what_two_readers_could_understand_differently(raw: bytes, says: str) -> None:
    with pytest.raises(InvalidJson, match=says.replace("+", r"\+")):
        parse_json(raw)


def test_a_member_name_given_twice_is_placed_and_not_repeated() -> None:
    with pytest.raises(InvalidJson) as refused:
        parse_json(b'{"b":1,\n"secret at line 7":1,"secret at line 7":2}')
    assert str(refused.value) == "a member name given twice at line 2 column 41"


def test_a_member_name_given_twice_is_found_however_it_is_spelled() -> None:
    with pytest.raises(InvalidJson):
        parse_json(rb'{"data":{"a":1,"\u0061":1}}')


def test_u0000_is_placed() -> None:
    with pytest.raises(InvalidJson) as refused:
        parse_json(b'{"a":1,\n "b":"\\u0000"}')
    assert str(refused.value) == "U+0000 in a string at line 2 column 12"


def test_an_escaped_backslash_before_u0000_is_no_null_character() -> None:
    assert parse_json(b'"\\\\u0000"') == "\\u0000"


def test_braces_in_strings_do_not_count_as_nesting() -> None:
    assert parse_json(b'"' + b"[{" * 100 + b'"') == "[{" * 100
    assert parse_json(b"[" + b",".join([b"[]"] * 100) + b"]") == [[] for _ in range(100)]


def test_nesting_up_to_the_limit_is_read() -> None:
    parse_json(nested(MAX_NESTING))
    parse_json(b'{"a":' * 64 + b"1" + b"}" * 64)


def test_numbers_keep_their_digits() -> None:
    value = parse_json(b'{"a":1.50,"b":0.1,"c":25,"d":123456789012345678901234567890.1}')
    assert repr(value) == (
        "{'a': Decimal('1.50'), 'b': Decimal('0.1'), 'c': 25, "
        "'d': Decimal('123456789012345678901234567890.1')}"
    )


@pytest.mark.parametrize(
    "number",
    ["1.50", "0.00000001", "-0.0", "123456789012345678901234567890.10", "0.10000000000000000000000001"],
)
def test_a_number_without_exponent_is_written_as_it_was_spelled(number: str) -> None:
    assert dump_json(parse_json(number.encode())) == number.encode()


@pytest.mark.parametrize("number", ["1e400", "2.5E-7", "1e99999999999", "-1.50e+300", "0e5"])
def test_a_number_with_exponent_keeps_its_value(number: str) -> None:
    written = dump_json(parse_json(number.encode()))
    assert Decimal(written.decode()) == Decimal(number)
    assert len(written) < 30
    assert parse_json(written).as_tuple() == Decimal(number).as_tuple()  # type: ignore[attr-defined]


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_comes_back_digit_for_digit(number: Decimal) -> None:
    text = decimal_text(number)
    assert Decimal(text).as_tuple() == number.as_tuple()


@given(VALUES)
@example({"big": 2**64, "bigger": [-(2**70)], "limit": [2**63, 2**64 - 1, -(2**63), -(2**63) - 1]})
def test_writes_what_the_standard_library_writes(value: object) -> None:
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    assert dump_json(value) == expected


@given(VALUES)
def test_what_was_written_reads_the_same(value: object) -> None:
    assert parse_trusted_json(dump_json(value)) == value


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, Decimal("NaN"), [Decimal("Infinity")], "\ud800"])
def test_what_json_cannot_say_is_not_written(value: object) -> None:
    with pytest.raises(TypeError):
        dump_json(value)


@given(
    st.binary(max_size=60)
    | st.text(st.sampled_from('{}[]",:0123456789.eE+-truefalsn\\u \n'), max_size=60).map(str.encode)
)
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except InvalidJson:
        return
    assert parse_trusted_json(dump_json(value)) == value
