"""What a finished job costs: the one function that every path to a charge goes through.

Ingest, the drain of waiting jobs and a dry run all call `decide_job` with an organization's state as it
stands under that organization's row lock, so a job is judged alike however it came.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple, cast

from schemas.event import InboundEvent
from schemas.events import JobCompleted
from schemas.outcomes import OutcomeType, job_facts
from schemas.transactions import charge_id
from storage.ledger import EntryKind, LedgerEntry
from storage.organizations import OrgState, OrgStatus

# A member of an enumeration is looked up by a Python function before 3.12: here once, not once an event.
_ACTIVE: Final = OrgStatus.ACTIVE
_CHARGE: Final = EntryKind.CHARGE
_DEDUCTED: Final = OutcomeType.CREDITS_DEDUCTED
_SKIPPED: Final = OutcomeType.CREDITS_DEDUCTION_SKIPPED
_FAILED: Final = OutcomeType.CREDITS_DEDUCTION_FAILED

_SKIP_REASONS = {"failed": "job_failed", "cancelled": "job_cancelled"}


class JobDecision(NamedTuple):
    """What follows from one job: the organization's state after it, at most one entry, one outcome."""

    state: OrgState
    entry: LedgerEntry | None
    outcome: OutcomeType
    data: Mapping[str, object]


def must_wait(state: OrgState) -> bool:
    """Tell whether a job of this organization waits: it isn't active, or earlier jobs wait still."""
    return state.status is not _ACTIVE or state.waiting_jobs > 0


def decide_job(
    state: OrgState, event: InboundEvent, *, already_charged: bool, price: int, now: datetime
) -> JobDecision:
    """Decide a job of an organization that is active, or whose wait is over.

    Guarantees: at most one charge for each (organization, job); never a part of a price; never below zero; a
    job that failed or was cancelled costs nothing, and says so before it says it was charged already.

    Args:
        state: the organization under its lock; one that isn't active means that the job's wait has ended.
        event: a `job.completed` event.
        already_charged: whether the ledger holds a charge for this job.
        price: credits that a completed job costs.
        now: when this is decided, UTC.
    """
    job = cast("JobCompleted", event.data)
    key = charge_id(job.org_id, job.job_id)
    data = job_facts(event, now)

    if state.status is not _ACTIVE:
        # Without an organization there is no account, so there is no balance to speak of.
        reason = "org_not_found" if state.status is OrgStatus.UNKNOWN else "org_not_active"
        data |= {"reason": reason, "required": price if job.status == "completed" else 0, "available": None}
        return JobDecision(state, None, _FAILED, data)

    skipped = _SKIP_REASONS.get(job.status)
    if skipped is not None:
        data |= {"reason": skipped, "credits_balance": state.balance}
        return JobDecision(state, None, _SKIPPED, data)
    if already_charged:
        data |= {
            "reason": "job_already_charged",
            "transaction_id": str(key),
            "credits_balance": state.balance,
        }
        return JobDecision(state, None, _SKIPPED, data)
    if state.balance < price:
        data |= {"reason": "insufficient_credits", "required": price, "available": state.balance}
        return JobDecision(state, None, _FAILED, data)

    after = state.charged(price)
    entry = LedgerEntry(
        transaction_id=key,
        org_id=job.org_id,
        entry=after.entries,
        kind=_CHARGE,
        credits=-price,
        balance_after=after.balance,
        sequence=after.charges,
        job_id=job.job_id,
        reason=None,
        corrects=None,
        created_at=now,
    )
    data |= {
        "transaction_id": str(key),
        "credits": price,
        "balance_before": state.balance,
        "balance_after": after.balance,
        "sequence": after.charges,
    }
    return JobDecision(after, entry, _DEDUCTED, data)
