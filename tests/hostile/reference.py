"""What the contract says a record is: a second, slow reading of it that shares no code with the product.

Written from sections 1 to 3 of the contract alone, on the standard library. Where the contract leaves a
choice, the product's is named in a comment.
"""

import json
import re
import unicodedata
from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any

Headers = tuple[tuple[str, bytes | None], ...]

TYPES = ("org.created", "user.joined", "job.completed")
RESERVED = ("team_id", "model_groups", "billing", "limits", "credits")
MOST_DIGITS = 4300
"""A choice: an integer (or what stands before a point) with more digits is a number that can't be read."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a record is.

    Attributes:
        what: `null`, `unknown`, `event`, or a dead letter's reason.
        type: The event's type where it can be read; likewise `source` and `id`.
        source: See `type`.
        id: See `type`.
        data: An event's data.
        same: A digest that two events share exactly where their type and data are the same.
    """

    what: str
    type: str | None = None
    source: str | None = None
    id: str | None = None
    data: Mapping[str, Any] | None = None
    same: bytes = b""


class Number(str):
    """A number as it was spelled."""

    __slots__ = ()


class _Is(Exception):  # noqa: N818 - a decision, no error
    def __init__(self, what: str) -> None:
        self.what = what


def expected(value: bytes | None, headers: Headers, *, max_bytes: int) -> Expected:
    """Say what a record is, by the contract's order of checks."""
    attributes: dict[str, Any] = {}
    try:
        data = _read(value, headers, max_bytes, attributes)
    except _Is as decided:
        readable = {
            name: found for name in ("type", "source", "id") if _text(found := attributes.get(name), 1, 512)
        }
        return Expected(decided.what, **readable)
    return Expected(
        "event",
        attributes["type"],
        attributes["source"],
        attributes["id"],
        data,
        _same(attributes["type"], data),
    )


def _read(
    value: bytes | None, headers: Headers, max_bytes: int, attributes: dict[str, Any]
) -> Mapping[str, Any]:
    # (1) to (3): nothing, size, mode.
    if value is None and not any(name.startswith("ce_") for name, _ in headers):
        raise _Is("null")
    if value is not None and len(value) > max_bytes:
        raise _Is("too_large")
    structured = any(
        name.lower() == "content-type"
        and (content or b"").split(b";")[0].strip().lower() == b"application/cloudevents+json"
        for name, content in headers
    )
    binary = not structured and any(name == "ce_specversion" for name, _ in headers)
    # (4) and (5): JSON and type, in binary mode the other way round.
    data: Any
    sound = True
    if binary:
        sound = _attributes(headers, attributes)
        _check_type(attributes)
        if value is None:
            raise _Is("invalid_envelope")
        data = read_json(value)
    else:
        if value is None:
            raise _Is("invalid_envelope")
        envelope = read_json(value)
        if not isinstance(envelope, dict):
            raise _Is("invalid_envelope")
        attributes.update(envelope)
        _check_type(attributes)
        data = attributes.get("data")
        sound = attributes.get("data_base64") is None
    # The envelope comes before the data.
    _check_envelope(attributes, data, sound=sound)
    if not _DATA[attributes["type"]](data):
        raise _Is("invalid_data")
    found: Mapping[str, Any] = data
    return found


def _attributes(headers: Headers, attributes: dict[str, Any]) -> bool:
    """Read `ce_` headers; a choice: one given twice, not UTF-8, or with U+0000 breaks the envelope."""
    sound = True
    times: dict[str, int] = {}
    for name, _ in headers:
        times[name] = times.get(name, 0) + 1
    for name, content in headers:
        if not name.startswith("ce_"):
            continue
        if times[name] > 1:
            sound = False
        elif content is not None:
            try:
                text = content.decode()
            except UnicodeDecodeError:
                sound = False
                continue
            if "\0" in text:
                sound = False
            else:
                attributes[name[3:]] = text
    return sound


def _check_type(attributes: Mapping[str, Any]) -> None:
    type_ = attributes.get("type")
    if not isinstance(type_, str) or isinstance(type_, Number):
        raise _Is("invalid_envelope")
    if type_ not in TYPES:
        raise _Is("unknown")


def _check_envelope(attributes: Mapping[str, Any], data: Any, *, sound: bool) -> None:
    time = attributes.get("time")
    if not (
        sound
        and _text(attributes.get("specversion"), 1, 3)
        and attributes["specversion"] == "1.0"
        and _text(attributes.get("id"), 1, 512)
        and _text(attributes.get("source"), 1, 512)
        and (time is None or _time(time))
        and isinstance(data, dict)
    ):
        raise _Is("invalid_envelope")


# -- JSON -------------------------------------------------------------------------------------------------


def read_json(raw: bytes) -> Any:
    """Read JSON strictly; numbers stay as spelled."""
    try:
        value = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError):
        raise _Is("invalid_json") from None
    level = [value]
    depth = 0
    while level:
        inner: list[Any] = []
        nested = False
        for item in level:
            if isinstance(item, dict):
                nested = True
                inner += item
                inner += item.values()
            elif isinstance(item, list):
                nested = True
                inner += item
            elif isinstance(item, str) and not isinstance(item, Number) and _UNFIT.search(item):
                raise _Is("invalid_json")
        depth += nested
        if depth > 64:
            raise _Is("invalid_json")
        level = inner
    return value


_UNFIT = re.compile("[\0\ud800-\udfff]")
_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")


def _number(text: str) -> Number:
    match = _NUMBER.fullmatch(text)
    if match is None or len(match[2]) > MOST_DIGITS:
        raise ValueError
    if match[3] is not None or match[4] is not None:
        try:
            Decimal(text)  # a choice: an exponent that Python's decimals can't hold can't be read
        except InvalidOperation:
            raise ValueError from None
    return Number(text)


def _no_constant(_name: str) -> Any:
    raise ValueError


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_once_each, parse_float=_number, parse_int=_number, parse_constant=_no_constant
)


# -- data -------------------------------------------------------------------------------------------------


def _organization(data: Mapping[str, Any]) -> bool:
    models = data.get("models")
    return (
        _unreserved(data)
        and _identifier(data.get("org_id"))
        and _text(data.get("name"), 1, 500)
        and _identifier(data.get("owner_user_id"))
        and _email(data.get("owner_email"))
        and _count(data.get("initial_credits"))
        and _usd(data.get("max_budget_usd"), negative=False)
        and (
            models is None
            or (
                isinstance(models, list) and len(models) <= 1000 and all(_text(one, 1, 255) for one in models)
            )
        )
        and _object(data.get("metadata"))
    )


def _user(data: Mapping[str, Any]) -> bool:
    return (
        _unreserved(data)
        and _identifier(data.get("org_id"))
        and _identifier(data.get("user_id"))
        and _email(data.get("email"))
        and (data.get("role") is None or _one_of(data["role"], "member", "admin"))
        and _usd(data.get("max_budget_usd"), negative=False)
    )


def _job(data: Mapping[str, Any]) -> bool:
    usage = data.get("usage")
    return (
        _unreserved(data)
        and _identifier(data.get("org_id"))
        and _identifier(data.get("job_id"))
        and (data.get("user_id") is None or _identifier(data["user_id"]))
        and (data.get("job_type") is None or _text(data["job_type"], 0, None))
        and _one_of(data.get("status"), "completed", "failed", "cancelled")
        and (usage is None or (isinstance(usage, dict) and _usage(usage)))
        and (data.get("started_at") is None or _time(data["started_at"]))
        and (data.get("completed_at") is None or _time(data["completed_at"]))
        and (data.get("error_message") is None or _text(data["error_message"], 0, None))
        and _object(data.get("metadata"))
    )


_DATA = {"org.created": _organization, "user.joined": _user, "job.completed": _job}
_COUNTS = (
    "total_calls",
    "successful_calls",
    "failed_calls",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
)


def _usage(usage: Mapping[str, Any]) -> bool:
    latency = usage.get("avg_latency_ms")
    return (
        all(_count(usage.get(name)) for name in _COUNTS)
        and _usd(usage.get("total_cost_usd"), negative=True)
        and (latency is None or (isinstance(latency, Number) and Decimal(latency) >= 0))
    )


def _unreserved(data: Mapping[str, Any]) -> bool:
    return all(data.get(name) is None for name in RESERVED)


def _text(value: Any, least: int, most: int | None) -> bool:
    return (
        isinstance(value, str)
        and not isinstance(value, Number)
        and len(value) >= least
        and (most is None or len(value) <= most)
    )


def _no_controls(value: str) -> bool:
    return all(unicodedata.category(character) != "Cc" for character in value)


def _identifier(value: Any) -> bool:
    return (
        _text(value, 1, 255) and _no_controls(value) and not value.startswith(" ") and not value.endswith(" ")
    )


def _email(value: Any) -> bool:
    # A choice: what is required of an e-mail is its length, and that it is one line.
    return value is None or (_text(value, 1, 320) and _no_controls(value))


def _one_of(value: Any, *allowed: str) -> bool:
    return _text(value, 1, None) and value in allowed


def _object(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _count(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, Number) and _WHOLE.fullmatch(value) is not None and 0 <= int(value) <= 2**53 - 1


_WHOLE = re.compile(r"-?[0-9]+")
_AMOUNT = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?")


def _usd(value: Any, *, negative: bool) -> bool:
    if value is None:
        return True
    if isinstance(value, Number):
        amount = Decimal(value)
        exponent = amount.as_tuple().exponent
        assert isinstance(exponent, int)
        fits = exponent >= -12 and (not amount or amount.adjusted() < 12)
        return fits and (negative or amount >= 0)
    if not isinstance(value, str) or _AMOUNT.fullmatch(value) is None:
        return False
    return negative or Decimal(value) >= 0


_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|[+-]([0-9]{2}):([0-9]{2}))"
)


def _time(value: Any) -> bool:
    # A choice: a timestamp has at most 255 characters.
    if not _text(value, 20, 255) or (match := _TIME.fullmatch(value)) is None:
        return False
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    away = (int(match[9] or 0), int(match[10] or 0))
    return (
        1 <= month <= 12
        and 1 <= day <= monthrange(year or 2000, month)[1]
        and hour <= 23
        and minute <= 59
        and second <= 60
        and away[0] <= 23
        and away[1] <= 59
    )


# -- the same data ----------------------------------------------------------------------------------------


def _same(type_: str, data: Any) -> bytes:
    digest = blake2b(digest_size=16)
    for piece in _pieces([type_, data]):
        digest.update(piece)
    return digest.digest()


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, dict):
        yield b"{%d" % len(value)
        for name in sorted(value):
            yield from _pieces(name)
            yield from _pieces(value[name])
    elif isinstance(value, list):
        yield b"[%d" % len(value)
        for item in value:
            yield from _pieces(item)
    elif isinstance(value, Number):
        yield b"#" + _digits(value).encode()
    elif isinstance(value, str):
        text = value.encode()
        yield b'"%d:' % len(text) + text
    else:
        yield {None: b"n", True: b"t", False: b"f"}[value]


def _digits(number: Number) -> str:
    match = _NUMBER.fullmatch(number)
    assert match is not None
    fraction = match[3] or ""
    digits = (match[2] + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return "0"
    power = int(match[4] or 0) - len(fraction) + len(digits) - len(significant)
    return f"{match[1]}{significant}e{power};"
