"""Which stored events and outcomes are meant: the database's side of a selection."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import product
from uuid import UUID

from consumer.replay.selection import Bound, WrongSelection
from schemas.event import identity_digest
from schemas.json_codec import dump_json, parse_trusted_json
from schemas.timestamps import format_rfc3339

Name = tuple[str | None, str | None]
"""An event's source and id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSelection:
    """What was stored or decided in some time, of some organizations, for some events; empty: of all.

    Attributes:
        begin: From when on.
        end: Up to when, exclusive.
        orgs: Only of these organizations.
        event_ids: Only for events with these ids.
        sources: Only for events from these sources.
    """

    begin: datetime | None = None
    end: datetime | None = None
    orgs: frozenset[str] = frozenset()
    event_ids: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()

    @property
    def only_org(self) -> str | None:
        """The organization meant, where it is one; None: several, or all."""
        return next(iter(self.orgs)) if len(self.orgs) == 1 else None

    @property
    def identities(self) -> list[UUID] | None:
        """The identities meant, where ids and sources are given; None: they can't be told beforehand."""
        if not self.event_ids or not self.sources:
            return None
        return sorted(identity_digest(source, id_) for source, id_ in product(self.sources, self.event_ids))

    def digest(self, command: str) -> UUID:
        """Name this command: the same one has the same name."""
        said = [
            command,
            *(None if moment is None else format_rfc3339(moment) for moment in (self.begin, self.end)),
            *(sorted(some) for some in (self.orgs, self.event_ids, self.sources)),
        ]
        return UUID(bytes=sha256(dump_json(said)).digest()[:16])

    def takes(self, org_id: str, name: Callable[[], Name]) -> bool:
        """Whether this is one of the events asked for, as far as the database has not told by itself.

        Args:
            org_id: Its organization.
            name: Gives its source and id; asked only where they decide.
        """
        if self.orgs and org_id not in self.orgs:
            return False
        if not (self.event_ids or self.sources):
            return True
        source, id_ = name()
        return (not self.event_ids or id_ in self.event_ids) and (not self.sources or source in self.sources)


def select_stored(
    *,
    begin: Bound,
    end: Bound,
    orgs: Collection[str],
    event_ids: Collection[str],
    sources: Collection[str],
) -> StoredSelection:
    """Put a selection of what is stored together.

    Raises:
        WrongSelection: An offset is given, or the end is not later than the beginning.
    """
    if begin.offsets or end.offsets:
        raise WrongSelection("offsets are of topics, and no topic is read: give --from and --to as times")
    if begin.time is not None and end.time is not None and end.time <= begin.time:
        raise WrongSelection("--to is not later than --from")
    return StoredSelection(
        begin=begin.time,
        end=end.time,
        orgs=frozenset(orgs),
        event_ids=frozenset(event_ids),
        sources=frozenset(sources),
    )


def name_of(value: bytes, source: str, id_: str) -> Name:
    """Read an event's source and id from its stored JSON, where they stand under these names."""
    envelope = parse_trusted_json(value)
    assert isinstance(envelope, dict)
    return envelope.get(source), envelope.get(id_)
