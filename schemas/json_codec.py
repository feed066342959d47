"""Strict JSON in, compact JSON out, with every number kept digit for digit."""

import re
from decimal import Decimal
from typing import Final
from uuid import UUID

import jiter
import orjson

MAX_NESTING: Final = 64
"""How many arrays and objects may stand inside one another."""

_PLAIN_EXPONENTS: Final = range(-64, 1)
_NUL_ESCAPE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class InvalidJson(ValueError):  # noqa: N818 - named for what the record is: its dead letter's reason
    """The bytes are not JSON as the contract wants it.

    The message says what is wrong and where, and repeats nothing of the payload.
    """


def parse_json(raw: bytes) -> object:
    """Parse JSON, refusing everything that two readers could understand differently.

    Args:
        raw: The JSON text in UTF-8, without a byte order mark.

    Returns:
        The value; numbers with a fraction or an exponent are `Decimal`, all others `int`.

    Raises:
        InvalidJson: Not UTF-8, a syntax error, a duplicate member name, U+0000, a lone surrogate, NaN or
            Infinity, a number too large to be read, or nesting beyond `MAX_NESTING`.
    """
    try:
        value: object = jiter.from_json(
            raw, catch_duplicate_keys=True, allow_inf_nan=False, float_mode="decimal"
        )
    except ValueError as error:
        raise InvalidJson(_without_payload(str(error))) from None
    # The two rules below can hardly be broken by a usual event; looking at the bytes rules them out cheaply.
    if b"\\u0000" in raw and (found := _NUL_ESCAPE.search(raw)):
        line = raw.count(b"\n", 0, found.end()) + 1
        column = found.end() - (raw.rfind(b"\n", 0, found.end()) + 1)
        raise InvalidJson(f"U+0000 in a string at line {line} column {column}")
    if raw.count(b"{") + raw.count(b"[") > MAX_NESTING and _nesting_exceeds(value, MAX_NESTING):
        raise InvalidJson(f"arrays and objects nested beyond {MAX_NESTING}")
    return value


def parse_trusted_json(raw: bytes) -> object:
    """Parse JSON that `dump_json` wrote, with the same numbers as `parse_json` gives."""
    value: object = jiter.from_json(raw, float_mode="decimal")
    return value


def dump_json(value: object) -> bytes:
    """Write compact UTF-8 JSON, members in the order given, numbers digit for digit.

    Args:
        value: `dict`, `list`, `str`, `int` of any size, `Decimal`, `bool`, `None`, `UUID` or a string
            enumeration.

    Raises:
        TypeError: A value of another type, or a string with a lone surrogate.
    """
    try:
        return orjson.dumps(value, _literal, orjson.OPT_PASSTHROUGH_DATETIME)
    except orjson.JSONEncodeError:
        # The encoder stops at integers beyond 64 bits, which may only stand among fields unknown to us.
        return orjson.dumps(_with_big_integers(value), _literal, orjson.OPT_PASSTHROUGH_DATETIME)


def decimal_text(number: Decimal) -> str:
    """Write a finite decimal as a JSON number with the digits it was read with."""
    # A number spelled without an exponent comes out as it was spelled; a huge exponent is not written out.
    text = str(number)
    if "E" in text and number.as_tuple().exponent in _PLAIN_EXPONENTS:
        return format(number, "f")
    return text


def _literal(value: object) -> object:
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(decimal_text(value))
    if isinstance(value, UUID):  # of a kind that the encoder does not know
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _with_big_integers(value: object) -> object:
    if isinstance(value, dict):
        return {name: _with_big_integers(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_big_integers(item) for item in value]
    if type(value) is int and value.bit_length() > 63:  # noqa: PLR2004 - what the encoder takes for certain
        return orjson.Fragment(str(value))
    return value


def _nesting_exceeds(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)


def _without_payload(message: str) -> str:
    what, _, where = message.rpartition(" at line ")
    if what.startswith("Detected duplicate key"):  # the parser goes on to name the key
        what = "a member name given twice"
    elif what.startswith("Internal error"):
        what = "a number that cannot be read"
    elif "recursion" in what:
        what = f"arrays and objects nested beyond {MAX_NESTING}"
    return f"{what} at line {where}"
