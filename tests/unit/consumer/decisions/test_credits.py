"""What an operator's command does to an account."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.decisions.credits import (
    MAX_BALANCE,
    AlreadyBooked,
    Booked,
    CreditCommand,
    Refused,
    decide_credits,
    open_account,
)
from schemas.outcomes import OutcomeType
from schemas.transactions import grant_id, operator_entry_id
from storage.ledger import EntryKind, LedgerEntry
from storage.organizations import OrgState, OrgStatus

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACME = OrgState("acme", OrgStatus.ACTIVE, balance=10, charges=2, entries=3)


def adjustment(credits_: int, *, corrects: UUID | None = None) -> CreditCommand:
    return CreditCommand(
        kind=EntryKind.ADJUSTMENT,
        org_id="acme",
        credits=credits_,
        reason="because",
        command_id="c-1",
        corrects=corrects,
    )


def grant(credits_: int) -> CreditCommand:
    return replace(adjustment(credits_), kind=EntryKind.GRANT)


def decide(
    command: CreditCommand,
    *,
    state: OrgState | None = ACME,
    same_id: LedgerEntry | None = None,
    corrected: LedgerEntry | None = None,
) -> Booked | AlreadyBooked | Refused:
    return decide_credits(command, state=state, same_id=same_id, corrected=corrected, now=NOW)


def booked(command: CreditCommand, **known: LedgerEntry | OrgState | None) -> Booked:
    decision = decide(command, **known)  # type: ignore[arg-type]
    assert isinstance(decision, Booked)
    return decision


def test_an_account_opens_with_an_entry_of_what_it_is_granted() -> None:
    state, entry = open_account(ACME, 40, NOW)

    assert state == ACME._replace(balance=50, entries=4)
    assert entry == LedgerEntry(
        transaction_id=grant_id("acme"),
        org_id="acme",
        entry=4,
        kind=EntryKind.GRANT,
        credits=40,
        balance_after=50,
        sequence=None,
        job_id=None,
        reason=None,
        corrects=None,
        created_at=NOW,
    )


def test_an_account_that_is_granted_nothing_opens_without_an_entry() -> None:
    assert open_account(ACME, 0, NOW) == (ACME, None)


def test_a_grant_is_an_entry_a_balance_and_an_outcome() -> None:
    decision = booked(grant(5))

    assert decision.state == ACME._replace(balance=15, entries=4)
    assert decision.entry == LedgerEntry(
        transaction_id=operator_entry_id("c-1"),
        org_id="acme",
        entry=4,
        kind=EntryKind.GRANT,
        credits=5,
        balance_after=15,
        sequence=None,
        job_id=None,
        reason="because",
        corrects=None,
        created_at=NOW,
    )
    assert decision.outcome is OutcomeType.CREDITS_GRANTED
    assert decision.data == {
        "org_id": "acme",
        "account_id": "acme",
        "transaction_id": str(operator_entry_id("c-1")),
        "credits": 5,
        "reason": "because",
        "balance_before": 10,
        "balance_after": 15,
    }


def test_an_adjustment_is_signed_and_names_what_it_corrects() -> None:
    wrong = booked(grant(5)).entry._replace(transaction_id=uuid4())

    decision = booked(adjustment(-10, corrects=wrong.transaction_id), corrected=wrong)

    assert decision.state.balance == 0
    assert decision.entry.corrects == wrong.transaction_id
    assert decision.outcome is OutcomeType.CREDITS_ADJUSTED
    assert decision.data["corrects"] == str(wrong.transaction_id)
    assert decision.data["credits"] == -10


def test_the_same_command_again_shows_the_first_entry_whatever_the_balance_is_now() -> None:
    first = booked(adjustment(-10)).entry

    assert decide(adjustment(-10), state=ACME._replace(balance=0), same_id=first) == AlreadyBooked(first)


@pytest.mark.parametrize(
    "other",
    [
        adjustment(-4),
        grant(5),
        replace(adjustment(-5), reason="otherwise"),
        replace(adjustment(-5), org_id="other"),
        adjustment(-5, corrects=uuid4()),
    ],
)
def test_the_same_id_with_other_values_is_refused(other: CreditCommand) -> None:
    first = booked(adjustment(-5)).entry

    decision = decide(other, same_id=first)

    assert isinstance(decision, Refused)
    assert "another command" in decision.why


@pytest.mark.parametrize(
    ("command", "state", "why"),
    [
        (grant(1), None, "there is no organization 'acme'"),
        (grant(1), OrgState("acme"), "there is no organization 'acme'"),
        (grant(1), OrgState("acme", OrgStatus.PROVISIONING), "not active but provisioning"),
        (grant(1), OrgState("acme", OrgStatus.FAILED), "not active but failed"),
        (adjustment(-11), ACME, "below zero"),
        (grant(MAX_BALANCE - 9), ACME, "would pass"),
        (adjustment(1, corrects=uuid4()), ACME, "is no entry in the ledger of 'acme'"),
    ],
)
def test_what_can_not_be_is_refused_in_words(
    command: CreditCommand, state: OrgState | None, why: str
) -> None:
    decision = decide(command, state=state)

    assert isinstance(decision, Refused)
    assert why in decision.why


def test_another_organizations_entry_can_not_be_corrected() -> None:
    foreign = booked(grant(5)).entry._replace(org_id="other")

    assert isinstance(decide(adjustment(1, corrects=foreign.transaction_id), corrected=foreign), Refused)


@given(
    balance=st.integers(0, MAX_BALANCE),
    credits_=st.integers(-MAX_BALANCE, MAX_BALANCE).filter(bool),
)
@example(balance=1, credits_=-1)
@example(balance=0, credits_=-1)
@example(balance=1, credits_=MAX_BALANCE - 1)
@example(balance=1, credits_=MAX_BALANCE)
def test_a_balance_stays_between_zero_and_what_json_can_carry(balance: int, credits_: int) -> None:
    state = ACME._replace(balance=balance)

    decision = decide(adjustment(credits_), state=state)

    fits = 0 <= balance + credits_ <= MAX_BALANCE
    assert isinstance(decision, Booked) == fits
    if isinstance(decision, Booked):
        assert decision.entry.balance_after == decision.state.balance == balance + credits_
