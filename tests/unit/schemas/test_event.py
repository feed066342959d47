import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import NO_TRACE, Trace, from_stored, identity_digest, make_event
from schemas.events import EventType, InvalidData, OrgCreated
from schemas.json_codec import parse_json

MINIMAL: dict[EventType, dict[str, Any]] = {
    EventType.ORG_CREATED: {"org_id": "org-1", "name": "Acme", "owner_user_id": "user-1"},
    EventType.USER_JOINED: {"org_id": "org-1", "user_id": "user-1"},
    EventType.JOB_COMPLETED: {"org_id": "org-1", "job_id": "job-1", "status": "completed"},
}
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
)


@pytest.mark.parametrize(
    ("type_", "subject"),
    [(EventType.ORG_CREATED, ""), (EventType.USER_JOINED, "user-1"), (EventType.JOB_COMPLETED, "job-1")],
)
def test_subject(type_: EventType, subject: str) -> None:
    event = make_event(type_, "/s", "1", time="2026-01-02T03:04:05Z", data=MINIMAL[type_], trace=NO_TRACE)
    assert (event.org_id, event.subject) == ("org-1", subject)


def test_the_identity_stays_what_it_is_for_good() -> None:
    assert identity_digest("/jobs", "evt-1") == UUID("64c03368-485a-aeb3-cf61-166bdd9a105c")


@given(
    st.tuples(st.text(max_size=4), st.text(max_size=4)), st.tuples(st.text(max_size=4), st.text(max_size=4))
)
def test_two_identities_are_one_exactly_where_both_strings_are(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert (identity_digest(*one) == identity_digest(*other)) is (one == other)


def test_where_source_ends_and_id_begins_counts() -> None:
    assert identity_digest("a", "bc") != identity_digest("ab", "c")
    assert identity_digest("é", "x") != identity_digest("e\u0301", "x")


@given(
    st.sampled_from(list(EventType)),
    st.dictionaries(st.sampled_from(["x", "y", "ü"]), SCALARS | st.lists(SCALARS, max_size=3), max_size=3),
    st.builds(
        Trace, *[st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)] * 3
    ),
)
def test_an_event_comes_back_from_what_is_stored(
    type_: EventType, more: dict[str, Any], trace: Trace
) -> None:
    event = make_event(
        type_, "/söurce", "id-1", time="2026-01-02T03:04:05Z", data=MINIMAL[type_] | more, trace=trace
    )
    assert from_stored(event.stored) == event


def test_the_third_state_of_the_budget_is_stored() -> None:
    for budget in ({}, {"max_budget_usd": None}, {"max_budget_usd": parse_json(b"25.00")}):
        data = MINIMAL[EventType.ORG_CREATED] | budget
        event = make_event(EventType.ORG_CREATED, "/s", "1", time="t", data=data, trace=NO_TRACE)
        again = from_stored(event.stored).data
        assert isinstance(again, OrgCreated)
        assert again.budget_given is bool(budget)
        assert again == event.data


def test_data_nested_to_the_limit_can_be_stored() -> None:
    deep: Any = 1
    for _ in range(62):
        deep = [deep]
    data = MINIMAL[EventType.JOB_COMPLETED] | {"metadata": {"deep": deep}}
    event = make_event(EventType.JOB_COMPLETED, "/s", "1", time="t", data=data, trace=NO_TRACE)
    assert from_stored(event.stored) == event


def test_what_is_stored_is_compact_json() -> None:
    data = MINIMAL[EventType.USER_JOINED]
    event = make_event(EventType.USER_JOINED, "/s", "1", time="t", data=data, trace=NO_TRACE)
    assert json.loads(event.stored) == {
        "type": "user.joined",
        "source": "/s",
        "id": "1",
        "time": "t",
        "data": data,
    }
    assert b" " not in event.stored


def test_what_is_stored_and_no_longer_allowed_says_so() -> None:
    with pytest.raises(InvalidData, match=r"data\.user_id: is required"):
        from_stored(b'{"type":"user.joined","source":"/s","id":"1","time":"t","data":{"org_id":"o"}}')


def test_the_payload_does_not_show_twice_in_a_repr() -> None:
    data = MINIMAL[EventType.USER_JOINED]
    event = make_event(EventType.USER_JOINED, "/s", "1", time="t", data=data, trace=NO_TRACE)
    assert "stored" not in repr(event)
