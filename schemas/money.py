"""Amounts in USD: exact decimals, kept as the text they were spelled with."""

import re
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

USD_PATTERN: Final = r"^-?[0-9]{1,12}(\.[0-9]{1,12})?$"
"""At most 12 digits before the point and 12 after it."""

LIMIT_PATTERN: Final = r"^([0-9]{1,12}(\.[0-9]{1,12})?|-0{1,12}(\.0{1,12})?)$"
"""The same, never below zero; a zero may bear a minus."""

_SHAPE: Final = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,12})?")
_MAX_DIGITS: Final = 12


def usd_text(value: object) -> str:
    """Take an amount in USD as it may stand in an event and give its plain decimal text.

    A string is kept as it is spelled; a number is written without an exponent, and never passes through
    binary floating point.

    Raises:
        ValueError: Not an amount, or more than 12 digits before or after the point.
    """
    if isinstance(value, str):
        if _SHAPE.fullmatch(value):
            return value
    elif isinstance(value, Decimal):
        if value.is_finite() and (text := _plain(value)) is not None:
            return text
    elif type(value) is int and abs(value) < 10**_MAX_DIGITS:
        return str(value)
    raise ValueError("must be a decimal amount with at most 12 digits before and 12 after the point")


def _plain(number: Decimal) -> str | None:
    """Write the number without an exponent, or nothing where it has too many digits to be worth writing."""
    if not number:
        number = abs(number)
        if int(number.as_tuple().exponent) > 0:
            return "0"
    if number.adjusted() >= _MAX_DIGITS or int(number.as_tuple().exponent) < -_MAX_DIGITS:
        return None
    text = format(number, "f")
    return text if _SHAPE.fullmatch(text) else None


def _usd(value: Any) -> str:
    try:
        return usd_text(value)
    except ValueError as error:
        raise PydanticCustomError("usd", "{wording}", {"wording": str(error)}) from None


def _usd_limit(value: Any) -> str:
    text = _usd(value)
    if not text.startswith("-"):
        return text
    if text.strip("-0."):
        raise PydanticCustomError("usd", "{wording}", {"wording": "must be >= 0"})
    return text[1:]


Usd = Annotated[
    str,
    PlainValidator(_usd),
    WithJsonSchema({"type": ["string", "number"], "pattern": USD_PATTERN}),
]
"""An amount as plain decimal text, say `"25.00"`; `Decimal(amount)` calculates with it."""

UsdLimit = Annotated[
    str,
    PlainValidator(_usd_limit),
    WithJsonSchema({"type": ["string", "number"], "pattern": LIMIT_PATTERN, "minimum": 0}),
]
"""The same, never below zero."""

UsdText = Annotated[str, Field(pattern=USD_PATTERN)]
"""An amount in an outcome, which always is a string."""
