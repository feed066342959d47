"""How an account begins, and what an operator's `credits add` or `credits adjust` does to it.

Decided from plain values. A command's entry is made once per command id, however often it is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from schemas.outcomes import OutcomeType
from schemas.transactions import grant_id, operator_entry_id
from storage.ledger import EntryKind, LedgerEntry
from storage.organizations import OrgState, OrgStatus

MAX_BALANCE: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""

_OUTCOMES: Final = {
    EntryKind.GRANT: OutcomeType.CREDITS_GRANTED,
    EntryKind.ADJUSTMENT: OutcomeType.CREDITS_ADJUSTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditCommand:
    """An operator's wish.

    Attributes:
        kind: a grant (more credits) or an adjustment (more or fewer).
        org_id: whose account.
        credits: signed; a grant's are 1 or more, an adjustment's never 0.
        reason: why, for the books and the outcome.
        command_id: names the command, over all organizations.
        corrects: the entry an adjustment puts right.
    """

    kind: EntryKind
    org_id: str
    credits: int
    reason: str
    command_id: str
    corrects: UUID | None = None


@dataclass(frozen=True, slots=True)
class Booked:
    """The command takes effect: a new entry, the organization's state after it, and the outcome."""

    state: OrgState
    entry: LedgerEntry
    outcome: OutcomeType
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AlreadyBooked:
    """The same command was given before: this is its entry, and nothing more happens."""

    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class Refused:
    """The command takes no effect; why, in words for the operator."""

    why: str


def open_account(state: OrgState, granted: int, now: datetime) -> tuple[OrgState, LedgerEntry | None]:
    """Open the account of an organization that becomes active.

    Returns:
        The organization's state after it, and the entry of the credits it begins with; None where it is 0.
    """
    if not granted:
        return state, None
    after = state._replace(balance=state.balance + granted, entries=state.entries + 1)
    entry = LedgerEntry(
        transaction_id=grant_id(state.org_id),
        org_id=state.org_id,
        entry=after.entries,
        kind=EntryKind.GRANT,
        credits=granted,
        balance_after=after.balance,
        sequence=None,
        job_id=None,
        reason=None,
        corrects=None,
        created_at=now,
    )
    return after, entry


def decide_credits(
    command: CreditCommand,
    *,
    state: OrgState | None,
    same_id: LedgerEntry | None,
    corrected: LedgerEntry | None,
    now: datetime,
) -> Booked | AlreadyBooked | Refused:
    """Decide a command.

    Guarantees: at most one entry per command id; a balance never below zero nor beyond 2^53-1; a correction
    names an entry of the same organization.

    Args:
        command: the wish.
        state: the organization under its lock; none where it is unknown.
        same_id: the entry that stands under the command's id, whatever organization it belongs to.
        corrected: the entry that `command.corrects` names; none where there is no such entry.
        now: when this is decided, UTC.
    """
    if same_id is not None:
        if _says_the_same(same_id, command):
            return AlreadyBooked(same_id)
        return Refused(
            f"the id {command.command_id!r} stands for another command: "
            f"{same_id.kind} of {same_id.credits} for {same_id.org_id!r} ({same_id.reason})"
        )
    if state is None or state.status is OrgStatus.UNKNOWN:
        return Refused(f"there is no organization {command.org_id!r}")
    if why := _objection(command, state, corrected):
        return Refused(why)

    balance = state.balance + command.credits
    after = state._replace(balance=balance, entries=state.entries + 1)
    entry = LedgerEntry(
        transaction_id=operator_entry_id(command.command_id),
        org_id=command.org_id,
        entry=after.entries,
        kind=command.kind,
        credits=command.credits,
        balance_after=balance,
        sequence=None,
        job_id=None,
        reason=command.reason,
        corrects=command.corrects,
        created_at=now,
    )
    data: dict[str, object] = {
        "org_id": command.org_id,
        "account_id": command.org_id,
        "transaction_id": str(entry.transaction_id),
        "credits": command.credits,
        "reason": command.reason,
    }
    if command.corrects is not None:
        data["corrects"] = str(command.corrects)
    data |= {"balance_before": state.balance, "balance_after": balance}
    return Booked(after, entry, _OUTCOMES[command.kind], data)


def _objection(command: CreditCommand, state: OrgState, corrected: LedgerEntry | None) -> str | None:
    if state.status is not OrgStatus.ACTIVE:
        return f"organization {command.org_id!r} is not active but {state.status}: it has no account"
    if command.corrects is not None and (corrected is None or corrected.org_id != command.org_id):
        return f"{command.corrects} is no entry in the ledger of {command.org_id!r}"
    if state.balance + command.credits < 0:
        return f"the balance is {state.balance}: {command.credits} would take it below zero"
    if state.balance + command.credits > MAX_BALANCE:
        return f"the balance is {state.balance}: {command.credits} more would pass {MAX_BALANCE}"
    return None


def _says_the_same(entry: LedgerEntry, command: CreditCommand) -> bool:
    return (entry.org_id, entry.kind, entry.credits, entry.reason, entry.corrects) == (
        command.org_id,
        command.kind,
        command.credits,
        command.reason,
        command.corrects,
    )
