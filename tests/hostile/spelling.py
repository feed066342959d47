"""JSON as nobody's library writes it: any spelling of a number, members twice, raw bytes anywhere."""

import random
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Raw:
    """A piece of JSON text put in as it is, however broken."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Members:
    """An object given as pairs: a name may come twice."""

    pairs: tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True)
class Loose:
    """An integer that no rule wants spelled as one: of the same value as 25 are 25.0 and 250e-1."""

    value: int


def spell(value: object, chance: random.Random | None = None) -> bytes:
    """Write a value; with `chance` in any of the ways that mean the same, without it compactly."""
    parts: list[bytes] = []
    _write(value, parts, chance)
    return b"".join(parts)


def _write(value: object, parts: list[bytes], chance: random.Random | None) -> None:
    match value:
        case Raw(text):
            parts.append(text)
        case Loose(number):
            parts.append(str(number).encode() if chance is None else _loosely(number, chance))
        case None | True | False:
            parts.append({None: b"null", True: b"true", False: b"false"}[value])
        case str():
            parts.append(_string(value, chance))
        case int():
            parts.append(str(value).encode())
        case dict():
            members = list(value.items())
            if chance is not None:
                chance.shuffle(members)
            _object(members, parts, chance)
        case Members(pairs):
            _object(pairs, parts, chance)
        case list():
            _items(value, parts, chance)
        case _:
            raise TypeError(type(value).__name__)


def _object(members: Iterable[tuple[str, object]], parts: list[bytes], chance: random.Random | None) -> None:
    parts.append(b"{" + _space(chance))
    for number, (name, member) in enumerate(members):
        parts.append(
            (b"," if number else b"") + _space(chance) + _string(name, chance) + _space(chance) + b":"
        )
        parts.append(_space(chance))
        _write(member, parts, chance)
    parts.append(_space(chance) + b"}")


def _items(items: list[object], parts: list[bytes], chance: random.Random | None) -> None:
    parts.append(b"[")
    for number, item in enumerate(items):
        if number:
            parts.append(b",")
        _write(item, parts, chance)
    parts.append(_space(chance) + b"]")


def _space(chance: random.Random | None) -> bytes:
    return b"" if chance is None or chance.random() < 0.8 else chance.choice((b" ", b"\n", b"\t\r ", b"    "))


def _loosely(value: int, chance: random.Random) -> bytes:
    zeros = chance.randrange(1, 4)
    spellings = (
        f"{value}",
        f"{value}.{'0' * zeros}",
        f"{value}e0",
        f"{value}{'0' * zeros}E-{zeros}",
        f"{value}.0e+00",
    )
    return chance.choice(spellings).encode()


def _string(value: str, chance: random.Random | None) -> bytes:
    out = ['"']
    escape = 0.0 if chance is None else chance.choice((0.0, 0.0, 0.1, 1.0))
    for character in value:
        code = ord(character)
        must = code < 0x20 or character in '"\\' or 0xD800 <= code < 0xE000
        if not must and (escape == 0.0 or (chance is not None and chance.random() >= escape)):
            out.append(character)
        elif character in '"\\':
            out.append("\\" + character)
        elif code > 0xFFFF:
            high, low = divmod(code - 0x10000, 0x400)
            out.append(f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04X}")
        else:
            out.append(f"\\u{code:04x}")
    out.append('"')
    return "".join(out).encode()
