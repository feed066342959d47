"""Spans of time as LiteLLM writes them: `30s`, `15m`, `1h`, `30d`, `1w`, `1mo`."""

import re
from datetime import timedelta
from typing import Final

_SPAN: Final = re.compile(r"(\d+)(s|m|h|d|w|mo)")
_UNIT: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "mo": timedelta(days=30),
}


class BadDuration(ValueError):  # noqa: N818 - named by what it is
    """Not a span of time."""


def parse_duration(text: str) -> timedelta:
    """Read a span of time.

    Raises:
        BadDuration: It is none.
    """
    match = _SPAN.fullmatch(text)
    if match is None:
        raise BadDuration
    return int(match[1]) * _UNIT[match[2]]
