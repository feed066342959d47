"""A history read once for all checks: what was received under each identity, and what came out for it.

What a record is, `schemas.decode` says. All else is written down anew from the contract, as a second witness:
what "the same data" means, how an outcome's id is derived, which of two events under one id was taken.
"""

import json
import uuid
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from schemas.decode import IncomingRecord, PassedOver, Rejected, decode
from schemas.event import InboundEvent
from tests.checker.history import Emitted, History, Policy, Published

Place = tuple[str, int, int]
"""Topic, partition, offset."""

Identity = tuple[str, str]
"""Source and id."""

OUTCOMES_OF = {
    "org.created": ("org.provisioned", "org.provisioning_failed"),
    "user.joined": ("user.provisioned", "user.provisioning_failed"),
    "job.completed": ("credits.deducted", "credits.deduction_skipped", "credits.deduction_failed"),
}
BY_COMMAND = ("credits.granted", "credits.adjusted")


@dataclass(frozen=True, slots=True)
class Received:
    """A valid event at one place; `data` as it was sent, `same` equal for what counts as the same data."""

    record: Published
    event: InboundEvent
    data: Mapping[str, Any]
    same: Hashable

    @property
    def place(self) -> Place:
        return place_of(self.record)

    @property
    def identity(self) -> Identity:
        return self.event.source, self.event.id


@dataclass(frozen=True, slots=True)
class Outcome:
    """An outcome at its first appearance, and every record that bears its id."""

    envelope: Mapping[str, Any]
    data: Mapping[str, Any]
    records: list[Emitted]

    @property
    def id(self) -> str:
        return str(self.envelope.get("id"))

    @property
    def type(self) -> str:
        return str(self.envelope.get("type"))

    @property
    def round(self) -> Any:
        return self.envelope.get("round")

    @property
    def org(self) -> str:
        return str(self.data.get("org_id"))

    @property
    def cause(self) -> Identity | None:
        """The inbound event's identity; None for an operator's command."""
        if "causationid" not in self.envelope:
            return None
        return str(self.envelope.get("causationsource")), str(self.envelope["causationid"])

    def __str__(self) -> str:
        return f"{self.type} {self.id} of {self.cause}"


@dataclass(slots=True)
class Reading:
    """The history, sorted out. `outcomes` stand in the order of their first appearance on each partition."""

    history: History
    policy: Policy
    events: dict[Identity, list[Received]] = field(default_factory=dict)
    taken: dict[Identity, Received] = field(default_factory=dict)
    rejected: dict[Place, tuple[Published, Rejected]] = field(default_factory=dict)
    passed_over: dict[Place, Published] = field(default_factory=dict)
    letters: dict[Place, list[Emitted]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    unreadable: list[Emitted] = field(default_factory=list)
    by_cause: dict[Identity, list[Outcome]] = field(default_factory=dict)
    by_org: dict[str, dict[str, list[Outcome]]] = field(default_factory=dict)

    def of_org(self, topic: str) -> dict[str, list[Outcome]]:
        """The outcomes of each organization on a topic, in the order of their first appearance."""
        return self.by_org.get(topic, {})

    def times(self, identity: Identity) -> set[str]:
        """The times of an event: where it bears none, each of its records has one of its own."""
        taken = self.taken[identity]
        return {one.event.time for one in self.events[identity] if one.same == taken.same}

    def refused(self, one: Received) -> bool:
        """Whether this event stands on the dead-letter topic, its id being another event's."""
        return any(header(letter, "qm-reason") == "id_conflict" for letter in self.letters.get(one.place, ()))


def read(history: History, policy: Policy) -> Reading:
    reading = Reading(history, policy)
    for record in _in_order(history.published):
        _receive(reading, record)
    for letter_or_outcome in _in_order(history.emitted):
        if letter_or_outcome.topic == policy.dead_letter_topic:
            _take_letter(reading, letter_or_outcome)
        else:
            _take_outcome(reading, letter_or_outcome)
    for identity, received in reading.events.items():
        # Records of an event that was refused for its id are all dead letters; what is none was taken.
        reading.taken[identity] = next((one for one in received if not reading.refused(one)), received[0])
    return reading


def place_of(record: Published) -> Place:
    return record.topic, record.partition, record.offset


def outcome_id(identity: Identity, type_: str, round_: object) -> str:
    """The UUIDv5, in the URL name space, of the compact JSON array `[source, id, outcome type, round]`."""
    name = json.dumps([*identity, type_, round_], ensure_ascii=False, separators=(",", ":"))
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def header(record: Emitted | Published, name: str) -> str | None:
    """The last header of this name, as text; None where there is none."""
    values = [value for one, value in record.headers if one == name]
    return values[-1].decode(errors="replace") if values and values[-1] is not None else None


def text_of(value: Any) -> str:
    """JSON with every number digit for digit."""
    return json.dumps(value, default=lambda number: f"number {number}", ensure_ascii=False, sort_keys=True)


def load(value: bytes) -> Any:
    """JSON with exact numbers."""
    return json.loads(value, parse_float=Decimal, parse_int=Decimal)


def _in_order(records: Iterable[Any]) -> Iterator[Any]:
    yield from sorted(records, key=lambda record: (record.topic, record.partition, record.offset))


def _receive(reading: Reading, record: Published) -> None:
    incoming = IncomingRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp_ms,
        record.key,
        record.value,
        record.headers,
    )
    match decode(incoming, max_bytes=reading.policy.max_event_bytes):
        case PassedOver():
            reading.passed_over[place_of(record)] = record
        case Rejected() as rejected:
            reading.rejected[place_of(record)] = record, rejected
        case InboundEvent() as event:
            data = load(event.stored)["data"]
            received = Received(record, event, data, (str(event.type), _same(data)))
            reading.events.setdefault((event.source, event.id), []).append(received)


def _same(value: Any) -> Hashable:
    """Equal where the data is the same: member order and a number's spelling don't count."""
    match value:
        case dict():
            return ("object", frozenset((name, _same(member)) for name, member in value.items()))
        case list():
            return ("list", tuple(_same(item) for item in value))
        case Decimal():
            return ("number", value)
        case _:
            return (type(value).__name__, value)


def _take_letter(reading: Reading, letter: Emitted) -> None:
    topic, partition, offset = (
        header(letter, f"qm-original-{part}") for part in ("topic", "partition", "offset")
    )
    if topic is None or not _is_number(partition) or not _is_number(offset):
        reading.unreadable.append(letter)
        return
    reading.letters.setdefault((topic, int(str(partition)), int(str(offset))), []).append(letter)


def _is_number(text: str | None) -> bool:
    return text is not None and text.isdecimal()


def _take_outcome(reading: Reading, record: Emitted) -> None:
    try:
        envelope = json.loads(record.value or b"", parse_float=Decimal)
        data = envelope["data"]
        id_ = str(envelope["id"])
        org = data["org_id"]
    except (ValueError, KeyError, TypeError):
        org = None
    if not isinstance(org, str):
        reading.unreadable.append(record)
        return
    known = reading.outcomes.get(id_)
    if known is not None:
        known.records.append(record)
        return
    outcome = reading.outcomes[id_] = Outcome(envelope, data, [record])
    reading.by_org.setdefault(record.topic, {}).setdefault(outcome.org, []).append(outcome)
    if outcome.cause is not None:
        reading.by_cause.setdefault(outcome.cause, []).append(outcome)
