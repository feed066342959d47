from collections import Counter

from consumer.ingest.batch import Applied
from consumer.ingest.records import Decoded
from consumer.replay.tally import MOST_NAMES, OTHER, UNREADABLE, Tally
from schemas.dead_letters import DeadLetterReason
from schemas.decode import PassedOver
from schemas.events import EventType
from schemas.outcomes import OutcomeType


def filled() -> Tally:
    tally = Tally(nulls=2, left_out=3)
    tally.applied(
        Applied(
            accepted=Counter({EventType.JOB_COMPLETED: 4}),
            duplicates=Counter({EventType.ORG_CREATED: 1}),
            conflicts=Counter({EventType.USER_JOINED: 2}),
            outcomes=Counter({OutcomeType.CREDITS_DEDUCTED: 4}),
            dead_letters=Counter({DeadLetterReason.ID_CONFLICT: 2, DeadLetterReason.INVALID_JSON: 5}),
            rejected=Counter({"": 5}),
        )
    )
    tally.passed_over(PassedOver("unknown_type", "of.others"))
    tally.passed_over(PassedOver("null", None))
    return tally


def test_the_document_gives_a_number_each_and_the_types_beside_them() -> None:
    assert filled().document() == {
        "new": 4,
        "duplicate": 1,
        "conflict": 2,
        "invalid": 5,
        "unknown": 1,
        "null": 3,
        "left_out": 3,
        "types": {
            "job.completed": {"new": 4},
            "org.created": {"duplicate": 1},
            "user.joined": {"conflict": 2},
            UNREADABLE: {"invalid": 5},
            "of.others": {"unknown": 1},
        },
        "outcomes": {"credits.deducted": 4},
    }


def test_it_survives_the_database() -> None:
    assert Tally.from_json(filled().to_json()) == filled()
    assert Tally.from_json(Tally().to_json()) == Tally()


def test_a_copy_counts_on_by_itself() -> None:
    one = filled()
    other = one.copy()
    other.add(filled())
    assert other.document()["new"] == 8
    assert other.nulls == 6
    assert one == filled()


def test_types_without_number_are_counted_together_and_steer_no_terminal() -> None:
    tally = Tally()
    for number in range(2 * MOST_NAMES):
        tally.passed_over(PassedOver("unknown_type", f"\x1b[2J{number}"))
    assert len(tally.unknown) == MOST_NAMES + 1
    assert tally.unknown[OTHER] == MOST_NAMES
    assert tally.unknown.total() == 2 * MOST_NAMES
    assert all(name.isprintable() for name in tally.unknown)


def test_a_dead_letter_of_before_counts_as_invalid_under_its_type() -> None:
    tally = Tally()
    unread: Decoded = Decoded(None, None, PassedOver("null", None))  # type: ignore[arg-type]
    tally.invalid_before(unread)
    assert tally.invalid == {UNREADABLE: 1}
