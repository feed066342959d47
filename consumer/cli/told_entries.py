"""Ledger entries beside what is kept of how each came about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.json_codec import parse_trusted_json
from storage import outcomes
from storage.ledger import EntryKind, LedgerEntry


@dataclass(frozen=True, slots=True)
class ToldEntry:
    """An entry; of a charge also the event that caused it and the outcome that told of it, while kept."""

    entry: LedgerEntry
    event_source: str | None = None
    event_id: str | None = None
    outcome_id: UUID | None = None


async def tell(tx: AsyncConnection, entries: Sequence[LedgerEntry]) -> list[ToldEntry]:
    """Give entries with what is kept of how they came about."""
    charges = [entry.transaction_id for entry in entries if entry.kind is EntryKind.CHARGE]
    told = await outcomes.of_charges(tx, charges)
    return [_told(entry, told.get(entry.transaction_id)) for entry in entries]


def _told(entry: LedgerEntry, outcome: outcomes.StoredOutcome | None) -> ToldEntry:
    if outcome is None:
        return ToldEntry(entry)
    envelope = cast("dict[str, Any]", parse_trusted_json(outcome.value))
    return ToldEntry(entry, envelope["causationsource"], envelope["causationid"], outcome.outcome_id)
