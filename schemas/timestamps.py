"""RFC 3339 in and out, and Kafka's milliseconds."""

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

MAX_LENGTH: Final = 255
"""The longest timestamp taken: a fraction of a second has no end in RFC 3339."""

PATTERN: Final = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)

_SHAPE: Final = re.compile(PATTERN.removeprefix("^").removesuffix("$"))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)


def is_rfc3339(text: str) -> bool:
    """Say whether the text is a date and time of RFC 3339, in any offset, leap seconds included."""
    if len(text) > MAX_LENGTH or _SHAPE.fullmatch(text) is None:
        return False
    # Every month has 28 days; only for the last three is the calendar asked.
    return text[8:10] <= "28" or int(text[8:10]) <= _days_in_month(int(text[:4]), int(text[5:7]))


def parse_rfc3339(text: str) -> datetime:
    """Read a timestamp of RFC 3339.

    Args:
        text: The timestamp; digits beyond the microsecond are cut off, and a leap second counts as the next
            second.

    Returns:
        The time in UTC; one outside the years 1 to 9999 becomes the nearest that a `datetime` can hold.

    Raises:
        ValueError: The text is not RFC 3339.
    """
    if not is_rfc3339(text):
        raise ValueError("not a timestamp of RFC 3339")
    leap = text[17:19] == "60"
    plain = f"{text[:17]}59{text[19:]}" if leap else text
    if plain.startswith("0000"):
        return _EARLIEST
    try:
        moment = datetime.fromisoformat(plain.upper()).astimezone(UTC)
        return moment + timedelta(seconds=1) if leap else moment
    except OverflowError:
        return _LATEST if plain.startswith("9999") else _EARLIEST


@lru_cache(maxsize=64)  # all outcomes of a batch are decided at one moment
def format_rfc3339(moment: datetime) -> str:
    """Write an aware time as RFC 3339 in UTC, to the microsecond, with a `Z`."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(timespec="microseconds")[:-6] + "Z"


def from_kafka_ms(milliseconds: int) -> datetime:
    """Turn a record's timestamp, milliseconds since 1970, into a time in UTC.

    Any producer may write any 64-bit number there: one outside the years 1 to 9999 becomes the nearest that a
    `datetime` can hold.
    """
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return _LATEST if milliseconds > 0 else _EARLIEST


def _days_in_month(year: int, month: int) -> int:
    return monthrange(year or 4, month)[1]  # the year 0 is a leap year, and unknown to the calendar
