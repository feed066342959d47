import json
import random
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.fingerprint import canonical, canonical_by_definition, fingerprint
from schemas.json_codec import parse_json

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
NUMBERS = (
    st.integers(-(10**40), 10**40)
    | st.integers(-(2**64) - 2, 2**64 + 2)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False, places=2)
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=5)


def read(text: str) -> Mapping[str, object]:
    return cast("Mapping[str, object]", parse_json(text.encode()))


def of(text: str) -> bytes:
    return fingerprint("job.completed", read(text))


@pytest.mark.parametrize(
    ("spelled", "as_kept"), [("0.05", "5e-2"), ("-0.0050", "-5e-3"), ("120.5", "1205e-1"), ("1e-9", "1e-9")]
)
def test_a_fraction_is_its_significant_digits_and_a_power_of_ten(spelled: str, as_kept: str) -> None:
    assert f'"{as_kept}"'.encode() in canonical("t", read(f'{{"a": {spelled}}}'))


def test_bears_the_version_of_its_algorithm() -> None:
    assert of("{}")[:1] == b"\x01"
    assert len(of("{}")) == 33


def test_stays_what_it_is_for_good() -> None:
    data = read(
        '{"b":[25.0,2.5,1e-7,1e30,18446744073709551616,-0.0],"a":"\\u00e9\\n\\u001f\\u007f\\"/","ü":null}'
    )
    form = canonical("job.completed", data)
    assert (
        form
        == (
            '["job.completed",{"a":"é\\n\\u001f\x7f\\"/","b":[25,{"\\u0000":"25e-1"},{"\\u0000":"1e-7"},'
            '{"\\u0000":"1e30"},{"\\u0000":"18446744073709551616e0"},0],"ü":null}]'
        ).encode()
    )
    assert fingerprint("job.completed", data).hex() == (
        "01b55c1ab4f60f06533032bd6b287c08cdd31f0872da38f0fa7bcc12b5a31fa349"
    )


@pytest.mark.parametrize(
    "spellings",
    [
        ("25", "25.0", "2.5e1", "2.5E+1", "250e-1", "0.25e2", "25.000000000000000000000000000000000000"),
        ("0", "-0", "0.0", "-0.0", "0e10", "0E-99999"),
        ("-7", "-7.0", "-70e-1"),
        ("1.5", "1.50", "15e-1", "0.15E1"),
        ("9223372036854775807", "9223372036854775807.0", "922337203685477580.7e1"),
        ("9223372036854775808", "9223372036854775808.0"),
        ("-9223372036854775808", "-9223372036854775808.00"),
        ("-9223372036854775809", "-9223372036854775809.0", "-9.223372036854775809e18"),
        ("18446744073709551615", "18446744073709551615.0"),
        ("18446744073709551616", "18446744073709551616.0", "1.8446744073709551616e19"),
        ("100000000000000000000", "1e20", "1.0E20"),
        ("1" + "0" * 400, "1e400", "10e399"),
        ("1234567890123456789012345678901234567890", "1234567890123456789012345678901234567890.0"),
        ("1e99999999999", "10e99999999998"),
    ],
)
def test_a_numbers_spelling_does_not_count(spellings: tuple[str, ...]) -> None:
    for shape in ('{{"a":{}}}', '{{"a":[1.5,{{"b":{}}}]}}'):
        assert len({of(shape.format(spelling)) for spelling in spellings}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":null}', "{}"),
        ('{"a":"25"}', '{"a":25}'),
        ('{"a":25}', '{"a":-25}'),
        ('{"a":true}', '{"a":1}'),
        ('{"a":[]}', '{"a":{}}'),
        ('{"a":[1,2]}', '{"a":[2,1]}'),
        ('{"a":["1,2"]}', '{"a":["1","2"]}'),
        ('{"a":1e30}', '{"a":1e31}'),
        ('{"a":1.5}', '{"a":"15e-1"}'),
        ('{"a":1.5}', '{"a":{"":"15e-1"}}'),
        ('{"a":1.5}', '{"a":{"\\\\u0000":"15e-1"}}'),
        ('{"a":123456789012345678901234567890}', '{"a":123456789012345678901234567891}'),
        ('{"a":0.1234567890123456789012345678901}', '{"a":0.1234567890123456789012345678902}'),
        ('{"a":"é"}', '{"a":"e\\u0301"}'),
    ],
)
def test_everything_else_counts(one: str, other: str) -> None:
    assert of(one) != of(other)


def test_the_type_counts() -> None:
    assert fingerprint("a", {}) != fingerprint("b", {})


@given(OBJECTS, st.randoms(use_true_random=False))
def test_member_order_and_white_space_do_not_count(data: dict[str, Any], order: random.Random) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            members = list(value.items())
            order.shuffle(members)
            return {name: shuffled(member) for name, member in members}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    assert fingerprint("t", data) == fingerprint("t", shuffled(data))
    texts = json.loads(json.dumps(data, default=str))  # numbers that are no integers become strings
    spaced = json.dumps(texts, indent=3, ensure_ascii=True)
    assert fingerprint("t", texts) == fingerprint("t", read(spaced))


@given(TEXT, OBJECTS)
@example("t", {"a": [2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1], "\U0001f600": 1, "\uffff": 2, "é": 3})
@example("t", {"".join(map(chr, range(1, 0x3000))): 1})
def test_the_fast_form_is_the_defined_one(type_: str, data: dict[str, Any]) -> None:
    assert canonical(type_, data) == canonical_by_definition(type_, data)


@given(NUMBERS, NUMBERS)
@example(Decimal("1.0"), 1)
@example(Decimal("1E+20"), 10**20)
def test_two_numbers_have_one_form_exactly_where_they_are_equal(
    one: Decimal | int, other: Decimal | int
) -> None:
    assert (fingerprint("t", {"n": one}) == fingerprint("t", {"n": other})) is (one == other)


@given(st.integers(-(10**40), 10**40), st.integers(0, 30))
def test_an_integer_equals_itself_with_zeros_after_the_point(integer: int, zeros: int) -> None:
    point = "." if zeros else ""
    assert of(f'{{"a":{integer}}}') == of(f'{{"a":{integer}{point}{"0" * zeros}}}')


def test_what_json_does_not_know_has_no_form() -> None:
    for value in (object(), {1, 2}):
        with pytest.raises(TypeError):
            fingerprint("t", {"a": value})
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_by_definition("t", {"a": number})
