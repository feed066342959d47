from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.replay.selection import NO_BOUND, Bound, Selection, WrongSelection, read_bound, select
from schemas.dead_letters import DeadLetterReason
from schemas.decode import PassedOver, Rejected
from schemas.event import NO_TRACE, make_event
from schemas.events import EventType

MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def chosen(**more: Any) -> Selection:
    given: dict[str, Any] = {
        "topics": (),
        "default_topics": ("org.created", "job.completed"),
        "dead_letter_topic": "dead",
        "begin": NO_BOUND,
        "end": NO_BOUND,
        **more,
    }
    return select(**given)


def event(org_id: str, id_: str, source: str = "/p") -> Any:
    data: dict[str, object] = {"org_id": org_id, "job_id": "j", "status": "failed"}
    return make_event(
        EventType.JOB_COMPLETED, source, id_, time="2026-03-01T00:00:00Z", data=data, trace=NO_TRACE
    )


@pytest.mark.parametrize(
    ("given_", "bound"),
    [
        ([], NO_BOUND),
        (["2026-03-01T00:00:00Z"], Bound(MARCH)),
        (["2026-03-01T01:00:00+01:00"], Bound(MARCH)),
        (["a:0=5", "b.c_d-e:12=0"], Bound(offsets={("a", 0): 5, ("b.c_d-e", 12): 0})),
    ],
)
def test_a_bound_is_a_time_or_offsets(given_: list[str], bound: Bound) -> None:
    assert read_bound("--from", given_) == bound


@pytest.mark.parametrize(
    ("given_", "what"),
    [
        (["yesterday"], "'yesterday'"),
        (["2026-02-30T00:00:00Z"], "2026-02-30"),
        (["a:0"], "'a:0'"),
        (["a:0=-1"], "a:0=-1"),
        (["a:0=1", "a:0=2"], "a:0 is given twice"),
        (["2026-03-01T00:00:00Z", "a:0=1"], "don't go together"),
        (["2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"], "one time"),
    ],
)
def test_a_wrong_bound_is_named_with_its_option(given_: list[str], what: str) -> None:
    with pytest.raises(WrongSelection, match=what) as raised:
        read_bound("--to", given_)
    assert str(raised.value).startswith("--to: ")


@pytest.mark.parametrize(("micros", "ms"), [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2)])
def test_a_time_between_two_milliseconds_counts_as_the_later(micros: int, ms: int) -> None:
    """A record at the earlier one lies before the time given."""
    assert Bound(MARCH + timedelta(microseconds=micros)).ms == int(MARCH.timestamp()) * 1000 + ms


def test_topics_are_those_named_or_those_of_the_offsets_or_all() -> None:
    assert chosen().topics == ("org.created", "job.completed")
    assert chosen(topics=["x", "y", "x"]).topics == ("x", "y")
    assert chosen(begin=Bound(offsets={("b", 1): 0}), end=Bound(offsets={("a", 0): 9})).topics == ("a", "b")


def test_offsets_name_the_partitions_that_are_read() -> None:
    assert chosen().partitions is None
    both = chosen(begin=Bound(offsets={("a", 0): 5}), end=Bound(offsets={("a", 0): 6, ("a", 3): 1}))
    assert both.partitions == {("a", 0), ("a", 3)}


@pytest.mark.parametrize(
    ("given_", "what"),
    [
        ({"topics": ["dead"]}, "redrive"),
        ({"topics": ["a"], "begin": Bound(offsets={("b", 0): 1})}, "b, which no --topic does"),
        ({"topics": ["a", "b"], "begin": Bound(offsets={("b", 0): 1})}, "--topic a"),
        ({"begin": Bound(offsets={("b", 0): 5}), "end": Bound(offsets={("b", 0): 5})}, "not behind --from"),
        ({"begin": Bound(MARCH), "end": Bound(MARCH)}, "not later"),
    ],
)
def test_what_contradicts_itself_is_refused(given_: dict[str, Any], what: str) -> None:
    with pytest.raises(WrongSelection, match=what):
        chosen(**given_)


def test_events_are_taken_by_organization_id_and_source() -> None:
    by_org = chosen(orgs=["acme"])
    assert by_org.takes(event("acme", "1"))
    assert not by_org.takes(event("other", "1"))
    by_name = chosen(event_ids=["1", "2"], sources=["/p"])
    assert by_name.takes(event("acme", "2"))
    assert not by_name.takes(event("acme", "2", source="/q"))
    assert not by_name.takes(event("acme", "3"))


def test_what_is_no_event_is_taken_where_its_name_could_be_read() -> None:
    bad = Rejected(DeadLetterReason.INVALID_DATA, "x", event_id="1", event_source="/p")
    assert chosen().takes(bad)
    assert chosen(event_ids=["1"]).takes(bad)
    assert not chosen(event_ids=["2"]).takes(bad)
    assert not chosen(orgs=["acme"]).takes(bad)
    assert chosen().takes(PassedOver("unknown_type", "x"))
    assert not chosen(event_ids=["1"]).takes(PassedOver("unknown_type", "x"))


@given(st.permutations(["a", "b", "c"]), st.permutations(["x", "y"]))
def test_the_same_command_has_the_same_name_in_any_order(topics: list[str], orgs: list[str]) -> None:
    usual = chosen(topics=["a", "b", "c"], orgs=["x", "y"])
    assert chosen(topics=topics, orgs=orgs).digest("k:9092") == usual.digest("k:9092")


def test_another_command_or_cluster_has_another_name() -> None:
    digests = [
        chosen().digest("k"),
        chosen().digest("l"),
        chosen(topics=["a"]).digest("k"),
        chosen(orgs=["a"]).digest("k"),
        chosen(event_ids=["a"]).digest("k"),
        chosen(sources=["a"]).digest("k"),
        chosen(begin=Bound(MARCH)).digest("k"),
        chosen(end=Bound(MARCH)).digest("k"),
        chosen(topics=["a"], begin=Bound(offsets={("a", 0): 1})).digest("k"),
        chosen(topics=["a"], begin=Bound(offsets={("a", 0): 2})).digest("k"),
        chosen(topics=["a"], end=Bound(offsets={("a", 0): 2})).digest("k"),
    ]
    assert len(set(digests)) == len(digests)
