"""What holds for any record whatever: checked by the fuzzer, by Hypothesis, and on the kept corpus."""

import random
import time
from datetime import UTC, datetime
from typing import Any

from schemas.dead_letters import Header, dead_letter_headers, decode_headers, encode_headers
from schemas.decode import IncomingRecord, PassedOver, Rejected, decode
from schemas.event import InboundEvent, from_stored
from schemas.events import EventType
from schemas.fingerprint import fingerprint
from schemas.json_codec import parse_json
from schemas.outcomes import Origin, OutcomeType, cause_of, encode_outcome, job_facts, outcome_id
from tests.hostile.reference import Number, expected, read_json
from tests.hostile.spelling import Raw, spell

MAX_BYTES = 524_288
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STRUCTURED: Header = ("content-type", b"application/cloudevents+json")
SLOWEST_S = 5.0
"""More than any record of `MAX_BYTES` may take, on the slowest machine."""

_MODES: tuple[tuple[Header, ...], ...] = (
    (),
    (STRUCTURED,),
    *(
        (
            ("ce_specversion", b"1.0"),
            ("ce_id", b"evt-1"),
            ("ce_source", b"/jobs"),
            ("ce_type", type_.value.encode()),
        )
        for type_ in EventType
    ),
)


def record_of(raw: bytes) -> IncomingRecord:
    """Make a record of bytes: the first says which headers, perhaps those that follow up to a blank line."""
    mode, value = (raw[0] % (len(_MODES) + 1), raw[1:]) if raw else (0, None)
    if mode < len(_MODES):
        return _record(value, _MODES[mode])
    head, blank, rest = (value or b"").partition(b"\n\n")
    headers = []
    for line in head.split(b"\n")[:100]:
        name, colon, content = line.partition(b":")
        headers.append((name.decode("utf-8", "replace"), content if colon else None))
    return _record(rest if blank else None, tuple(headers))


def raw_of(value: bytes | None, headers: tuple[Header, ...]) -> bytes:
    """Write a record for `record_of`, as far as that can tell it."""
    if value is not None and headers in _MODES:
        return bytes([_MODES.index(headers)]) + value
    lines = (name.encode() + (b"" if content is None else b":" + content) for name, content in headers)
    return bytes([len(_MODES)]) + b"\n".join(lines) + (b"" if value is None else b"\n\n" + value)


def _record(value: bytes | None, headers: tuple[Header, ...]) -> IncomingRecord:
    return IncomingRecord("in", 0, 1, 1_700_000_000_000, b"key", value, headers)


def check(record: IncomingRecord) -> None:
    """Raise AssertionError where anything does not hold for this record."""
    started = time.monotonic()
    meaning = decode(record, max_bytes=MAX_BYTES)
    assert time.monotonic() - started < SLOWEST_S, "too slow"
    assert decode(record, max_bytes=MAX_BYTES) == meaning
    meant = expected(record.value, record.headers, max_bytes=MAX_BYTES)
    match meaning:
        case PassedOver():
            assert meant.what == ("null" if meaning.why == "null" else "unknown")
        case Rejected():
            found = (meaning.reason.value, meaning.event_type, meaning.event_source, meaning.event_id)
            assert found == (meant.what, meant.type, meant.source, meant.id)
            check_dead_letter(record, meaning)
        case InboundEvent():
            assert (meant.what, meant.type, meant.source, meant.id) == (
                "event",
                meaning.type.value,
                meaning.source,
                meaning.id,
            )
            check_event(meaning, meant.data)


def check_dead_letter(record: IncomingRecord, rejected: Rejected) -> None:
    """Its text is one printable line, and its headers hold the record's own, in order, and then ours."""
    assert 0 < len(rejected.error) <= 500
    assert rejected.error.isprintable()
    assert decode_headers(encode_headers(record.headers)) == record.headers
    headers = dead_letter_headers(
        record.headers,
        reason=rejected.reason,
        error=rejected.error,
        event_id=rejected.event_id,
        event_source=rejected.event_source,
        event_type=rejected.event_type,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        dead_lettered_at=NOW,
    )
    kept = [header for header in record.headers if not header[0].startswith("qm-")]
    assert headers[: len(kept)] == kept
    own = [name for name, _ in headers[len(kept) :]]
    assert len(set(own)) == len(own)
    assert all(name.startswith("qm-") for name in own)
    assert {"qm-reason", "qm-error", "qm-original-topic", "qm-dead-lettered-at"} <= set(own)


def check_event(event: InboundEvent, data: Any) -> None:
    """It can be stored, told apart from others however it is spelled, and answered with strict JSON."""
    assert from_stored(event.stored) == event
    chance = random.Random(event.fingerprint)
    respelled = parse_json(spell(anew(data, chance), chance))
    assert isinstance(respelled, dict)
    assert fingerprint(event.type, respelled) == event.fingerprint
    if event.type is not EventType.JOB_COMPLETED:
        return
    outcome = encode_outcome(
        OutcomeType.CREDITS_DEDUCTED,
        job_facts(event, NOW),
        org_id=event.org_id,
        cause=cause_of(event),
        decided_at=NOW,
        origin=Origin.LIVE,
        round=1,
        our_source="/quartermaster",
        job_key=None,
    )
    told = read_json(outcome.value)
    assert (told["causationsource"], told["causationid"]) == (event.source, event.id)
    assert told["id"] == str(outcome_id(event.source, event.id, OutcomeType.CREDITS_DEDUCTED, 1))
    assert (told["data"]["org_id"], told["data"]["job_id"]) == (event.org_id, event.subject)


def anew(value: Any, chance: random.Random) -> Any:
    """Give a value of the reference's reading with its numbers spelled otherwise."""
    if isinstance(value, dict):
        return {name: anew(member, chance) for name, member in value.items()}
    if isinstance(value, list):
        return [anew(item, chance) for item in value]
    if not isinstance(value, Number):
        return value
    whole, point, power = value.lower().partition("e")
    zeros = "0" * chance.randrange(3)
    if "." in whole:
        return Raw(f"{whole}{zeros}{point}{power}".encode())
    if zeros:
        return Raw(f"{whole}.{zeros}{point}{power}".encode())
    return Raw((f"{whole}E{power}" if point else chance.choice((whole, f"{whole}e-0"))).encode())
