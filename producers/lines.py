"""Events from JSON Lines: each a CloudEvent, or `{type, data}` with the rest filled in."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Final
from uuid import UUID

from producers.envelope import MAX_EVENT_BYTES, SOURCE, InvalidEvent, ReadyEvent, check, complete, encode
from schemas.json_codec import InvalidJson, parse_json

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

LINE_SLACK: Final = 4096
"""What may stand in a line beside its event: white space, a byte order mark, the line's end."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no event.

    Attributes:
        number: Which line, from 1.
        error: What is wrong and where in it, without its values.
    """

    number: int
    error: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.error}"


class BadLines(ValueError):  # noqa: N818 - named for what was found
    """Some lines are no events.

    Attributes:
        lines: All of them, in order.
    """

    def __init__(self, lines: Iterable[BadLine]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(map(str, self.lines)))


def bounded(file: BinaryIO, most: int) -> Iterator[bytes | None]:
    """Give the lines of a file, None for each of more than `most` bytes: such a one is not held in memory."""
    while line := file.readline(most + 1):
        if len(line) <= most:
            yield line
            continue
        yield None
        while line and not line.endswith(b"\n"):
            line = file.readline(most)


def read_lines(
    lines: Iterable[bytes | None],
    *,
    new_id: Callable[[], str],
    now: Callable[[], datetime],
    source: str = SOURCE,
    max_bytes: int = MAX_EVENT_BYTES,
) -> list[ReadyEvent]:
    """Read all events, or say of every bad line what is wrong with it.

    Args:
        lines: The lines of a file opened for bytes; blank ones are passed over, None is one too long.
        new_id: Makes the `id` of an event that has none.
        now: Gives the `time` of an event that has none.
        source: The `source` of an event that has none.
        max_bytes: How many bytes an event may have.

    Raises:
        BadLines: At least one line is no event, or bears the identity of an earlier one with other data.
    """
    events: list[ReadyEvent] = []
    bad: list[BadLine] = []
    seen: dict[UUID, tuple[int, bytes]] = {}
    for number, line in enumerate(lines, 1):
        if line is None:
            bad.append(BadLine(number, f"too_large: the line is longer than the {max_bytes} bytes allowed"))
            continue
        text = (line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line).strip()
        if not text:
            continue
        try:
            ready = _read(text, new_id=new_id, now=now, source=source, max_bytes=max_bytes)
        except (InvalidEvent, InvalidJson) as error:
            bad.append(BadLine(number, str(error)))
            continue
        first, fingerprint = seen.setdefault(ready.event.identity, (number, ready.event.fingerprint))
        if fingerprint != ready.event.fingerprint:
            bad.append(BadLine(number, f"id_conflict: the source and id of line {first} with other data"))
        events.append(ready)
    if bad:
        raise BadLines(bad)
    return events


def _read(
    text: bytes, *, new_id: Callable[[], str], now: Callable[[], datetime], source: str, max_bytes: int
) -> ReadyEvent:
    if len(text) > max_bytes:
        return check(text, max_bytes=max_bytes)
    event = parse_json(text)
    if not isinstance(event, dict):
        raise InvalidEvent("must be one JSON object")
    completed = complete(event, source=source, new_id=new_id, now=now)
    # What is complete goes out as it was written, byte for byte.
    return check(text if completed is event else encode(completed), max_bytes=max_bytes)
