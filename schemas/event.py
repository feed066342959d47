"""An inbound event, checked and ready to be decided on."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, cast
from uuid import UUID

from schemas.events import EventData, EventType, JobCompleted, UserJoined, read_data
from schemas.fingerprint import fingerprint
from schemas.json_codec import dump_json, parse_trusted_json


@dataclass(frozen=True, slots=True)
class Trace:
    """What connects an event to the work around it; carried on to the outcomes as it came."""

    traceparent: str | None = None
    tracestate: str | None = None
    correlationid: str | None = None


NO_TRACE = Trace()


@dataclass(frozen=True, slots=True)
class InboundEvent:
    """An event that satisfies the contract.

    Attributes:
        type: Which of the three it is.
        source: The envelope's `source`.
        id: The envelope's `id`.
        time: RFC 3339 as received; where it was missing, the record's timestamp.
        data: The checked data.
        identity: The digest of `source` and `id`.
        fingerprint: The digest of type and data as received.
        trace: The tracing attributes.
        stored: The whole event as JSON, from which `from_stored` makes an equal one.
    """

    type: EventType
    source: str
    id: str
    time: str
    data: EventData
    identity: UUID
    fingerprint: bytes
    trace: Trace
    stored: bytes = field(repr=False)

    @property
    def org_id(self) -> str:
        """The organization the event belongs to."""
        return self.data.org_id

    @property
    def subject(self) -> str:
        """What within the organization the event is about: the user, the job, or "" for the organization."""
        data = self.data
        if isinstance(data, JobCompleted):
            return data.job_id
        return data.user_id if isinstance(data, UserJoined) else ""


def identity_digest(source: str, id: str) -> UUID:  # noqa: A002 - the attribute's name
    """Digest an event's identity: half a SHA-256 over both strings, each after its length in bytes."""
    source_bytes = source.encode()
    id_bytes = id.encode()
    digest = sha256(
        b"%b%b%b%b"
        % (len(source_bytes).to_bytes(4, "big"), source_bytes, len(id_bytes).to_bytes(4, "big"), id_bytes)
    ).digest()
    return UUID(bytes=digest[:16])


def make_event(
    type: EventType,  # noqa: A002 - the attributes' names
    source: str,
    id: str,  # noqa: A002
    *,
    time: str,
    data: dict[str, object],
    trace: Trace,
) -> InboundEvent:
    """Check the data and make the event of a checked envelope.

    Raises:
        InvalidData: The data break the contract.
    """
    checked = read_data(type, data)
    envelope: dict[str, object] = {"type": type.value, "source": source, "id": id, "time": time}
    if trace is not NO_TRACE:
        envelope["trace"] = [trace.traceparent, trace.tracestate, trace.correlationid]
    envelope["data"] = data
    return InboundEvent(
        type,
        source,
        id,
        time,
        checked,
        identity_digest(source, id),
        fingerprint(type, data),
        trace,
        dump_json(envelope),
    )


def from_stored(stored: bytes) -> InboundEvent:
    """Make the event again whose `stored` this is.

    Raises:
        InvalidData: The contract has become stricter since the event was stored.
    """
    envelope = cast("dict[str, Any]", parse_trusted_json(stored))
    trace = Trace(*envelope["trace"]) if "trace" in envelope else NO_TRACE
    return make_event(
        EventType(envelope["type"]),
        envelope["source"],
        envelope["id"],
        time=envelope["time"],
        data=envelope["data"],
        trace=trace,
    )
