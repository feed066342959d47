"""What a replay is to read: topics, a window, and which events of it, as plain values checked beforehand."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final
from uuid import UUID

from schemas.decode import PassedOver, Rejected
from schemas.event import InboundEvent
from schemas.json_codec import dump_json
from schemas.timestamps import format_rfc3339, is_rfc3339, parse_rfc3339

Place = tuple[str, int]
"""A topic and one of its partitions."""

_OFFSET: Final = re.compile(r"([A-Za-z0-9._-]{1,249}):([0-9]{1,9})=([0-9]{1,18})", re.ASCII)
_HOW: Final = "give a time (2026-03-01T12:00:00Z) or an offset (TOPIC:PARTITION=OFFSET)"


class WrongSelection(Exception):  # noqa: N818 - says what is so
    """What was asked for contradicts itself; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of the window: a record time, or an offset for each partition named; neither: no bound."""

    time: datetime | None = None
    offsets: Mapping[Place, int] = field(default_factory=dict)

    @property
    def ms(self) -> int | None:
        """The time in milliseconds since 1970, as Kafka counts; the first millisecond not before it."""
        if self.time is None:
            return None
        whole, rest = divmod(_microseconds(self.time), 1000)
        return whole + (1 if rest else 0)


NO_BOUND: Final = Bound()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to read and which events of it to take.

    Attributes:
        topics: The topics.
        begin: From where on.
        end: Up to where, exclusive; no bound: what stands there now.
        orgs: Only events of these organizations; empty: of all.
        event_ids: Only events with these ids; empty: all.
        sources: Only events from these sources; empty: from all.
    """

    topics: tuple[str, ...]
    begin: Bound = NO_BOUND
    end: Bound = NO_BOUND
    orgs: frozenset[str] = frozenset()
    event_ids: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()

    @property
    def partitions(self) -> frozenset[Place] | None:
        """The partitions that an offset names: no other one is read. None: all of every topic."""
        named = self.begin.offsets.keys() | self.end.offsets.keys()
        return frozenset(named) or None

    @property
    def narrows(self) -> bool:
        """Whether some events of what is read are left out."""
        return bool(self.orgs or self.event_ids or self.sources)

    def takes(self, meaning: InboundEvent | PassedOver | Rejected) -> bool:
        """Whether this is one of the events asked for.

        A record that is no event has no organization: with `orgs` it is left out. By id and source it is
        found where they could be read.
        """
        if not self.narrows:
            return True
        if isinstance(meaning, InboundEvent):
            return (
                (not self.orgs or meaning.org_id in self.orgs)
                and (not self.event_ids or meaning.id in self.event_ids)
                and (not self.sources or meaning.source in self.sources)
            )
        if isinstance(meaning, PassedOver) or self.orgs:
            return False
        return (not self.event_ids or meaning.event_id in self.event_ids) and (
            not self.sources or meaning.event_source in self.sources
        )

    def digest(self, cluster: str) -> UUID:
        """Name this replay of a cluster: the same command has the same name, in whatever order it is put."""
        said = [
            cluster,
            sorted(self.topics),
            *(_said(bound) for bound in (self.begin, self.end)),
            *(sorted(some) for some in (self.orgs, self.event_ids, self.sources)),
        ]
        return UUID(bytes=sha256(dump_json(said)).digest()[:16])


def read_bound(option: str, given: Sequence[str]) -> Bound:
    """Read the values of `--from` or `--to`.

    Raises:
        WrongSelection: A value is neither a time nor an offset, or the values don't go together.
    """
    offsets: dict[Place, int] = {}
    times: list[datetime] = []
    for value in given:
        found = _OFFSET.fullmatch(value)
        if found is not None:
            topic, partition, offset = found.groups()
            place = (topic, int(partition))
            if place in offsets:
                raise WrongSelection(f"{option}: {topic}:{partition} is given twice")
            offsets[place] = int(offset)
        elif is_rfc3339(value):
            times.append(parse_rfc3339(value))
        else:
            raise WrongSelection(f"{option}: {value!r} is neither: {_HOW}")
    if times and offsets:
        raise WrongSelection(f"{option}: a time and offsets don't go together: {_HOW}")
    if len(times) > 1:
        raise WrongSelection(f"{option}: one time is enough")
    return Bound(times[0] if times else None, offsets)


def select(
    *,
    topics: Iterable[str],
    default_topics: Sequence[str],
    dead_letter_topic: str,
    begin: Bound,
    end: Bound,
    orgs: Iterable[str] = (),
    event_ids: Iterable[str] = (),
    sources: Iterable[str] = (),
) -> Selection:
    """Put a selection together.

    Args:
        topics: What was asked for; none: those that the offsets name, else `default_topics`.
        default_topics: The inbound topics.
        dead_letter_topic: Which can't be read as events.
        begin: From where on.
        end: Up to where.
        orgs: See `Selection`; likewise `event_ids` and `sources`.
        event_ids: See `orgs`.
        sources: See `orgs`.

    Raises:
        WrongSelection: The parts contradict one another.
    """
    named = {place[0] for bound in (begin, end) for place in bound.offsets}
    wanted = tuple(dict.fromkeys(topics)) or tuple(sorted(named)) or tuple(default_topics)
    if dead_letter_topic in wanted:
        raise WrongSelection(
            f"{dead_letter_topic} holds dead letters: "
            "`quartermaster dead-letters redrive` sends them through again"
        )
    if named and (strange := sorted(named - set(wanted))):
        raise WrongSelection(f"an offset names {strange[0]}, which no --topic does")
    if named and (left_out := [topic for topic in wanted if topic not in named]):
        raise WrongSelection(
            f"--topic {left_out[0]}: with offsets given, only the partitions they name are read, "
            "and none of this topic is named"
        )
    for place, first in begin.offsets.items():
        last = end.offsets.get(place)
        if last is not None and last <= first:
            raise WrongSelection(f"--to {place[0]}:{place[1]}={last} is not behind --from")
    if begin.time is not None and end.time is not None and end.time <= begin.time:
        raise WrongSelection("--to is not later than --from")
    return Selection(
        topics=wanted,
        begin=begin,
        end=end,
        orgs=frozenset(orgs),
        event_ids=frozenset(event_ids),
        sources=frozenset(sources),
    )


def _said(bound: Bound) -> object:
    if bound.time is not None:
        return format_rfc3339(bound.time)
    return sorted([topic, partition, offset] for (topic, partition), offset in bound.offsets.items())


def _microseconds(moment: datetime) -> int:
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1_000_000 + moment.microsecond
