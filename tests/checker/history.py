"""What a run of Quartermaster left behind, as plain values: all that a verdict on it is based on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Published:
    """A record that stands on an inbound topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Emitted:
    """A record that stands on an outbound topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A booking; `kind` is `grant`, `charge` or `adjustment`, and a charge's `credits` are negative."""

    org_id: str
    transaction_id: str
    kind: str
    job_id: str | None
    credits: int
    balance_after: int
    sequence: int | None


@dataclass(frozen=True, slots=True)
class Team:
    """A team at LiteLLM; a member given twice stands twice."""

    alias: str | None
    max_budget: float | None
    members: Sequence[str]


@dataclass(frozen=True, slots=True)
class Key:
    """A virtual key at LiteLLM, by LiteLLM's hash of it."""

    hash: str
    alias: str | None
    team_id: str | None
    user_id: str | None


@dataclass(frozen=True, slots=True)
class Proxy:
    """What stands at LiteLLM for the organizations of this run, and for nobody else's."""

    teams: Mapping[str, Team]
    users: frozenset[str]
    keys: Sequence[Key]


@dataclass(frozen=True, slots=True)
class History:
    """Everything that a run took in and left behind.

    `ledger` is in ledger order within each organization; without `proxy` nothing is said about LiteLLM.
    """

    published: Sequence[Published]
    emitted: Sequence[Emitted]
    ledger: Sequence[LedgerEntry]
    balances: Mapping[str, int]
    waiting: int = 0
    outbox_pending: int = 0
    proxy: Proxy | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of the run, and what it had reason to do.

    `may_fail`: provisioning may have failed (LiteLLM refused, or stayed away longer than it is waited for);
    `max_round`: how often an operator had things tried again, plus one; `operated`: credits were booked by
    command; `secrets`: bytes that must stand in nothing emitted.
    """

    provisioning_topic: str = "provisioning.outcomes"
    credits_topic: str = "credits.outcomes"
    dead_letter_topic: str = "quartermaster.dead-letters"
    source: str = "/quartermaster"
    price: int = 1
    default_credits: int = 0
    max_event_bytes: int = 524_288
    may_fail: bool = False
    doomed: frozenset[str] = frozenset()
    """Organizations that nobody ever creates: what is asked for in them fails."""
    max_round: int = 1
    operated: bool = False
    secrets: frozenset[bytes] = field(default=frozenset(), repr=False)
    other_members: frozenset[str] = frozenset({"default_user_id"})
    """Whom LiteLLM itself puts into every team: the master key's user."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A guarantee that did not hold (its number in the contract and a word for it), and where."""

    guarantee: str
    what: str

    def __str__(self) -> str:
        return f"guarantee {self.guarantee}: {self.what}"
