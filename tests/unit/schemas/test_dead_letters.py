from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letters import (
    DeadLetterReason,
    Header,
    dead_letter_digest,
    dead_letter_headers,
    decode_headers,
    encode_headers,
)

HEADERS = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=20)), max_size=6)


def headers_of(*received: Header, **changes: Any) -> list[Header]:
    values: dict[str, Any] = {
        "reason": DeadLetterReason.INVALID_DATA,
        "error": "data.org_id: is required",
        "event_id": "evt-1",
        "event_source": "/jobs",
        "event_type": "job.completed",
        "topic": "jobs",
        "partition": 3,
        "offset": 42,
        "timestamp_ms": 1_700_000_000_123,
        "dead_lettered_at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    }
    return dead_letter_headers(received, **values | changes)


def test_ours_follow_the_records_own() -> None:
    assert headers_of(("content-type", b"x"), ("a", None), ("content-type", b"\xff")) == [
        ("content-type", b"x"),
        ("a", None),
        ("content-type", b"\xff"),
        ("qm-reason", b"invalid_data"),
        ("qm-error", b"data.org_id: is required"),
        ("qm-event-id", b"evt-1"),
        ("qm-event-source", b"/jobs"),
        ("qm-event-type", b"job.completed"),
        ("qm-original-topic", b"jobs"),
        ("qm-original-partition", b"3"),
        ("qm-original-offset", b"42"),
        ("qm-original-timestamp", b"2023-11-14T22:13:20.123000Z"),
        ("qm-dead-lettered-at", b"2026-01-02T03:04:05.000006Z"),
    ]


def test_inbound_qm_headers_are_dropped() -> None:
    names = [name for name, _ in headers_of(("qm-reason", b"forged"), ("a", b""), ("qm-", b""), ("qm", b""))]
    assert names[:3] == ["a", "qm", "qm-reason"]
    assert names.count("qm-reason") == 1


def test_what_could_not_be_read_is_left_out() -> None:
    names = [name for name, _ in headers_of(event_id=None, event_source=None, event_type=None)]
    assert not [name for name in names if name.startswith("qm-event-")]


@pytest.mark.parametrize("timestamp_ms", [-1, -(2**63), 2**63 - 1])
def test_any_timestamp_a_producer_may_write_has_a_header(timestamp_ms: int) -> None:
    assert dict(headers_of(timestamp_ms=timestamp_ms))["qm-original-timestamp"]


@given(HEADERS)
def test_headers_come_back_as_they_were(headers: list[Header]) -> None:
    assert decode_headers(encode_headers(headers)) == tuple(headers)


@given(HEADERS, st.data())
def test_headers_cut_short_are_no_headers(headers: list[Header], data: st.DataObject) -> None:
    encoded = encode_headers(headers)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    try:
        decoded = decode_headers(cut)
    except ValueError:
        return
    assert list(decoded) == headers[: len(decoded)]


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown encoding"):
        decode_headers(b"\x02")


def test_the_digest_stays_what_it_is_for_good() -> None:
    assert dead_letter_digest("jobs", 3, 42, b"value") == UUID("8bca6c0a-cafd-b4ab-a2fa-a4609a2dab7b")


def test_every_part_of_the_identity_counts() -> None:
    digests = {
        dead_letter_digest(topic, partition, offset, value)
        for topic in ("jobs", "users")
        for partition in (0, 1)
        for offset in (0, 2**40)
        for value in (None, b"", b"\x00", b"x")
    }
    assert len(digests) == 32


def test_a_header_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="without a name"):
        decode_headers(b"\x01" + b"\xff" * 8)
