"""The events that are measured: the same on every machine, and what the documents say of them."""

import hashlib
from collections import Counter

from benchmarks.samples import identities, job_record, jobs, org_created, user_joined
from schemas.decode import IncomingRecord, decode
from schemas.event import InboundEvent


def test_they_are_always_the_same() -> None:
    digest = hashlib.sha256(b"".join(event.value for event in jobs(2_000))).hexdigest()
    assert digest.startswith("03afb04ccb632b22")


def test_one_of_twenty_is_delivered_twice_and_byte_for_byte() -> None:
    events = list(jobs(4_000))
    assert len(events) == 4_000
    assert len({event.number for event in events}) == identities(4_000) == 3_800
    assert len(set(events)) == 3_800


def test_from_another_number_on_they_are_other_events_like_them() -> None:
    before, after = list(jobs(20_000)), list(jobs(20_000, first=10**9))
    assert {event.number - 10**9 for event in after} == {event.number for event in before}
    assert [event.key for event in after] == [event.key for event in before]


def test_they_are_of_812_bytes_and_valid() -> None:
    assert len(job_record(7).value or b"") == 812
    for value in (job_record(7).value, org_created("acme", "ann"), user_joined("acme", "bob")):
        assert isinstance(
            decode(IncomingRecord("t", 0, 0, 0, None, value, ()), max_bytes=10_000), InboundEvent
        )


def test_the_first_organization_has_an_eighth() -> None:
    counts = Counter(event.key for event in jobs(20_000))
    (first, most), *_ = counts.most_common()
    assert first == b"org-0000"
    assert 0.12 < most / 20_000 < 0.15
    assert len(counts) > 900
