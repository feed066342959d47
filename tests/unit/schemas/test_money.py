from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.money import usd_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("25.00", "25.00"),
        ("0", "0"),
        ("007.50", "007.50"),
        ("-0.5", "-0.5"),
        ("999999999999.999999999999", "999999999999.999999999999"),
        (25, "25"),
        (999_999_999_999, "999999999999"),
        (Decimal("25.0"), "25.0"),
        (Decimal("2.5e1"), "25"),
        (Decimal("1e-12"), "0.000000000001"),
        (Decimal("1.5e11"), "150000000000"),
        (Decimal("-0.0"), "0.0"),
        (Decimal("0e500"), "0"),
        (Decimal("0.1"), "0.1"),
    ],
)
def test_gives_plain_decimal_text(value: object, text: str) -> None:
    assert usd_text(value) == text


@pytest.mark.parametrize(
    "value",
    [
        "",
        "25.",
        ".5",
        "+1",
        "1e3",
        "1,000",
        " 1",
        "1 ",
        "1\n",
        "$1",
        "NaN",
        "Infinity",
        "٣",
        "1234567890123",
        "0.1234567890123",
        10**12,
        -(10**12),
        True,
        None,
        1.5,
        [],
        Decimal("1e12"),
        Decimal("1e-13"),
        Decimal("1e99999999999"),
        Decimal("-1e-99999999999"),
        Decimal("NaN"),
        Decimal("Infinity"),
    ],
)
def test_refuses_all_else(value: object) -> None:
    with pytest.raises(ValueError, match="12 digits"):
        usd_text(value)


@given(st.decimals(min_value=-999_999_999_999, max_value=999_999_999_999, places=12))
def test_a_number_keeps_its_value(amount: Decimal) -> None:
    assert Decimal(usd_text(amount)) == amount


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_any_number_is_taken_exactly_or_refused(amount: Decimal) -> None:
    try:
        text = usd_text(amount)
    except ValueError:
        return
    assert Decimal(text) == amount
    assert usd_text(text) == text
