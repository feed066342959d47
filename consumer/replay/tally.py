"""What the records of a replay came to; kept with its place, so that an interruption counts nothing twice."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Self, cast

from consumer.harmless import escaped
from consumer.ingest.batch import Applied
from consumer.ingest.records import Decoded
from schemas.decode import PassedOver, Rejected
from schemas.event import InboundEvent
from schemas.json_codec import dump_json, parse_trusted_json

MOST_NAMES: Final = 50
"""Types that are counted by name: others may be without number."""
_LONGEST_NAME: Final = 100
OTHER: Final = "(other)"
UNREADABLE: Final = "(unreadable)"


@dataclass(slots=True)
class Tally:
    """Records by what they came to, each by its event's type.

    Attributes:
        new: Events that took effect.
        duplicate: Events whose identity was known, with the same data.
        conflict: Events whose identity was known, with other data.
        invalid: Records that are no valid events, and those that were dead letters before.
        unknown: Events of types that are not known.
        outcomes: Outcomes decided at once; what waits or needs LiteLLM has none yet.
        nulls: Records without a value.
        left_out: Records outside the times given, or of other organizations or ids than those asked for.
    """

    new: Counter[str] = field(default_factory=Counter)
    duplicate: Counter[str] = field(default_factory=Counter)
    conflict: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    nulls: int = 0
    left_out: int = 0

    def add(self, other: "Tally") -> None:
        """Count what another one counted, too."""
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, Counter):
                for name, count in theirs.items():
                    _count(mine, name, count)
            else:
                setattr(self, one.name, mine + theirs)

    def copy(self) -> "Tally":
        """Give one that counts on by itself."""
        twin = Tally()
        twin.add(self)
        return twin

    def passed_over(self, record: PassedOver) -> None:
        """Count a record that is neither an event of ours nor a bad one."""
        if record.type is None:
            self.nulls += 1
        else:
            _count(self.unknown, record.type, 1)

    def applied(self, applied: Applied) -> None:
        """Count what a batch came to."""
        self.new.update(_named(applied.accepted))
        self.duplicate.update(_named(applied.duplicates))
        self.conflict.update(_named(applied.conflicts))
        self.outcomes.update(_named(applied.outcomes))
        for name, count in applied.rejected.items():
            _count(self.invalid, name, count)

    def invalid_before(self, one: Decoded) -> None:
        """Count a record that was a dead letter before."""
        meaning = one.meaning
        type_ = meaning.type.value if isinstance(meaning, InboundEvent) else None
        if isinstance(meaning, Rejected):
            type_ = meaning.event_type
        _count(self.invalid, type_ or "", 1)

    def to_json(self) -> str:
        """Write it for the database."""
        return dump_json({one.name: getattr(self, one.name) for one in fields(self)}).decode()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        stored = cast("dict[str, Any]", parse_trusted_json(text.encode()))
        counted: dict[str, Any] = {
            one.name: Counter(stored[one.name])
            if isinstance(stored[one.name], dict)
            else int(stored[one.name])
            for one in fields(cls)
        }
        return cls(**counted)

    def document(self) -> dict[str, object]:
        """Give the JSON form: a number each, and beside them the types."""
        by_type: dict[str, dict[str, int]] = {}
        for what in ("new", "duplicate", "conflict", "invalid", "unknown"):
            for name, count in getattr(self, what).items():
                by_type.setdefault(name, {})[what] = count
        return {
            "new": self.new.total(),
            "duplicate": self.duplicate.total(),
            "conflict": self.conflict.total(),
            "invalid": self.invalid.total(),
            "unknown": self.unknown.total(),
            "null": self.nulls,
            "left_out": self.left_out,
            "types": by_type,
            "outcomes": dict(self.outcomes),
        }


def _named(counts: Mapping[Any, int]) -> dict[str, int]:
    return {str(name.value): count for name, count in counts.items()}


def _count(counts: Counter[str], name: str, count: int) -> None:
    shown = escaped(name[:_LONGEST_NAME]) or UNREADABLE
    if shown not in counts and len(counts) >= MOST_NAMES:
        shown = OTHER
    counts[shown] += count
