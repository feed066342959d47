"""What a finished job costs."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.decisions.jobs import decide_job, must_wait
from schemas.decode import IncomingRecord, decode
from schemas.event import InboundEvent
from schemas.json_codec import dump_json
from schemas.outcomes import OutcomeType
from schemas.transactions import charge_id
from storage.ledger import EntryKind, LedgerEntry
from storage.organizations import OrgState, OrgStatus

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def job(job_id: str = "j1", status: str = "completed", **data: Any) -> InboundEvent:
    value = {
        "specversion": "1.0",
        "id": f"event-{job_id}",
        "source": "/platform",
        "type": "job.completed",
        "time": "2026-03-01T11:00:00Z",
        "data": {"org_id": "acme", "job_id": job_id, "status": status, **data},
    }
    record = IncomingRecord("job.completed", 0, 0, 0, b"acme", dump_json(value), ())
    event = decode(record, max_bytes=100_000)
    assert isinstance(event, InboundEvent)
    return event


def org(balance: int = 5, status: OrgStatus = OrgStatus.ACTIVE, **more: Any) -> OrgState:
    state = OrgState(
        org_id="acme",
        status=status,
        balance=balance,
        charges=0,
        entries=1,
        waiting_jobs=0,
        failed_at=None,
    )
    return state._replace(**more)


def test_a_completed_job_is_charged_at_the_price_of_now() -> None:
    decision = decide_job(org(5, charges=2, entries=3), job(), already_charged=False, price=2, now=NOW)
    assert decision.outcome is OutcomeType.CREDITS_DEDUCTED
    assert decision.entry is not None
    assert (decision.entry.credits, decision.entry.balance_after) == (-2, 3)
    assert (decision.entry.entry, decision.entry.sequence) == (4, 3)
    assert decision.state == org(3, charges=3, entries=4)
    assert decision.data["balance_before"] == 5
    assert decision.data["balance_after"] == 3
    assert UUID(str(decision.data["transaction_id"])) == charge_id("acme", "j1")


FACTS = {
    "org_id": "acme",
    "account_id": "acme",
    "job_id": "j1",
    "status": "completed",
    "occurred_at": "2026-03-01T11:00:00Z",
    "decided_at": "2026-03-01T12:00:00.000000Z",
}


def test_a_charge_is_told_in_full_and_booked_as_told() -> None:
    state = org(5, charges=2, entries=3)

    decision = decide_job(state, job(), already_charged=False, price=2, now=NOW)

    assert decision.data == FACTS | {
        "transaction_id": str(charge_id("acme", "j1")),
        "credits": 2,
        "balance_before": 5,
        "balance_after": 3,
        "sequence": 3,
    }
    assert decision.entry == LedgerEntry(
        transaction_id=charge_id("acme", "j1"),
        org_id="acme",
        entry=4,
        kind=EntryKind.CHARGE,
        credits=-2,
        balance_after=3,
        sequence=3,
        job_id="j1",
        reason=None,
        corrects=None,
        created_at=NOW,
    )


UNCHARGED: dict[str, tuple[OrgState, str, bool, OutcomeType, dict[str, object]]] = {
    "failed": (
        org(5),
        "failed",
        False,
        OutcomeType.CREDITS_DEDUCTION_SKIPPED,
        {"reason": "job_failed", "credits_balance": 5},
    ),
    "cancelled after it was charged": (
        org(5),
        "cancelled",
        True,
        OutcomeType.CREDITS_DEDUCTION_SKIPPED,
        {"reason": "job_cancelled", "credits_balance": 5},
    ),
    "charged already": (
        org(0),
        "completed",
        True,
        OutcomeType.CREDITS_DEDUCTION_SKIPPED,
        {
            "reason": "job_already_charged",
            "transaction_id": str(charge_id("acme", "j1")),
            "credits_balance": 0,
        },
    ),
    "too little left": (
        org(1),
        "completed",
        False,
        OutcomeType.CREDITS_DEDUCTION_FAILED,
        {"reason": "insufficient_credits", "required": 2, "available": 1},
    ),
    "of nobody": (
        org(0, OrgStatus.UNKNOWN),
        "completed",
        False,
        OutcomeType.CREDITS_DEDUCTION_FAILED,
        {"reason": "org_not_found", "required": 2, "available": None},
    ),
    "failed, of nobody": (
        org(0, OrgStatus.UNKNOWN),
        "failed",
        False,
        OutcomeType.CREDITS_DEDUCTION_FAILED,
        {"reason": "org_not_found", "required": 0, "available": None},
    ),
    "of one that failed": (
        org(0, OrgStatus.FAILED),
        "completed",
        False,
        OutcomeType.CREDITS_DEDUCTION_FAILED,
        {"reason": "org_not_active", "required": 2, "available": None},
    ),
}


@pytest.mark.parametrize("case", UNCHARGED)
def test_what_costs_nothing_says_why_and_changes_nothing(case: str) -> None:
    state, status, charged, outcome, told = UNCHARGED[case]

    decision = decide_job(state, job(status=status), already_charged=charged, price=2, now=NOW)

    assert decision.outcome is outcome
    assert decision.data == FACTS | {"status": status} | told
    assert decision.state == state
    assert decision.entry is None


@pytest.mark.parametrize(("status", "reason"), [("failed", "job_failed"), ("cancelled", "job_cancelled")])
@pytest.mark.parametrize("charged", [False, True])
def test_the_status_decides_before_an_earlier_charge(status: str, reason: str, charged: bool) -> None:  # noqa: FBT001
    decision = decide_job(org(), job(status=status), already_charged=charged, price=1, now=NOW)
    assert decision.outcome is OutcomeType.CREDITS_DEDUCTION_SKIPPED
    assert decision.data["reason"] == reason
    assert decision.data["credits_balance"] == 5
    assert decision.entry is None


def test_a_charged_job_names_its_first_transaction() -> None:
    decision = decide_job(org(0), job(), already_charged=True, price=1, now=NOW)
    assert decision.data["reason"] == "job_already_charged"
    assert decision.data["transaction_id"] == str(charge_id("acme", "j1"))


def test_never_a_part_of_a_price() -> None:
    decision = decide_job(org(1), job(), already_charged=False, price=2, now=NOW)
    assert decision.outcome is OutcomeType.CREDITS_DEDUCTION_FAILED
    assert (decision.data["required"], decision.data["available"]) == (2, 1)
    assert decision.entry is None
    assert decision.state == org(1)


@pytest.mark.parametrize(
    ("status", "reason"), [(OrgStatus.UNKNOWN, "org_not_found"), (OrgStatus.FAILED, "org_not_active")]
)
@pytest.mark.parametrize("job_status", ["completed", "failed", "cancelled"])
def test_without_an_active_organization_every_job_fails_whatever_its_status(
    status: OrgStatus, reason: str, job_status: str
) -> None:
    decision = decide_job(
        org(0, status, entries=0), job(status=job_status), already_charged=False, price=1, now=NOW
    )
    assert decision.outcome is OutcomeType.CREDITS_DEDUCTION_FAILED
    assert decision.data["reason"] == reason
    assert decision.data["available"] is None


def test_what_was_received_comes_back_digit_for_digit() -> None:
    event = job(
        user_id="u1",
        job_type="batch",
        usage={"total_calls": 3, "total_cost_usd": "0.0100", "unknown": 1},
        completed_at="2026-03-01T10:59:59.5+01:00",
    )
    data = decide_job(org(), event, already_charged=False, price=1, now=NOW).data
    assert data["usage"] == {"total_calls": 3, "total_cost_usd": "0.0100"}
    assert data["occurred_at"] == "2026-03-01T10:59:59.5+01:00"
    assert (data["user_id"], data["job_type"]) == ("u1", "batch")


def test_without_a_completion_time_the_event_s_time_stands_in() -> None:
    data = decide_job(org(), job(), already_charged=False, price=1, now=NOW).data
    assert data["occurred_at"] == "2026-03-01T11:00:00Z"


@pytest.mark.parametrize(
    ("state", "waits"),
    [
        (org(), False),
        (org(waiting_jobs=1), True),
        (org(status=OrgStatus.PROVISIONING), True),
        (org(status=OrgStatus.FAILED), True),
        (org(status=OrgStatus.UNKNOWN), True),
    ],
)
def test_a_job_waits_for_its_organization_and_behind_earlier_jobs(state: OrgState, waits: bool) -> None:  # noqa: FBT001
    assert must_wait(state) is waits


@given(
    st.integers(0, 20),
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(["completed", "failed"])),
        max_size=30,
    ),
)
def test_any_run_of_jobs_agrees_with_the_plain_rule(balance: int, jobs: list[tuple[str, str]]) -> None:
    """The reference: a job is charged once, if it completed and a credit is left."""
    state = org(balance)
    charged: set[str] = set()
    for job_id, status in jobs:
        decision = decide_job(state, job(job_id, status), already_charged=job_id in charged, price=1, now=NOW)
        expected = status == "completed" and job_id not in charged and state.balance > 0
        assert (decision.entry is not None) == expected
        if expected:
            charged.add(job_id)
        state = decision.state
    assert state.balance == balance - len(charged)
    assert state.charges == len(charged)
