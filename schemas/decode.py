"""From a Kafka record to an event: CloudEvents 1.0 in both modes, the checks in the contract's order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, NoReturn

from schemas.dead_letters import DeadLetterReason, Header
from schemas.event import NO_TRACE, InboundEvent, Trace, make_event
from schemas.events import EventType, InvalidData
from schemas.json_codec import InvalidJson, parse_json
from schemas.timestamps import format_rfc3339, from_kafka_ms, is_rfc3339
from schemas.wording import shorten

STRUCTURED: Final = b"application/cloudevents+json"
"""The media type of the structured mode."""

MAX_NAME: Final = 512
"""Characters of `id` and `source` at most."""

MAX_TRACE: Final = 1024
"""Characters of a tracing attribute at most; a longer one is left out."""

_KNOWN: Final[Mapping[str, EventType]] = {type_.value: type_ for type_ in EventType}
_PREFIX: Final = "ce_"


class IncomingRecord(NamedTuple):
    """A record as it was read from Kafka.

    Attributes:
        topic: Where it stands.
        partition: Where it stands.
        offset: Where it stands.
        timestamp_ms: The record's timestamp, in milliseconds since 1970.
        key: Its key, which decides nothing.
        value: Its value.
        headers: Its headers, in order.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A record that is counted and otherwise none of our business."""

    why: Literal["null", "unknown_type"]
    type: str | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that becomes a dead letter.

    Attributes:
        reason: The first check that failed.
        error: What is wrong and where; nothing of the payload's values.
        event_id: The envelope's `id`, where it could be read.
        event_source: The envelope's `source`, where it could be read.
        event_type: The envelope's `type`, where it could be read.
    """

    reason: DeadLetterReason
    error: str
    event_id: str | None = None
    event_source: str | None = None
    event_type: str | None = None


class _Refused(Exception):  # noqa: N818 - not an error: how a check ends the others
    def __init__(self, reason: DeadLetterReason, error: str) -> None:
        self.reason = reason
        self.error = error


_NULL: Final = PassedOver("null", None)


def decode(record: IncomingRecord, *, max_bytes: int) -> InboundEvent | PassedOver | Rejected:
    """Decide what a record is.

    Args:
        record: The record.
        max_bytes: How many bytes its value may have.
    """
    value = record.value
    if value is None and not any(name.startswith(_PREFIX) for name, _ in record.headers):
        return _NULL
    attributes: dict[str, object] = {}
    try:
        if value is not None and len(value) > max_bytes:
            _refuse_size(len(value), max_bytes)
        if _is_binary(record.headers):
            return _decode_binary(record, attributes)
        if value is None:
            _refuse_envelope("a null value")
        envelope = parse_json(value)
        if not isinstance(envelope, dict):
            _refuse_envelope("the value must be one JSON object")
        attributes = envelope
        return _decode_structured(record, attributes)
    except InvalidJson as error:
        return _rejected(DeadLetterReason.INVALID_JSON, str(error), attributes)
    except InvalidData as error:
        return _rejected(DeadLetterReason.INVALID_DATA, str(error), attributes)
    except _Refused as refused:
        return _rejected(refused.reason, refused.error, attributes)


def _decode_structured(record: IncomingRecord, attributes: Mapping[str, object]) -> InboundEvent | PassedOver:
    known = _type(attributes)
    if isinstance(known, PassedOver):
        return known
    if attributes.get("data_base64") is not None:
        _refuse_envelope("data_base64: binary data is not accepted")
    return _event(known, attributes, attributes.get("data"), record)


def _decode_binary(record: IncomingRecord, attributes: dict[str, object]) -> InboundEvent | PassedOver:
    broken = _read_headers(record.headers, attributes)
    if "type" in broken:
        _refuse_envelope(broken["type"])
    known = _type(attributes)
    if isinstance(known, PassedOver):
        return known
    if record.value is None:
        _refuse_envelope("a null value")
    data = parse_json(record.value)
    if broken:
        _refuse_envelope(next(iter(broken.values())))
    return _event(known, attributes, data, record)


def _event(
    known: EventType, attributes: Mapping[str, object], data: object, record: IncomingRecord
) -> InboundEvent:
    if attributes.get("specversion") != "1.0":
        _refuse_envelope('specversion: must be "1.0"')
    source = _name(attributes, "source")
    id_ = _name(attributes, "id")
    time = attributes.get("time")
    if time is None:
        time = format_rfc3339(from_kafka_ms(record.timestamp_ms))
    elif not isinstance(time, str) or not is_rfc3339(time):
        _refuse_envelope("time: must be a timestamp of RFC 3339")
    if not isinstance(data, dict):
        _refuse_envelope("data: must be a JSON object")
    return make_event(known, source, id_, time=time, data=data, trace=_trace(attributes, record.headers))


def _type(attributes: Mapping[str, object]) -> EventType | PassedOver:
    type_ = attributes.get("type")
    if not isinstance(type_, str):
        _refuse_envelope("type: is required and must be a string")
    return _KNOWN.get(type_) or PassedOver("unknown_type", type_)


def _name(attributes: Mapping[str, object], attribute: str) -> str:
    value = attributes.get(attribute)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        _refuse_envelope(f"{attribute}: must be a string of 1 to {MAX_NAME} characters")
    return value


def _refuse_size(size: int, max_bytes: int) -> NoReturn:
    error = f"the value has {size} bytes, more than the {max_bytes} allowed"
    raise _Refused(DeadLetterReason.TOO_LARGE, error)


def _is_binary(headers: tuple[Header, ...]) -> bool:
    binary = False
    for name, value in headers:
        if name == "ce_specversion":
            binary = True
        elif name.lower() == "content-type" and _media_type(value) == STRUCTURED:
            return False
    return binary


def _media_type(value: bytes | None) -> bytes:
    return (value or b"").partition(b";")[0].strip().lower()


def _read_headers(headers: tuple[Header, ...], attributes: dict[str, object]) -> dict[str, str]:
    """Put the attributes that can be read into `attributes`; say by name what is wrong with the others."""
    broken: dict[str, str] = {}
    seen: set[str] = set()
    for header, value in headers:
        if not header.startswith(_PREFIX):
            continue
        name = header.removeprefix(_PREFIX)
        if name in seen:
            attributes.pop(name, None)
            broken[name] = _about_header(name, "given twice")
        elif value is not None:
            try:
                attributes[name] = value.decode()
            except UnicodeDecodeError:
                broken[name] = _about_header(name, "not UTF-8")
            if b"\0" in value:
                attributes.pop(name, None)
                broken[name] = _about_header(name, "U+0000 in it")
        seen.add(name)
    return broken


def _about_header(name: str, what: str) -> str:
    # A header's name is part of what was received: only the names we know are repeated.
    known = name in {"specversion", "type", "source", "id", "time", *_TRACE_NAMES}
    return f"header ce_{name}: {what}" if known else f"a ce_ header: {what}"


_TRACE_NAMES: Final = ("traceparent", "tracestate", "correlationid")


def _trace(attributes: Mapping[str, object], headers: tuple[Header, ...]) -> Trace:
    parent = _carried(attributes.get("traceparent"))
    state = _carried(attributes.get("tracestate"))
    correlation = _carried(attributes.get("correlationid"))
    if parent is None and headers:
        parent = _plain_header(headers, "traceparent")
        # A trace state belongs to its parent: the two are not mixed from different places.
        state = state or _plain_header(headers, "tracestate")
    if parent is None and state is None and correlation is None:
        return NO_TRACE
    return Trace(parent, state, correlation)


def _plain_header(headers: tuple[Header, ...], wanted: str) -> str | None:
    for name, value in headers:
        if name.lower() == wanted and value is not None:
            try:
                return _carried(value.decode())
            except UnicodeDecodeError:
                return None
    return None


def _carried(value: object) -> str | None:
    # U+0000, which a plain header may hold, would make an outcome that strict readers refuse: our own too.
    if isinstance(value, str) and 0 < len(value) <= MAX_TRACE and "\0" not in value:
        return value
    return None


def _refuse_envelope(error: str) -> NoReturn:
    raise _Refused(DeadLetterReason.INVALID_ENVELOPE, error)


def _rejected(reason: DeadLetterReason, error: str, attributes: Mapping[str, object]) -> Rejected:
    def readable(attribute: str) -> str | None:
        value = attributes.get(attribute)
        return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME else None

    return Rejected(reason, shorten(error), readable("id"), readable("source"), readable("type"))
