"""What is wrong with an event's data, in words fit for a header: the place and the rule, never a value."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from schemas.identifiers import IDENTIFIER_PATTERN

MAX_LENGTH: Final = 500
"""Characters of an error's text at most."""

_RULES: Final[Mapping[str, str]] = {
    "missing": "is required",
    "string_type": "must be a string",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "int_type": "must be an integer >= 0 without fraction or exponent",
    "greater_than_equal": "must be >= {ge}",
    "less_than_equal": "must be <= {le}",
    "literal_error": "must be one of {expected}",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "too_long": "must have at most {max_length} items",
    "usd": "{wording}",
    "number": "must be a number >= 0",
    "timestamp": "must be a timestamp of RFC 3339",
}


def describe(error: ValidationError) -> str:
    """Say what and where: `data.initial_credits: must be >= 0`, several joined with semicolons."""
    found = error.errors(include_url=False, include_input=False)
    return shorten("; ".join(f"{_place(each['loc'])}: {_rule(each)}" for each in found))


def shorten(text: str) -> str:
    """Cut a text that is too long for a header."""
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 3]}..."


def _place(loc: tuple[int | str, ...]) -> str:
    # Only names of our own models and list indexes can stand here: what is unknown is not looked into.
    return "data" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)


def _rule(error: Any) -> str:
    context = error.get("ctx", {})
    if error["type"] == "string_pattern_mismatch":
        if context["pattern"] == IDENTIFIER_PATTERN:
            return "must not contain control characters, nor begin or end with a space"
        return "must not contain control characters"
    return _RULES.get(error["type"], "is not valid").format_map(context)
