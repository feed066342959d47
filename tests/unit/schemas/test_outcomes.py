import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.event import NO_TRACE, Trace, identity_digest, make_event
from schemas.events import EventType
from schemas.json_codec import parse_json
from schemas.outcome_data import OUTCOME_DATA, CreditsDeducted, OutcomeEnvelope
from schemas.outcomes import (
    OUTCOME_CONTENT_TYPE,
    Cause,
    EncodedOutcome,
    Origin,
    OutcomeType,
    Stream,
    cause_of,
    encode_outcome,
    job_facts,
    operator_cause,
    outcome_id,
    stream_of,
)
from schemas.transactions import charge_id

AT = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CAUSE = Cause(
    identity_digest("/jobs", "evt-1"),
    "/jobs",
    "evt-1",
    "2026-01-02T03:04:05+02:00",
    Trace("00-a-b-01", "x=1", "c-1"),
)


def encode(data: Mapping[str, object] | None = None, **changes: Any) -> EncodedOutcome:
    values: dict[str, Any] = {
        "org_id": "org-1",
        "cause": CAUSE,
        "decided_at": AT,
        "origin": Origin.LIVE,
        "round": 1,
        "our_source": "/quartermaster",
    }
    return encode_outcome(OutcomeType.CREDITS_DEDUCTED, data or {"org_id": "org-1"}, **values | changes)


def job(**changes: Any) -> dict[str, object]:
    data: dict[str, object] = {"org_id": "org-1", "job_id": "job-1", "status": "completed", **changes}
    event = make_event(EventType.JOB_COMPLETED, "/jobs", "1", time="received", data=data, trace=NO_TRACE)
    return job_facts(event, AT)


def test_the_record_is_a_cloudevent_in_structured_mode() -> None:
    assert OUTCOME_CONTENT_TYPE == ("content-type", b"application/cloudevents+json")
    assert json.loads(encode().value) == {
        "specversion": "1.0",
        "id": str(outcome_id("/jobs", "evt-1", OutcomeType.CREDITS_DEDUCTED, 1)),
        "source": "/quartermaster",
        "type": "credits.deducted",
        "subject": "org-1",
        "time": "2026-01-02T03:04:05.678900Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:quartermaster:schema:v1:credits.deducted",
        "causationid": "evt-1",
        "causationsource": "/jobs",
        "causationtime": "2026-01-02T03:04:05+02:00",
        "origin": "live",
        "round": 1,
        "traceparent": "00-a-b-01",
        "tracestate": "x=1",
        "correlationid": "c-1",
        "data": {"org_id": "org-1"},
    }


def test_says_what_the_database_needs_to_know() -> None:
    outcome = encode(job_key=charge_id("org-1", "job-1"), round=2)
    assert outcome.id == outcome_id("/jobs", "evt-1", OutcomeType.CREDITS_DEDUCTED, 2)
    assert outcome.cause_identity == identity_digest("/jobs", "evt-1")
    assert (outcome.type, outcome.stream) == (OutcomeType.CREDITS_DEDUCTED, Stream.CREDITS)
    assert (outcome.org_id, outcome.round, outcome.decided_at) == ("org-1", 2, AT)
    assert outcome.job_key == charge_id("org-1", "job-1")


@given(
    TEXT, st.sampled_from(Origin), st.integers(1, 9), st.dictionaries(TEXT, TEXT | st.integers() | st.none())
)
def test_a_repeat_is_byte_identical(
    org_id: str, origin: Origin, round_: int, data: dict[str, object]
) -> None:
    once, again = (encode(dict(data), org_id=org_id, origin=origin, round=round_) for _ in range(2))
    assert once == again


@given(TEXT, TEXT, st.sampled_from(OutcomeType), st.integers(1, 1000))
@example('quote" \\ / \n \x1f \x7f', "é 😀 \u2028", OutcomeType.ORG_PROVISIONED, 1)
def test_the_id_is_the_uuid_of_the_compact_array(
    source: str, id_: str, type_: OutcomeType, round_: int
) -> None:
    name = json.dumps([source, id_, type_.value, round_], ensure_ascii=False, separators=(",", ":"))
    assert outcome_id(source, id_, type_, round_) == uuid5(NAMESPACE_URL, name)


def test_the_id_stays_what_it_is_for_good() -> None:
    name = '["/jobs","evt-1","credits.deducted",1]'
    assert outcome_id("/jobs", "evt-1", OutcomeType.CREDITS_DEDUCTED, 1) == uuid5(NAMESPACE_URL, name)
    assert outcome_id("/jobs", "evt-1", OutcomeType.CREDITS_DEDUCTED, 1) == UUID(
        "ae40975d-af60-5b89-9137-3bfa8f5e5760"
    )


def test_an_operators_command_is_not_named_as_the_cause() -> None:
    outcome = encode(cause=operator_cause("/quartermaster", "cmd-1"), origin=Origin.OPERATOR)
    envelope = json.loads(outcome.value)
    assert not [name for name in envelope if name.startswith(("causation", "trace", "correlation"))]
    assert envelope["origin"] == "operator"
    assert outcome.id == outcome_id("/quartermaster", "cmd-1", OutcomeType.CREDITS_DEDUCTED, 1)
    assert outcome.cause_identity == identity_digest("/quartermaster", "cmd-1")


def test_an_events_cause() -> None:
    trace = Trace(correlationid="c")
    data: dict[str, object] = {"org_id": "o", "user_id": "u"}
    event = make_event(EventType.USER_JOINED, "/s", "1", time="t", data=data, trace=trace)
    assert cause_of(event) == Cause(event.identity, "/s", "1", "t", trace)


@pytest.mark.parametrize("type_", list(OutcomeType))
def test_every_outcome_has_its_topic(type_: OutcomeType) -> None:
    assert stream_of(type_) is (Stream.CREDITS if type_.startswith("credits") else Stream.PROVISIONING)


class TestJobFacts:
    def test_only_what_was_received(self) -> None:
        assert job(user_id=None, usage=None, error_message="x", metadata={"a": 1}) == {
            "org_id": "org-1",
            "account_id": "org-1",
            "job_id": "job-1",
            "status": "completed",
            "occurred_at": "received",
            "decided_at": "2026-01-02T03:04:05.678900Z",
        }

    def test_all_that_can_be_received(self) -> None:
        facts = job(
            user_id="u", job_type="t", started_at="2026-01-01T00:00:00Z", completed_at="2026-01-01T00:00:01Z"
        )
        assert facts["user_id"] == "u"
        assert facts["job_type"] == "t"
        assert facts["started_at"] == "2026-01-01T00:00:00Z"
        assert facts["completed_at"] == facts["occurred_at"] == "2026-01-01T00:00:01Z"

    def test_usage_is_written_digit_for_digit(self) -> None:
        received = (
            b'{"total_calls":3,"failed_calls":null,"total_cost_usd":1.50,"avg_latency_ms":812.50,"other":1}'
        )
        value = encode(job(usage=parse_json(received))).value
        assert b'"usage":{"total_calls":3,"total_cost_usd":"1.50","avg_latency_ms":812.50}' in value

    def test_an_amount_keeps_its_spelling(self) -> None:
        assert job(usage={"total_cost_usd": "007.50"})["usage"] == {"total_cost_usd": "007.50"}

    def test_agree_with_the_shape_of_the_outcome(self) -> None:
        usage = parse_json(b'{"total_calls":3,"total_cost_usd":1.50,"avg_latency_ms":812}')
        charged = {
            **job(usage=usage, completed_at="2026-01-01T00:00:01Z"),
            "transaction_id": charge_id("org-1", "job-1"),
            "credits": 1,
            "balance_before": 10,
            "balance_after": 9,
            "sequence": 1,
        }
        envelope = json.loads(encode(charged).value)
        assert CreditsDeducted.model_validate_json(json.dumps(envelope["data"])).balance_after == 9
        assert OutcomeEnvelope.model_validate_json(json.dumps(envelope)).round == 1


def test_every_outcome_has_a_shape() -> None:
    assert list(OUTCOME_DATA) == list(OutcomeType)
