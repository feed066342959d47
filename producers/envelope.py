"""An upstream event made ready: its envelope completed, checked as the consumer will check it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from schemas.dead_letters import Header
from schemas.decode import STRUCTURED, IncomingRecord, PassedOver, Rejected, decode
from schemas.event import InboundEvent
from schemas.events import EventType
from schemas.json_codec import dump_json
from schemas.timestamps import format_rfc3339

SOURCE: Final = "/quartermaster/publish"
"""The `source` filled in where none is given."""

MAX_EVENT_BYTES: Final = 524_288
"""What the consumer takes unless told otherwise."""

HEADERS: Final[tuple[Header, ...]] = (("content-type", STRUCTURED),)
"""The headers of a CloudEvent in structured mode."""


class InvalidEvent(ValueError):  # noqa: N818 - named for what the event is
    """The consumer would not take this event; the message says what is wrong and where, not the values."""


@dataclass(frozen=True, slots=True)
class ReadyEvent:
    """An event the consumer will take, as it goes to Kafka.

    Attributes:
        event: What the consumer will make of it.
        value: The record's value: the CloudEvent in structured mode.
    """

    event: InboundEvent
    value: bytes

    @property
    def type(self) -> EventType:
        """What decides the topic."""
        return self.event.type

    @property
    def key(self) -> bytes:
        """The record's key: the organization's id."""
        return self.event.org_id.encode()


def complete(
    event: Mapping[str, object], *, source: str, new_id: Callable[[], str], now: Callable[[], datetime]
) -> Mapping[str, object]:
    """Fill in what a short form, `{type, data}`, leaves out.

    A CloudEvent (whatever has a `specversion`) stays as it is, the very same mapping.

    Args:
        event: The event; of a short form what is given beside `type` and `data` is kept.
        source: The `source`, where none is given.
        new_id: Makes the `id`, where none is given.
        now: Gives the `time`, where none is given.
    """
    if "specversion" in event:
        return event
    given = {name: value for name, value in event.items() if value is not None}
    filled: dict[str, object] = {
        "specversion": "1.0",
        "id": given["id"] if "id" in given else new_id(),
        "source": given.get("source", source),
        "time": given["time"] if "time" in given else format_rfc3339(now()),
    }
    return {**filled, **given}


def encode(event: Mapping[str, object]) -> bytes:
    """Write an event as JSON.

    Raises:
        InvalidEvent: It holds something that JSON does not know.
    """
    try:
        return dump_json(event)
    except TypeError as error:
        raise InvalidEvent(f"cannot be written as JSON: {error}") from None


def check(value: bytes, *, max_bytes: int) -> ReadyEvent:
    """Check a CloudEvent in structured mode with the consumer's own checks.

    Args:
        value: The event as JSON.
        max_bytes: How many bytes it may have.

    Raises:
        InvalidEvent: The consumer would make it a dead letter, or pass over it.
    """
    record = IncomingRecord(
        topic="", partition=0, offset=0, timestamp_ms=0, key=None, value=value, headers=HEADERS
    )
    match decode(record, max_bytes=max_bytes):
        case Rejected(reason, error):
            raise InvalidEvent(f"{reason.value}: {error}")
        case PassedOver():
            raise InvalidEvent(f"type: must be one of {', '.join(EventType)}")
        case event:
            return ReadyEvent(event, value)
