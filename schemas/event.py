"""An inbound event, checked and ready to be decided on."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple, cast
from uuid import UUID

from schemas.digests import uuid_of
from schemas.events import EventData, EventType, JobCompleted, UserJoined, read_data
from schemas.fingerprint import fingerprint
from schemas.json_codec import dump_json, parse_trusted_json


class Trace(NamedTuple):
    """What connects an event to the work around it; carried on to the outcomes as it came."""

    traceparent: str | None = None
    tracestate: str | None = None
    correlationid: str | None = None


NO_TRACE = Trace()


class InboundEvent(NamedTuple):
    """An event that satisfies the contract.

    Attributes:
        type: Which of the three it is.
        source: The envelope's `source`.
        id: The envelope's `id`.
        time: RFC 3339 as received; where it was missing, the record's timestamp.
        org_id: The organization the event belongs to.
        subject: What within the organization the event is about: the user, the job, or "" for the
            organization.
        data: The checked data.
        identity: The digest of `source` and `id`.
        fingerprint: The digest of type and data as received.
        trace: The tracing attributes.
        received: The data as received, unknown fields included.
    """

    type: EventType
    source: str
    id: str
    time: str
    org_id: str
    subject: str
    data: EventData
    identity: UUID
    fingerprint: bytes
    trace: Trace
    received: Mapping[str, object]

    def __repr__(self) -> str:
        """Say which event it is, without what it carries."""
        return f"InboundEvent(type={self.type.value!r}, source={self.source!r}, id={self.id!r})"

    @property
    def stored(self) -> bytes:
        """The whole event as JSON, from which `from_stored` makes an equal one."""
        envelope: dict[str, object] = {
            "type": self.type.value,
            "source": self.source,
            "id": self.id,
            "time": self.time,
        }
        if self.trace is not NO_TRACE:
            envelope["trace"] = list(self.trace)
        envelope["data"] = self.received
        return dump_json(envelope)


def identity_digest(source: str, id: str) -> UUID:  # noqa: A002 - the attribute's name
    """Digest an event's identity: half a SHA-256 over both strings, each after its length in bytes."""
    source_bytes = source.encode()
    id_bytes = id.encode()
    return uuid_of(
        sha256(
            b"%b%b%b%b"
            % (len(source_bytes).to_bytes(4, "big"), source_bytes, len(id_bytes).to_bytes(4, "big"), id_bytes)
        ).digest()
    )


def make_event(
    type: EventType,  # noqa: A002 - the attributes' names
    source: str,
    id: str,  # noqa: A002
    *,
    time: str,
    data: dict[str, object],
    trace: Trace,
) -> InboundEvent:
    """Check the data and make the event of a checked envelope; `data` is the event's from then on.

    Raises:
        InvalidData: The data break the contract.
    """
    checked = read_data(type, data)
    return InboundEvent(
        type,
        source,
        id,
        time,
        checked.org_id,
        _subject(checked),
        checked,
        identity_digest(source, id),
        fingerprint(type, data),
        trace,
        data,
    )


def _subject(data: EventData) -> str:
    # Compared by type: isinstance asks the models' metaclass, which takes longer than all else here.
    if type(data) is JobCompleted:
        return data.job_id
    return data.user_id if type(data) is UserJoined else ""


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
