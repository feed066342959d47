"""How dead letters are shown: bytes of others, made readable and harmless."""

import textwrap
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import click
import orjson

from consumer.cli.output import brief, print_facts, print_table, say
from consumer.harmless import escaped
from schemas.json_codec import InvalidJson, decimal_text, parse_json
from schemas.timestamps import format_rfc3339, from_kafka_ms
from storage.dead_letters import ListedDeadLetter, StoredDeadLetter

_LINES: Final = 60
_CHARACTERS: Final = 4_000
"""What people see of a value at once."""
_HEX_WIDTH: Final = 16
_HEX_BYTES: Final = _LINES * _HEX_WIDTH


def listed_document(one: ListedDeadLetter) -> dict[str, object]:
    """Return the JSON form of a dead letter in a list."""
    return {
        "id": one.dead_letter_id,
        "reason": one.reason,
        "error": one.error,
        "topic": one.topic,
        "partition": one.partition,
        "offset": one.offset,
        "redriven": one.redriven_at is not None,
        "event_type": one.event_type,
        "event_source": one.event_source,
        "event_id": one.event_id,
        "dead_lettered_at": format_rfc3339(one.dead_lettered_at),
        "redriven_at": None if one.redriven_at is None else format_rfc3339(one.redriven_at),
        "value_size": one.value_size,
    }


def print_letters(letters: Sequence[ListedDeadLetter]) -> None:
    """Show a list of dead letters to people."""
    print_table(
        ("id", "reason", "what is wrong", "topic", "partition", "offset", "since", "redriven"),
        [
            (
                one.dead_letter_id,
                one.reason,
                one.error,
                one.topic,
                one.partition,
                one.offset,
                brief(one.dead_lettered_at),
                brief(one.redriven_at),
            )
            for one in letters
        ],
    )


def letter_document(stored: StoredDeadLetter) -> dict[str, object]:
    """Return the JSON form of one dead letter, whole: bytes as text where they are UTF-8, else as hex."""
    letter = stored.letter
    return {
        "id": stored.dead_letter_id,
        "reason": letter.reason,
        "error": letter.error,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": format_rfc3339(from_kafka_ms(letter.timestamp_ms)),
        "redriven": stored.redriven_at is not None,
        "redriven_at": None if stored.redriven_at is None else format_rfc3339(stored.redriven_at),
        "dead_lettered_at": format_rfc3339(letter.dead_lettered_at),
        "origin": letter.origin,
        "event_type": letter.event_type,
        "event_source": letter.event_source,
        "event_id": letter.event_id,
        **_bytes_document("key", letter.key),
        "headers": [{"name": name, **_bytes_document("value", value)} for name, value in letter.headers],
        **_bytes_document("value", letter.value),
    }


def print_letter(stored: StoredDeadLetter, *, full: bool) -> None:
    """Show one dead letter to people; the value comes last, indented, so that it can't pass for our words."""
    letter = stored.letter
    facts: list[tuple[str, object]] = [
        ("dead letter", stored.dead_letter_id),
        ("reason", letter.reason),
        ("what is wrong", letter.error),
        ("topic", letter.topic),
        ("partition", letter.partition),
        ("offset", letter.offset),
        ("record time", brief(from_kafka_ms(letter.timestamp_ms))),
        ("key", _in_a_line(letter.key)),
        ("event type", letter.event_type),
        ("event source", letter.event_source),
        ("event id", letter.event_id),
        ("dead since", brief(letter.dead_lettered_at)),
        ("sent through", brief(stored.redriven_at) or "not yet"),
    ]
    print_facts(facts)
    if letter.headers:
        say("")
        print_table(("header", "value"), [(name, _in_a_line(value)) for name, value in letter.headers])
    say("")
    _print_value(letter.value, stored.dead_letter_id, full=full)


def _print_value(value: bytes | None, number: int, *, full: bool) -> None:
    if value is None:
        say("no value")
        return
    kind, lines, cut = readable(value, full=full)
    say(f"value, {len(value)} bytes, {kind}:")
    for line in lines:
        click.echo(f"  {line}")
    if cut:
        say(
            f"... cut: `quartermaster dead-letters show {number} --full` shows all of it,"
            " --output FILE writes its bytes"
        )


def readable(value: bytes, *, full: bool) -> tuple[str, list[str], bool]:
    """Make bytes readable.

    Returns:
        What they are; the lines to show, in which nothing steers a terminal; and whether some are left out.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError:
        shown = value if full else value[:_HEX_BYTES]
        return "not UTF-8, in hexadecimal", _hex_lines(shown), len(shown) < len(value)
    indented = _indented_json(value)
    kind, text = ("text", text) if indented is None else ("JSON", indented)
    shown_text = text if full else _cut(text)
    lines = [escaped(line, keep="\t") for line in shown_text.split("\n")]
    return kind, lines, len(shown_text) < len(text)


def _cut(text: str) -> str:
    lines = text[:_CHARACTERS].split("\n")
    return "\n".join(lines[:_LINES])


def _indented_json(value: bytes) -> str | None:
    """Return JSON with each member on a line of its own; none where it is not the JSON we take."""
    try:
        return orjson.dumps(parse_json(value), _number, orjson.OPT_INDENT_2).decode()
    except (InvalidJson, orjson.JSONEncodeError):
        return None


def _number(value: object) -> orjson.Fragment:
    assert isinstance(value, Decimal)
    return orjson.Fragment(decimal_text(value))


def _hex_lines(value: bytes) -> list[str]:
    lines = []
    for at in range(0, len(value), _HEX_WIDTH):
        row = value[at : at + _HEX_WIDTH]
        letters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)  # noqa: PLR2004 - ASCII
        lines.append(f"{at:08x}  {row.hex(' ').ljust(3 * _HEX_WIDTH - 1)}  {letters}")
    return lines


def _in_a_line(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        text = escaped(value.decode())
    except UnicodeDecodeError:
        text = f"0x{value.hex()}"
    return textwrap.shorten(text, _CHARACTERS, placeholder=" ...") if len(text) > _CHARACTERS else text


def _bytes_document(name: str, value: bytes | None) -> dict[str, str | None]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {name: None, f"{name}_hex": value.hex()}
