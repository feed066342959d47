"""Text of others, made fit to be looked at: nothing in it moves a cursor, turns a line round or forges one.

Ids, names and messages come from upstream and from LiteLLM. Control characters among them steer a terminal,
line ends forge lines of a log, and Unicode's formatting characters show a text in another order than it has.
"""

import unicodedata
from collections.abc import Callable
from typing import Final

_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Part of how words of some languages, and some emoji, are spelled; they steer nothing.
_JOINERS: Final = frozenset("\u200c\u200d")


def is_steering(character: str) -> bool:
    """Say whether a character does something other than being shown."""
    return unicodedata.category(character) in _STEERING and character not in _JOINERS


def harmless(text: str, put: Callable[[str], str], *, keep: str = "") -> str:
    """Give the text with `put(character)` for each that would steer something, but those of `keep`."""
    usual = text
    for character in keep:
        usual = usual.replace(character, "")
    if usual.isprintable():
        return text
    return "".join(
        put(character) if is_steering(character) and character not in keep else character
        for character in text
    )


def escaped(text: str, *, keep: str = "") -> str:
    r"""Give the text with `\x1b`, `\u202e` and the like for what would steer something."""
    return harmless(text, _escape, keep=keep)


def replaced(text: str) -> str:
    """Give the text with a sign in place of each character that would steer something."""
    return harmless(text, _replace)


def in_json(text: str) -> str:
    """Give JSON text that means the same, and steers nothing where it is looked at; line ends stay."""
    return harmless(text, _escape_in_json, keep="\n")


def _escape(character: str) -> str:
    return ascii(character)[1:-1]


def _replace(_character: str) -> str:
    return "\N{REPLACEMENT CHARACTER}"


def _escape_in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
