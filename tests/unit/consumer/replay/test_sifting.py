"""What a look settles, and what is left to the ingest."""

from typing import Any

from aiokafka.structs import TopicPartition

from consumer.ingest.records import Decoded
from consumer.replay.sifting import Known, sift
from schemas.dead_letters import DeadLetterReason, dead_letter_digest
from schemas.decode import IncomingRecord, PassedOver, Rejected
from schemas.event import NO_TRACE, InboundEvent, make_event
from schemas.events import EventType


def decoded(offset: int, meaning: Any) -> Decoded:
    record = IncomingRecord("t", 0, offset, 0, None, b"v%d" % offset, ())
    return Decoded(TopicPartition("t", 0), record, meaning)


def event(id_: str, status: str = "failed") -> InboundEvent:
    data: dict[str, object] = {"org_id": "acme", "job_id": id_, "status": status}
    return make_event(
        EventType.JOB_COMPLETED, "/p", id_, time="2026-03-01T00:00:00Z", data=data, trace=NO_TRACE
    )


def dead(*some: Decoded) -> set[Any]:
    return {dead_letter_digest("t", 0, one.record.offset, one.record.value) for one in some}


NEW, KNOWN, OTHER = event("new"), event("known"), event("known", "completed")
BAD = Rejected(DeadLetterReason.INVALID_JSON, "x", event_type="of.theirs")
FINGERPRINTS = {KNOWN.identity: KNOWN.fingerprint}


def test_what_is_new_contradicts_or_is_no_event_is_left() -> None:
    batch = [decoded(n, one) for n, one in enumerate([NEW, KNOWN, OTHER, BAD, PassedOver("null", None)])]
    sifted = sift(batch, Known(FINGERPRINTS))
    assert [one.meaning for one in sifted.rest] == [NEW, OTHER, BAD]
    assert sifted.tally.duplicate == {"job.completed": 1}
    assert sifted.tally.nulls == 1


def test_a_record_that_became_a_dead_letter_is_one_for_good() -> None:
    """Also where its event would be taken now: only `redrive` sends it through again."""
    batch = [decoded(n, one) for n, one in enumerate([NEW, OTHER, BAD])]
    sifted = sift(batch, Known(FINGERPRINTS, dead(*batch)))
    assert sifted.rest == []
    assert sifted.tally.invalid == {"job.completed": 2, "of.theirs": 1}


def test_a_known_event_is_a_duplicate_although_its_record_is_a_dead_letter() -> None:
    batch = [decoded(0, KNOWN)]
    sifted = sift(batch, Known(FINGERPRINTS, dead(*batch)))
    assert sifted.tally.duplicate == {"job.completed": 1}


def test_of_two_that_are_new_both_are_left_in_order() -> None:
    batch = [decoded(0, NEW), decoded(1, NEW)]
    assert sift(batch, Known()).rest == batch
