"""The order of checks, one by one, and what each refuses."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letters import DeadLetterReason, Header
from schemas.decode import IncomingRecord, PassedOver, Rejected, decode
from schemas.event import InboundEvent, Trace
from schemas.events import EventType

MAX_BYTES = 10_000
STRUCTURED = ("content-type", b"application/cloudevents+json")
JOB: dict[str, Any] = {"org_id": "org-1", "job_id": "job-1", "status": "completed"}
ENVELOPE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "evt-1",
    "source": "/jobs",
    "type": "job.completed",
    "time": "2026-01-02T03:04:05Z",
    "data": JOB,
}
CE = {
    "ce_specversion": b"1.0",
    "ce_id": b"evt-1",
    "ce_source": b"/jobs",
    "ce_type": b"job.completed",
    "ce_time": b"2026-01-02T03:04:05Z",
}


def record(value: bytes | None, *headers: Header) -> IncomingRecord:
    return IncomingRecord("jobs", 3, 42, 1_700_000_000_000, b"org-1", value, headers)


def structured(*headers: Header, **changes: Any) -> IncomingRecord:
    return record(json.dumps(ENVELOPE | changes).encode(), *headers)


def without(attribute: str) -> IncomingRecord:
    return record(json.dumps({name: value for name, value in ENVELOPE.items() if name != attribute}).encode())


def binary(value: bytes | None = None, *more: Header, **changes: bytes | None) -> IncomingRecord:
    headers: dict[str, bytes | None] = {**CE, **changes}
    return record(json.dumps(JOB).encode() if value is None else value, *headers.items(), *more)


def accepted(incoming: IncomingRecord) -> InboundEvent:
    event = decode(incoming, max_bytes=MAX_BYTES)
    assert isinstance(event, InboundEvent), event
    return event


def rejected(incoming: IncomingRecord) -> Rejected:
    refused = decode(incoming, max_bytes=MAX_BYTES)
    assert isinstance(refused, Rejected), refused
    return refused


def reason(incoming: IncomingRecord) -> DeadLetterReason:
    return rejected(incoming).reason


class TestAccepted:
    def test_structured(self) -> None:
        event = accepted(structured(STRUCTURED))
        assert (event.type, event.source, event.id) == (EventType.JOB_COMPLETED, "/jobs", "evt-1")
        assert event.time == "2026-01-02T03:04:05Z"
        assert (event.org_id, event.subject) == ("org-1", "job-1")

    def test_binary(self) -> None:
        assert accepted(binary()) == accepted(structured())

    def test_without_any_header_it_is_structured(self) -> None:
        assert accepted(structured()) == accepted(structured(STRUCTURED))

    @pytest.mark.parametrize("name", ["content-type", "Content-Type", "CONTENT-TYPE"])
    @pytest.mark.parametrize(
        "media_type", [b"Application/CloudEvents+JSON", b" application/cloudevents+json ; charset=UTF-8"]
    )
    def test_the_structured_media_type_wins_over_the_binary_header(
        self, name: str, media_type: bytes
    ) -> None:
        headers = ((name, media_type), ("ce_specversion", b"0.3"), ("ce_type", b"org.created"))
        assert accepted(structured(*headers)).type is EventType.JOB_COMPLETED
        assert accepted(structured(*headers[::-1])).type is EventType.JOB_COMPLETED

    def test_any_other_media_type_leaves_the_binary_mode(self) -> None:
        assert accepted(binary(None, ("content-type", b"application/json"))).id == "evt-1"

    def test_other_ce_headers_alone_do_not_make_it_binary(self) -> None:
        assert accepted(structured(("ce_type", b"unheard.of"), ("ce_id", b"\xff"))).id == "evt-1"

    def test_unknown_attributes_are_ignored(self) -> None:
        assert accepted(structured(anything=[1], subject=None)).id == "evt-1"
        assert accepted(binary(None, ("ce_anything", b"x"), ("ce_other", None))).id == "evt-1"

    def test_names_may_have_512_characters(self) -> None:
        assert len(accepted(structured(id="é" * 512, source="😀" * 512)).id) == 512

    @pytest.mark.parametrize("incoming", [without("time"), structured(time=None), binary(ce_time=None)])
    def test_where_time_is_missing_the_records_timestamp_stands_in(self, incoming: IncomingRecord) -> None:
        assert accepted(incoming).time == "2023-11-14T22:13:20.000000Z"

    def test_time_is_kept_as_received(self) -> None:
        assert (
            accepted(structured(time="2026-01-02t03:04:05.10+02:00")).time == "2026-01-02t03:04:05.10+02:00"
        )

    def test_null_equals_absent_in_the_envelope(self) -> None:
        assert accepted(structured(data_base64=None, traceparent=None)).trace == Trace()

    def test_key_and_topic_decide_nothing(self) -> None:
        incoming = IncomingRecord("anything", 0, 0, 0, None, json.dumps(ENVELOPE).encode(), ())
        assert accepted(incoming) == accepted(structured())


class TestOrderOfChecks:
    """Each record breaks its own check and every later one."""

    def test_1_a_null_value_without_ce_headers_is_passed_over(self) -> None:
        assert decode(record(None), max_bytes=0) == PassedOver("null", None)
        assert decode(record(None, STRUCTURED), max_bytes=0) == PassedOver("null", None)
        assert decode(record(None, ("qm-reason", b"x")), max_bytes=0) == PassedOver("null", None)

    def test_2_size_comes_before_json(self) -> None:
        assert reason(record(b"{" * (MAX_BYTES + 1))) is DeadLetterReason.TOO_LARGE

    def test_2_size_comes_before_an_unknown_type(self) -> None:
        assert reason(binary(b"x" * (MAX_BYTES + 1), ce_type=b"unheard.of")) is DeadLetterReason.TOO_LARGE

    def test_2_the_limit_itself_is_allowed(self) -> None:
        text = json.dumps(ENVELOPE).encode()
        assert isinstance(decode(record(text), max_bytes=len(text)), InboundEvent)
        too_large = decode(record(text), max_bytes=len(text) - 1)
        assert isinstance(too_large, Rejected)
        assert too_large.error == f"the value has {len(text)} bytes, more than the {len(text) - 1} allowed"

    def test_4_json_comes_before_the_type_in_structured_mode(self) -> None:
        assert reason(record(b'{"type":"unheard.of",')) is DeadLetterReason.INVALID_JSON

    def test_4_json_comes_after_the_type_in_binary_mode(self) -> None:
        assert decode(binary(b"{", ce_type=b"unheard.of"), max_bytes=MAX_BYTES) == PassedOver(
            "unknown_type", "unheard.of"
        )

    def test_4_json_comes_before_the_envelope_in_binary_mode(self) -> None:
        assert reason(binary(b"{", ce_specversion=b"0.3", ce_id=b"\xff")) is DeadLetterReason.INVALID_JSON

    def test_5_an_unknown_type_is_passed_over_and_nothing_more_checked(self) -> None:
        incoming = record(b'{"type":"unheard.of","id":7,"data_base64":"AA==","data":[]}')
        assert decode(incoming, max_bytes=MAX_BYTES) == PassedOver("unknown_type", "unheard.of")

    def test_5_in_binary_mode_not_even_the_value_is_looked_at(self) -> None:
        for value in (None, b"\xff\x00"):
            incoming = record(value, ("ce_specversion", b"9"), ("ce_type", b"unheard.of"), ("ce_id", b"\xff"))
            assert decode(incoming, max_bytes=MAX_BYTES) == PassedOver("unknown_type", "unheard.of")

    @pytest.mark.parametrize("type_", ["credits.deducted", "org.provisioned", "JOB.COMPLETED", ""])
    def test_5_our_own_outcomes_are_unknown_types(self, type_: str) -> None:
        assert decode(structured(type=type_), max_bytes=MAX_BYTES) == PassedOver("unknown_type", type_)

    def test_6_the_envelope_comes_before_the_data(self) -> None:
        assert reason(structured(id=None, data={})) is DeadLetterReason.INVALID_ENVELOPE

    def test_7_data(self) -> None:
        assert reason(structured(data={})) is DeadLetterReason.INVALID_DATA
        assert reason(binary(b"{}")) is DeadLetterReason.INVALID_DATA


class TestInvalidEnvelope:
    @pytest.mark.parametrize(
        "incoming",
        [
            record(b"[]"),
            record(json.dumps([ENVELOPE]).encode(), ("content-type", b"application/cloudevents-batch+json")),
            record(b"null"),
            record(b'"text"'),
            record(b"1.5"),
            record(b"{}"),
            record(None, ("ce_specversion", b"1.0"), ("ce_type", b"job.completed")),
            record(None, ("ce_id", b"evt-1")),
            record(None, STRUCTURED, ("ce_id", b"evt-1")),
            without("specversion"),
            without("id"),
            without("source"),
            without("type"),
            without("data"),
            structured(specversion="0.3"),
            structured(specversion=1.0),
            structured(specversion=None),
            structured(type=None),
            structured(type=5),
            structured(type=["job.completed"]),
            structured(id=""),
            structured(id=5),
            structured(id="x" * 513),
            structured(source=""),
            structured(source={}),
            structured(source="x" * 513),
            structured(time="yesterday"),
            structured(time="2026-01-02 03:04:05Z"),
            structured(time="2026-02-30T03:04:05Z"),
            structured(time=""),
            structured(time=1700000000),
            structured(data=None),
            structured(data=[]),
            structured(data="{}"),
            structured(data_base64="AA=="),
            structured(data_base64=""),
            binary(ce_specversion=b"0.3"),
            binary(ce_specversion=None),
            binary(ce_type=None),
            binary(ce_id=None),
            binary(ce_id=b""),
            binary(ce_source=b"x" * 513),
            binary(ce_time=b"yesterday"),
            binary(b"[]"),
            binary(b"null"),
            binary(None, ("ce_id", b"evt-1")),
            binary(None, ("ce_type", b"job.completed")),
            binary(None, ("ce_specversion", b"1.0")),
            binary(None, ("ce_anything", b"a"), ("ce_anything", b"a")),
            binary(ce_id=b"a\x00b"),
            binary(ce_type=b"\xff"),
            binary(ce_type=b"unheard\x00of"),
            binary(ce_anything=b"\xc3"),
        ],
    )
    def test_refused(self, incoming: IncomingRecord) -> None:
        assert reason(incoming) is DeadLetterReason.INVALID_ENVELOPE

    def test_a_missing_type_comes_before_json_in_binary_mode(self) -> None:
        assert reason(binary(b"{", ce_type=None)) is DeadLetterReason.INVALID_ENVELOPE

    def test_says_what_and_where(self) -> None:
        assert rejected(structured(id=5)).error == "id: must be a string of 1 to 512 characters"
        assert rejected(binary(ce_id=b"\xff")).error == "header ce_id: not UTF-8"
        assert rejected(binary(None, ("ce_secret", b"\xff"))).error == "a ce_ header: not UTF-8"


class TestInvalidJson:
    @pytest.mark.parametrize(
        "value",
        [b"", b"text", b'{"a":1,"a":1}', b"\xff", b'{"a":"\\u0000"}', b'{"a":"\\ud800"}', b'{"a":NaN}'],
    )
    def test_refused_in_both_modes(self, value: bytes) -> None:
        assert reason(record(value)) is DeadLetterReason.INVALID_JSON
        assert reason(binary(value)) is DeadLetterReason.INVALID_JSON

    def test_a_duplicate_anywhere(self) -> None:
        text = json.dumps(ENVELOPE).replace('"status"', '"job_id": "job-1", "status"')
        assert reason(record(text.encode())) is DeadLetterReason.INVALID_JSON


class TestReadableAttributes:
    """What a dead letter's headers can say of the event."""

    def test_of_invalid_data(self) -> None:
        refused = rejected(structured(data={}))
        assert (refused.event_id, refused.event_source, refused.event_type) == (
            "evt-1",
            "/jobs",
            "job.completed",
        )

    def test_of_a_broken_envelope_what_is_not_broken(self) -> None:
        refused = rejected(structured(id="x" * 513, data=None))
        assert (refused.event_id, refused.event_source, refused.event_type) == (
            None,
            "/jobs",
            "job.completed",
        )

    def test_of_invalid_json_nothing_in_structured_mode(self) -> None:
        assert rejected(record(b"{")).event_id is None

    def test_of_invalid_json_the_headers_in_binary_mode(self) -> None:
        refused = rejected(binary(b"{", ce_source=b"\xff"))
        assert (refused.event_id, refused.event_source, refused.event_type) == (
            "evt-1",
            None,
            "job.completed",
        )


class TestTrace:
    def test_attributes_are_carried(self) -> None:
        trace = {"traceparent": "00-a-b-01", "tracestate": "x=1", "correlationid": "c-1"}
        assert accepted(structured(**trace)).trace == Trace("00-a-b-01", "x=1", "c-1")
        headers = {f"ce_{name}": value.encode() for name, value in trace.items()}
        assert accepted(binary(**headers)).trace == Trace("00-a-b-01", "x=1", "c-1")

    def test_plain_headers_are_carried(self) -> None:
        plain = (("Traceparent", b"00-a-b-01"), ("tracestate", b"x=1"), ("correlationid", b"c-1"))
        for incoming in (structured(*plain), binary(None, *plain)):
            assert accepted(incoming).trace == Trace("00-a-b-01", "x=1", None)

    def test_an_attribute_goes_before_a_plain_header_and_the_two_are_not_mixed(self) -> None:
        plain = (("traceparent", b"plain"), ("tracestate", b"plain"))
        assert accepted(structured(*plain, traceparent="attribute")).trace == Trace("attribute", None, None)

    @pytest.mark.parametrize("value", [5, "", "x" * 1025, ["a"], {}])
    def test_what_cannot_be_carried_is_ignored(self, value: Any) -> None:
        changes = dict.fromkeys(("traceparent", "tracestate", "correlationid"), value)
        assert accepted(structured(**changes)).trace == Trace()

    def test_a_plain_header_that_is_not_utf_8_is_ignored(self) -> None:
        assert accepted(structured(("traceparent", b"\xff"), ("tracestate", None))).trace == Trace()

    def test_a_plain_header_with_u_0000_is_ignored(self) -> None:
        # The outcome would be JSON that no strict reader takes.
        assert accepted(structured(("traceparent", b"a\x00b"), ("tracestate", b"\x00"))).trace == Trace()

    def test_1024_characters_are_carried(self) -> None:
        assert accepted(structured(correlationid="é" * 1024)).trace.correlationid == "é" * 1024


HEADER_NAMES = st.sampled_from(["content-type", *CE, "ce_x", "traceparent", "qm-reason"]) | st.text(
    max_size=5
)
HEADERS = st.lists(
    st.tuples(
        HEADER_NAMES,
        st.none() | st.binary(max_size=8) | st.sampled_from([STRUCTURED[1], *CE.values()]),
    ),
    max_size=7,
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(list(ENVELOPE.values())[:5]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*ENVELOPE, *JOB, "usage", "credits"]), inner, max_size=8)
    ),
    max_leaves=15,
)


@given(
    st.none() | st.binary(max_size=30) | JSON_VALUES.map(lambda value: json.dumps(value).encode()), HEADERS
)
def test_any_record_is_decided_on(value: bytes | None, headers: list[Header]) -> None:
    decision = decode(record(value, *headers), max_bytes=MAX_BYTES)
    if isinstance(decision, Rejected):
        assert 0 < len(decision.error) <= 500
    assert decode(record(value, *headers), max_bytes=MAX_BYTES) == decision


@given(
    st.sampled_from([*JOB, "usage", "user_id", "completed_at", "metadata"]),
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=4, max_size=300),
)
def test_no_error_repeats_the_payload(field: str, secret: str) -> None:
    for value in ([secret], {secret: secret}, f" {secret}", f"{secret}\n", secret * 300):
        decision = decode(structured(data={**JOB, field: value}), max_bytes=10_000_000)
        if isinstance(decision, Rejected):
            assert secret not in decision.error
            assert field in decision.error
