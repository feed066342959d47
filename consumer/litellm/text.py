"""Text that LiteLLM does not keep as it is.

Its database client lays a query out over lines and indents them, those inside of a text as well: after
U+0085, U+2028 or U+2029 six spaces come in (measured with 1.106.2). JSON escapes all other line ends.
"""

from typing import Final

_CHANGED: Final = "\u0085\u2028\u2029"
_KEPT: Final = str.maketrans(dict.fromkeys(_CHANGED, " "))


def is_kept(text: str) -> bool:
    """Whether LiteLLM stores this text as it is."""
    return not any(character in text for character in _CHANGED)


def kept(text: str) -> str:
    """Give the text with a space in place of each character that would not be kept."""
    return text.translate(_KEPT)
