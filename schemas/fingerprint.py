"""Whether two events carry the same data: a digest that outlives every version of the code.

The canonical form is JSON text in UTF-8 of `[type, data]`: no white space, members sorted by code point,
strings with the shortest escapes, integers within 64 bits as plain digits. Any other number is written as an
object whose only member is named U+0000 (which no payload can contain) and holds its digits and exponent.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256
from typing import Final

import orjson

VERSION: Final = b"\x01"
"""The algorithm's version, the first byte of every fingerprint."""

_NUMBER: Final = "\0"
_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**64 - 1
_LARGEST_DIGITS: Final = 20


def fingerprint(type: str, data: Mapping[str, object]) -> bytes:  # noqa: A002 - the attribute's name
    """Digest an event's type and data as received, fields unknown to us included.

    Member order, white space and the spelling of a number (25, 25.0, 2.5e1) make no difference; everything
    else does: a null is not an absent member, and a string is not a number.

    Args:
        type: The event's type.
        data: The event's data as `parse_json` gives it.

    Returns:
        33 bytes: the algorithm's version and a SHA-256.
    """
    return VERSION + sha256(canonical(type, data)).digest()


def canonical(type: str, data: Mapping[str, object]) -> bytes:  # noqa: A002
    """Write the canonical form the fingerprint is made of."""
    try:
        return orjson.dumps([type, data], _canonical_decimal, orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits
        return canonical_by_definition(type, data)


def canonical_by_definition(type: str, data: Mapping[str, object]) -> bytes:  # noqa: A002
    """Write the canonical form of any data, slowly: what `canonical` must agree with."""
    text = json.dumps(
        [type, _plain(data)], sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return text.encode()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        return _canonical_decimal(value)
    if type(value) is int and not _SMALLEST <= value <= _LARGEST:
        return _canonical_decimal(Decimal(value))
    return value


def _canonical_decimal(value: object) -> object:
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is not of JSON")
    # Never Decimal.normalize: it rounds to the context's 28 digits.
    spelled, _, exponent = str(value).partition("E")
    minus = "-" if spelled[0] == "-" else ""
    whole, _, fraction = spelled.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return 0
    power = int(exponent or "0") - len(fraction) + len(digits) - len(significant)
    if power >= 0 and len(significant) + power <= _LARGEST_DIGITS:
        integer = int(f"{minus}{significant}") * 10**power
        if _SMALLEST <= integer <= _LARGEST:
            return integer
    return {_NUMBER: f"{minus}{significant}e{power}"}
