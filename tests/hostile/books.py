"""What must come of a stream of records, by the contract: the sums that the product's own must equal."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.hostile.reference import TYPES, Expected

UNKNOWN = "unknown"

Identity = tuple[str, str]


@dataclass(slots=True)
class Account:
    """An active organization's credits."""

    balance: int
    charged: set[str] = field(default_factory=set)


class Books:
    """Follows every record through ingest: identities, charges, what waits, dead letters.

    Args:
        active: Organizations that are active, each with its balance; no other becomes so.
        price: What a completed job costs.
    """

    def __init__(self, active: Mapping[str, int], *, price: int = 1) -> None:
        self.accounts = {org_id: Account(balance) for org_id, balance in active.items()}
        self.price = price
        self.identities: dict[Identity, bytes] = {}
        self.events: Counter[tuple[str, str]] = Counter()
        """By type and result, as `quartermaster_events_total` has them."""
        self.nulls = 0
        self.dead: dict[int, str] = {}
        """Dead letters: the offset and the reason."""
        self.outcomes: dict[Identity, str] = {}
        self.inbox: Counter[tuple[str, str]] = Counter()

    def take(self, offset: int, one: Expected) -> str:
        """Take the record at an offset, perhaps not for the first time; return what becomes of it."""
        if one.what == "null":
            self.nulls += 1
            return "passed_over"
        if one.what == "unknown":
            self.events[UNKNOWN, "unknown"] += 1
            return "passed_over"
        if one.what != "event":
            return self._dead_letter(offset, one, one.what)
        assert one.source is not None
        assert one.id is not None
        assert one.type is not None
        identity = (one.source, one.id)
        known = self.identities.setdefault(identity, one.same)
        if known is one.same:
            self.events[one.type, "accepted"] += 1
            self._accept(one, identity)
            return "accepted"
        if known == one.same:
            self.events[one.type, "duplicate"] += 1
            return "duplicate"
        return self._dead_letter(offset, one, "id_conflict")

    def _dead_letter(self, offset: int, one: Expected, reason: str) -> str:
        if offset not in self.dead:
            self.dead[offset] = reason
            self.events[one.type if one.type in TYPES else UNKNOWN, "dead_letter"] += 1  # type: ignore[index]
        return reason

    def _accept(self, one: Expected, identity: Identity) -> None:
        data: Mapping[str, Any] = one.data or {}
        account = self.accounts.get(data["org_id"])
        if one.type != "job.completed" or account is None:
            self.inbox[str(one.type), "waiting"] += 1
            return
        if data["status"] != "completed" or data["job_id"] in account.charged:
            self.outcomes[identity] = "credits.deduction_skipped"
        elif account.balance < self.price:
            self.outcomes[identity] = "credits.deduction_failed"
            self.inbox["job.completed", "failed"] += 1  # kept, to be tried again
        else:
            account.balance -= self.price
            account.charged.add(data["job_id"])
            self.outcomes[identity] = "credits.deducted"

    def reasons(self) -> Counter[str]:
        """Return how many dead letters there are of each reason."""
        return Counter(self.dead.values())


def given(org_ids: Iterable[str]) -> dict[str, int]:
    """Give every organization its credits: some too few for what will be asked of them."""
    return {org_id: 50 if number % 5 == 0 else 10**9 for number, org_id in enumerate(org_ids)}
