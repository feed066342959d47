"""Nothing lost, nothing twice, and every bad record kept as it was: what came in against what went out."""

from collections.abc import Iterator

from tests.checker.history import Emitted, Policy, Published, Violation
from tests.checker.reading import (
    BY_COMMAND,
    OUTCOMES_OF,
    Identity,
    Outcome,
    Place,
    Reading,
    Received,
    header,
    outcome_id,
    place_of,
)

LOST = "1 (no event is lost)"
ONCE = "2 (effects happen once)"
REPEATS = "3 (outcomes, stable and in order)"
SECRETS = "7 (secrets stay secret)"
LETTERS = "8 (bad input is kept)"


def every_event_has_its_outcome(reading: Reading) -> Iterator[Violation]:
    for identity in reading.events:
        if identity not in reading.by_cause:
            one = reading.taken[identity]
            yield Violation(LOST, f"no outcome of {one.event.type} {identity}, received at {one.place}")


def nothing_is_left_undone(reading: Reading) -> Iterator[Violation]:
    history = reading.history
    if history.waiting:
        yield Violation(LOST, f"{history.waiting} events still wait")
    if history.outbox_pending:
        yield Violation(LOST, f"{history.outbox_pending} records are still to be published")


def no_event_has_two_outcomes(reading: Reading) -> Iterator[Violation]:
    for identity, outcomes in reading.by_cause.items():
        if identity not in reading.events:
            yield Violation(ONCE, f"{outcomes[0]} follows from an event that nobody published")
            continue
        rounds = [one.round for one in outcomes]
        if len(set(rounds)) < len(rounds):
            named = ", ".join(str(one) for one in outcomes)
            yield Violation(ONCE, f"{identity} has more than one outcome in a round: {named}")
        # Rounds may be decided in an order of their own only where nothing decided them twice.
        if sorted(rounds) != list(range(1, len(set(rounds)) + 1)) and len(set(rounds)) == len(rounds):
            yield Violation(ONCE, f"the rounds of {identity} are {rounds}")
        if max(rounds, default=1) > reading.policy.max_round:
            yield Violation(ONCE, f"{identity} has a round nobody asked for: {rounds}")


def outcomes_say_what_they_follow_from(reading: Reading) -> Iterator[Violation]:
    for outcome in reading.outcomes.values():
        identity = outcome.cause
        if identity is None:
            if not reading.policy.operated or outcome.type not in BY_COMMAND:
                yield Violation(REPEATS, f"{outcome} follows from nothing")
        elif identity in reading.taken:
            yield from _fits(outcome, identity, reading)


def _fits(outcome: Outcome, identity: Identity, reading: Reading) -> Iterator[Violation]:
    one = reading.taken[identity]
    if outcome.type not in OUTCOMES_OF[one.event.type]:
        yield Violation(ONCE, f"{outcome} is no outcome of a {one.event.type}")
    if outcome.id != outcome_id(identity, outcome.type, outcome.round):
        yield Violation(REPEATS, f"the id of {outcome} is not derived from its cause")
    said = {
        "specversion": "1.0",
        "source": reading.policy.source,
        "subject": one.event.org_id,
    }
    for name, wanted in said.items():
        if outcome.envelope.get(name) != wanted:
            found = outcome.envelope.get(name)
            yield Violation(REPEATS, f"{name} of {outcome} is {found!r} instead of {wanted!r}")
    if outcome.envelope.get("causationtime") not in reading.times(identity):
        found = outcome.envelope.get("causationtime")
        yield Violation(REPEATS, f"causationtime of {outcome} is {found!r}, no time of its cause")
    if outcome.org != one.event.org_id:
        yield Violation(REPEATS, f"{outcome} is about {outcome.org!r} instead of {one.event.org_id!r}")


def outcomes_stand_where_they_belong(reading: Reading) -> Iterator[Violation]:
    for record in reading.unreadable:
        where = f"{record.topic} {record.partition}:{record.offset}"
        yield Violation(REPEATS, f"what stands at {where} is neither an outcome nor a dead letter")
    places: dict[tuple[str, str], set[int]] = {}
    for outcome in reading.outcomes.values():
        is_credits = outcome.type.startswith("credits.")
        wanted = reading.policy.credits_topic if is_credits else reading.policy.provisioning_topic
        for record in outcome.records:
            if record.topic != wanted:
                yield Violation(REPEATS, f"{outcome} stands on {record.topic}")
            if record.key != outcome.org.encode():
                yield Violation(REPEATS, f"{outcome} bears another key than its organization")
            if ("content-type", b"application/cloudevents+json") not in record.headers:
                yield Violation(REPEATS, f"{outcome} does not say what it is")
            places.setdefault((record.topic, outcome.org), set()).add(record.partition)
    for (topic, org), partitions in places.items():
        if len(partitions) > 1:
            yield Violation(REPEATS, f"{topic} has {org!r} on partitions {sorted(partitions)}")


def repeats_are_identical(reading: Reading) -> Iterator[Violation]:
    for outcome in reading.outcomes.values():
        if len({(record.value, record.headers) for record in outcome.records}) > 1:
            yield Violation(REPEATS, f"repeats of {outcome} differ")
    for place, letters in reading.letters.items():
        if len({(letter.key, letter.value, letter.headers) for letter in letters}) > 1:
            yield Violation(LETTERS, f"repeats of the dead letter of {place} differ")


def conflicts_are_refused(reading: Reading) -> Iterator[Violation]:
    """Of several events under one identity exactly one is taken, and every record of the others refused."""
    for identity, received in reading.events.items():
        groups: dict[object, list[Received]] = {}
        for one in received:
            groups.setdefault(one.same, []).append(one)
        refused = {same: [reading.refused(one) for one in group] for same, group in groups.items()}
        if len(groups) == 1:
            if any(*refused.values()):
                yield Violation(LETTERS, f"{identity} was refused although its data is always the same")
            continue
        for same, answers in refused.items():
            if len(set(answers)) > 1:
                some = groups[same][0]
                yield Violation(ONCE, f"{identity} with the data of {some.place} was both taken and refused")
        taken = [same for same, answers in refused.items() if not any(answers)]
        if len(taken) != 1:
            yield Violation(ONCE, f"{len(taken)} of {len(groups)} events under {identity} were taken")
            continue
        # A partition is read in order: whatever was taken came first on one of them.
        first = {(one.record.topic, one.record.partition): one.same for one in reversed(received)}
        if taken[0] not in first.values():
            yield Violation(ONCE, f"of the events under {identity} a later one was taken")


def bad_records_are_dead_letters(reading: Reading) -> Iterator[Violation]:
    for place, (record, rejected) in reading.rejected.items():
        letters = reading.letters.get(place)
        if not letters:
            yield Violation(LOST, f"no dead letter of {place}, which is {rejected.reason}")
            continue
        if (reason := header(letters[0], "qm-reason")) != rejected.reason:
            yield Violation(LETTERS, f"the dead letter of {place} says {reason}, not {rejected.reason}")
        yield from _same_as_received(letters[0], record, reading.policy)
    valid = {one.place: one for received in reading.events.values() for one in received}
    for place, letters in reading.letters.items():
        reason = header(letters[0], "qm-reason")
        if place in reading.rejected:
            continue
        if place in valid and reason == "id_conflict":
            yield from _same_as_received(letters[0], valid[place].record, reading.policy)
        else:
            yield Violation(LETTERS, f"a dead letter ({reason}) of {_what_is_at(reading, place, valid)}")


def _what_is_at(reading: Reading, place: Place, valid: dict[Place, Received]) -> str:
    if place in valid:
        return f"a valid event at {place}"
    return f"a record to pass over at {place}" if place in reading.passed_over else f"nothing at {place}"


def _same_as_received(letter: Emitted, record: Published, policy: Policy) -> Iterator[Violation]:
    place = place_of(record)
    if letter.key != record.key:
        yield Violation(LETTERS, f"the dead letter of {place} bears another key")
    omitted = header(letter, "qm-value-omitted") == "true" and letter.value is None
    if letter.value != record.value and not (omitted and len(record.value or b"") > policy.max_event_bytes):
        yield Violation(LETTERS, f"the dead letter of {place} bears another value")
    kept = tuple(one for one in record.headers if not one[0].startswith("qm-"))
    if letter.headers[: len(kept)] != kept:
        yield Violation(LETTERS, f"the dead letter of {place} lost headers")
    if any(not name.startswith("qm-") for name, _ in letter.headers[len(kept) :]):
        yield Violation(LETTERS, f"the dead letter of {place} gained headers that are not ours")


def nothing_secret_is_emitted(reading: Reading) -> Iterator[Violation]:
    for record in reading.history.emitted:
        everything = b"\n".join([record.value or b"", *(value or b"" for _, value in record.headers)])
        if any(secret in everything for secret in reading.policy.secrets):
            where = f"{record.topic} {record.partition}:{record.offset}"
            yield Violation(SECRETS, f"a secret stands at {where}")
