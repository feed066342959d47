"""The mark that our teams bear in LiteLLM's metadata, by which they are known after a database was lost.

Only the mark is ours there: LiteLLM's own metadata steers logging and guardrails.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from uuid import UUID

MARK: Final = "quartermaster"
"""The member of a team's metadata that holds the mark."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Who made a team ours, and for what.

    Attributes:
        source: The `source` of the Quartermaster that made it.
        org_id: The organization it was made for.
        event: The identity of the event it was made for.
        key: The hash of the key decided on together with the team. Only the database that holds this key made
            the team; one that was lost and filled anew by a replay has other keys for the same events.
        adopted: Whether the team was there before and was taken over: it is never removed.
    """

    source: str
    org_id: str
    event: UUID
    key: str
    adopted: bool = False

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Self | None:
        """Read the mark of a team; None where there is none, or none that we could have written."""
        match metadata.get(MARK):
            case {
                "source": str(source),
                "org_id": str(org_id),
                "event": str(event),
                "key": str(key),
                **others,
            }:
                try:
                    return cls(source, org_id, UUID(event), key, adopted=others.get("adopted") is True)
                except ValueError:
                    return None
            case _:
                return None

    def is_of(self, our_source: str, org_id: str) -> bool:
        """Whether this Quartermaster put the mark there, for this organization."""
        return self.source == our_source and self.org_id == org_id

    def added_to(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Give the metadata with this mark, all else kept: LiteLLM replaces metadata as a whole."""
        mark: dict[str, object] = {
            "source": self.source,
            "org_id": self.org_id,
            "event": self.event.hex,
            "key": self.key,
        }
        if self.adopted:
            mark["adopted"] = True
        return {**metadata, MARK: mark}
