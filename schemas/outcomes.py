"""Outcome events: their types, their ids, and their one form on the wire."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from hashlib import sha1
from typing import Final, NamedTuple, cast
from uuid import NAMESPACE_URL, UUID

from schemas.dead_letters import Header
from schemas.digests import uuid5_of
from schemas.event import NO_TRACE, InboundEvent, Trace, identity_digest
from schemas.events import JobCompleted
from schemas.json_codec import dump_json
from schemas.timestamps import format_rfc3339

OUTCOME_CONTENT_TYPE: Final[Header] = ("content-type", b"application/cloudevents+json")
"""The header every outcome bears: CloudEvents in structured mode."""

SCHEMA_URN: Final = "urn:quartermaster:schema:v1:"
"""What the URI of every schema begins with; the type follows."""


class OutcomeType(StrEnum):
    """The types of events that are written."""

    ORG_PROVISIONED = "org.provisioned"
    ORG_PROVISIONING_FAILED = "org.provisioning_failed"
    USER_PROVISIONED = "user.provisioned"
    USER_PROVISIONING_FAILED = "user.provisioning_failed"
    CREDITS_DEDUCTED = "credits.deducted"
    CREDITS_DEDUCTION_SKIPPED = "credits.deduction_skipped"
    CREDITS_DEDUCTION_FAILED = "credits.deduction_failed"
    CREDITS_GRANTED = "credits.granted"
    CREDITS_ADJUSTED = "credits.adjusted"


class Origin(StrEnum):
    """What had the outcome decided."""

    LIVE = "live"
    REPLAY = "replay"
    REDRIVE = "redrive"
    RETRY = "retry"
    OPERATOR = "operator"


class Stream(StrEnum):
    """What is written, by the topic it goes to."""

    PROVISIONING = "provisioning"
    CREDITS = "credits"
    DEAD_LETTER = "dead_letter"


class Cause(NamedTuple):
    """What an outcome follows from.

    Attributes:
        identity: The digest of `source` and `id`.
        source: The inbound event's `source`; for an operator's command our own.
        id: The inbound event's `id`; for an operator's command the command's.
        time: The inbound event's time; none for a command.
        trace: What to carry on.
        caused: Whether the outcome names the cause; an operator's command is not named.
    """

    identity: UUID
    source: str
    id: str
    time: str | None
    trace: Trace
    caused: bool = True


class EncodedOutcome(NamedTuple):
    """An outcome as it goes to the database and from there to Kafka.

    Attributes:
        id: The outcome's id, the same in every repeat.
        type: Its type.
        stream: Which topic it goes to.
        org_id: The organization, its record key.
        value: The record's value: a CloudEvent in structured mode.
        decided_at: When it was decided.
        round: 1, and one more each time an operator had the event tried again.
        cause_identity: The identity of what caused it.
        job_key: The job it is about, as `charge_id` names it.
    """

    id: UUID
    type: OutcomeType
    stream: Stream
    org_id: str
    value: bytes
    decided_at: datetime
    round: int
    cause_identity: UUID
    job_key: UUID | None


def cause_of(event: InboundEvent) -> Cause:
    """Take an inbound event as the cause of an outcome."""
    return Cause(event.identity, event.source, event.id, event.time, event.trace)


def operator_cause(our_source: str, command_id: str) -> Cause:
    """Take an operator's command as the cause of an outcome: its id derives from it, but it is not named."""
    identity = identity_digest(our_source, command_id)
    return Cause(identity, our_source, command_id, None, NO_TRACE, caused=False)


def stream_of(type: OutcomeType) -> Stream:  # noqa: A002 - the attribute's name
    """Say which topic an outcome goes to."""
    return _STREAMS[type]


def outcome_id(source: str, id: str, type: OutcomeType, round: int) -> UUID:  # noqa: A002
    """Derive an outcome's id: the UUIDv5, in the URL name space, of the JSON array of the arguments."""
    name = dump_json([source, id, _NAMES[type], round])
    # uuid.uuid5 says the same more slowly: it takes text alone, and imports at every call.
    return uuid5_of(sha1(_URL + name, usedforsecurity=False).digest())


def encode_outcome(
    type: OutcomeType,  # noqa: A002
    data: Mapping[str, object],
    *,
    org_id: str,
    cause: Cause,
    decided_at: datetime,
    origin: Origin,
    round: int,  # noqa: A002
    our_source: str,
    job_key: UUID | None = None,
) -> EncodedOutcome:
    """Write an outcome: from the same arguments always the same bytes.

    Args:
        type: Its type.
        data: Its data, in the order they are to stand; `None` is written as null.
        org_id: The organization: the outcome's `subject` and record key.
        cause: What it follows from.
        decided_at: When it was decided.
        origin: What had it decided.
        round: 1, and one more each time an operator has the event tried again.
        our_source: The outcome's `source`.
        job_key: For an outcome about a job, what `charge_id` gives.
    """
    id_ = outcome_id(cause.source, cause.id, type, round)
    envelope: dict[str, object] = {
        "specversion": "1.0",
        "id": str(id_),
        "source": our_source,
        "type": _NAMES[type],
        "subject": org_id,
        "time": format_rfc3339(decided_at),
        "datacontenttype": "application/json",
        "dataschema": SCHEMA_URN + _NAMES[type],
    }
    if cause.caused:
        envelope["causationid"] = cause.id
        envelope["causationsource"] = cause.source
        if cause.time is not None:
            envelope["causationtime"] = cause.time
    envelope["origin"] = _ORIGINS[origin]
    envelope["round"] = round
    trace = cause.trace
    if trace is not NO_TRACE:
        if trace.traceparent is not None:
            envelope["traceparent"] = trace.traceparent
        if trace.tracestate is not None:
            envelope["tracestate"] = trace.tracestate
        if trace.correlationid is not None:
            envelope["correlationid"] = trace.correlationid
    envelope["data"] = data
    return EncodedOutcome(
        id_,
        type,
        _STREAMS[type],
        org_id,
        dump_json(envelope),
        decided_at,
        round,
        cause.identity,
        job_key,
    )


def job_facts(event: InboundEvent, decided_at: datetime) -> dict[str, object]:
    """Give what every outcome about a job says of it: the facts received, and when it was decided.

    Args:
        event: A `job.completed`.
        decided_at: When the outcome was decided.
    """
    job = cast("JobCompleted", event.data)
    facts: dict[str, object] = {
        "org_id": job.org_id,
        "account_id": job.org_id,
        "job_id": job.job_id,
        "status": job.status,
    }
    if job.user_id is not None:
        facts["user_id"] = job.user_id
    if job.job_type is not None:
        facts["job_type"] = job.job_type
    if job.usage is not None:
        # A model's attributes stand in the order of its fields.
        facts["usage"] = {name: count for name, count in vars(job.usage).items() if count is not None}
    if job.started_at is not None:
        facts["started_at"] = job.started_at
    if job.completed_at is not None:
        facts["completed_at"] = job.completed_at
    facts["occurred_at"] = job.completed_at or event.time
    facts["decided_at"] = format_rfc3339(decided_at)
    return facts


_URL: Final = NAMESPACE_URL.bytes

# A member's value is looked up by a Python function.
_NAMES: Final[Mapping[OutcomeType, str]] = {outcome: outcome.value for outcome in OutcomeType}
_ORIGINS: Final[Mapping[Origin, str]] = {origin: origin.value for origin in Origin}

_STREAMS: Final[Mapping[OutcomeType, Stream]] = {
    outcome: Stream.CREDITS if outcome.value.startswith("credits.") else Stream.PROVISIONING
    for outcome in OutcomeType
}
