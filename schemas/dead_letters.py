"""Dead letters: their reasons, their identity and the headers they bear."""

import struct
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final
from uuid import UUID

from schemas.digests import uuid_of
from schemas.timestamps import format_rfc3339, from_kafka_ms

Header = tuple[str, bytes | None]
"""A record's header; Kafka knows headers whose value is null."""

VALUE_OMITTED: Final[Header] = ("qm-value-omitted", b"true")
"""The header of a dead letter whose value the topic could not take."""

HEADERS_OMITTED: Final[Header] = ("qm-headers-omitted", b"true")
"""The header of a dead letter whose value, key and other headers the topic could not take."""

_ENCODING_VERSION: Final = b"\x01"
_LENGTH: Final = struct.Struct(">i")
OWN_PREFIX: Final = "qm-"
"""What the names of our own headers begin with; a record's own of such a name are not kept."""


class DeadLetterReason(StrEnum):
    """Why a record could not be taken."""

    INVALID_JSON = "invalid_json"
    INVALID_ENVELOPE = "invalid_envelope"
    INVALID_DATA = "invalid_data"
    TOO_LARGE = "too_large"
    ID_CONFLICT = "id_conflict"
    UNPROCESSABLE = "unprocessable"


def dead_letter_digest(topic: str, partition: int, offset: int, value: bytes | None) -> UUID:
    """Digest a dead letter's identity: where the record stands, and the SHA-256 of its value.

    The value belongs to it because a topic that was deleted and made again counts its offsets from 0.
    """
    name = topic.encode()
    position = struct.pack(">iiq", len(name), partition, offset)
    content = b"\x00" if value is None else b"\x01" + sha256(value).digest()
    return uuid_of(sha256(position + name + content).digest())


def dead_letter_headers(
    record_headers: Iterable[Header],
    *,
    reason: DeadLetterReason,
    error: str,
    event_id: str | None,
    event_source: str | None,
    event_type: str | None,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    dead_lettered_at: datetime,
) -> list[Header]:
    """Give the headers of a dead letter: the record's own, in order and less every `qm-*`, then ours.

    Args:
        record_headers: The inbound record's headers.
        reason: Why it is one.
        error: What is wrong and where, without values of the payload.
        event_id: The envelope's `id`, where readable; likewise `event_source` and `event_type`.
        event_source: See `event_id`.
        event_type: See `event_id`.
        topic: Where the record stands; likewise `partition` and `offset`.
        partition: See `topic`.
        offset: See `topic`.
        timestamp_ms: The record's timestamp, in milliseconds since 1970.
        dead_lettered_at: When it was decided.
    """
    headers = [header for header in record_headers if not header[0].startswith(OWN_PREFIX)]
    own = (
        ("qm-reason", reason.value),
        ("qm-error", error),
        ("qm-event-id", event_id),
        ("qm-event-source", event_source),
        ("qm-event-type", event_type),
        ("qm-original-topic", topic),
        ("qm-original-partition", str(partition)),
        ("qm-original-offset", str(offset)),
        ("qm-original-timestamp", format_rfc3339(from_kafka_ms(timestamp_ms))),
        ("qm-dead-lettered-at", format_rfc3339(dead_lettered_at)),
    )
    headers.extend((name, value.encode()) for name, value in own if value is not None)
    return headers


def encode_headers(headers: Sequence[Header]) -> bytes:
    """Write headers as bytes, losing nothing: order, repeats, null and empty values, any bytes."""
    parts = [_ENCODING_VERSION]
    for name, value in headers:
        name_bytes = name.encode("utf-8", "surrogatepass")
        parts += (_LENGTH.pack(len(name_bytes)), name_bytes)
        if value is None:
            parts.append(_LENGTH.pack(-1))
        else:
            parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def decode_headers(encoded: bytes) -> tuple[Header, ...]:
    """Read headers that `encode_headers` wrote.

    Raises:
        ValueError: The bytes are none of ours.
    """
    if encoded[:1] != _ENCODING_VERSION:
        raise ValueError("headers in an unknown encoding")
    headers: list[Header] = []
    position = 1
    try:
        while position < len(encoded):
            name, position = _take(encoded, position)
            value, position = _take(encoded, position)
            if name is None:
                raise ValueError("a header without a name")
            headers.append((name.decode("utf-8", "surrogatepass"), value))
    except struct.error:
        raise ValueError("headers cut short") from None
    return tuple(headers)


def _take(encoded: bytes, position: int) -> tuple[bytes | None, int]:
    (length,) = _LENGTH.unpack_from(encoded, position)
    start = position + _LENGTH.size
    if length < 0:
        return None, start
    end = start + length
    if end > len(encoded):
        raise ValueError("headers cut short")
    return encoded[start:end], end
