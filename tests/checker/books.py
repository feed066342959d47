"""The books: a small model of an account, walked along the outcomes and held against the ledger."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.checker.history import LedgerEntry, Violation
from tests.checker.reading import BY_COMMAND, Outcome, Reading, Received, text_of

ONCE = "2 (effects happen once)"
ORDER = "3 (outcomes, stable and in order)"
RECEIVED = "4 (charged in the order received)"
BOOKS = "6 (the books balance)"

_WITHOUT_ACCOUNT = ("org_not_found", "org_not_active")
_COSTS_NOTHING = {"failed": "job_failed", "cancelled": "job_cancelled"}


def balances_are_sums(reading: Reading) -> Iterator[Violation]:
    for org, entries in _ledger(reading).items():
        balance, charges = 0, 0
        for entry in entries:
            balance += entry.credits
            if entry.balance_after != balance:
                yield Violation(BOOKS, f"{org!r}: {entry} does not follow from the entries before it")
            if balance < 0:
                yield Violation(BOOKS, f"{org!r}: the balance is negative after {entry}")
            charges += entry.kind == "charge"
            if entry.sequence != (charges if entry.kind == "charge" else None):
                yield Violation(BOOKS, f"{org!r}: {entry} is not numbered {charges}")
        if reading.history.balances.get(org, 0) != balance:
            kept = reading.history.balances.get(org, 0)
            yield Violation(BOOKS, f"{org!r}: the balance kept is {kept}, the entries give {balance}")
    for org, kept in reading.history.balances.items():
        if kept and org not in _ledger(reading):
            yield Violation(BOOKS, f"{org!r}: a balance of {kept} without entries")


def a_job_is_charged_once(reading: Reading) -> Iterator[Violation]:
    transactions: set[str] = set()
    jobs: set[tuple[str, str | None]] = set()
    for entry in reading.history.ledger:
        if entry.transaction_id in transactions:
            yield Violation(ONCE, f"{entry.org_id!r}: transaction {entry.transaction_id} is booked twice")
        transactions.add(entry.transaction_id)
        if entry.kind == "charge":
            if (entry.org_id, entry.job_id) in jobs:
                yield Violation(ONCE, f"{entry.org_id!r}: job {entry.job_id!r} is charged twice")
            jobs.add((entry.org_id, entry.job_id))


def ledger_and_outcomes_agree(reading: Reading) -> Iterator[Violation]:
    """One to one and in one order: a charge its `credits.deducted`, a booking by command its outcome."""
    told = reading.of_org(reading.policy.credits_topic)
    ledger = _ledger(reading)
    for org in told.keys() | ledger.keys():
        booked = [_facts(entry) for entry in ledger.get(org, ()) if not _is_first_grant(reading, entry)]
        said = [_said(one) for one in told.get(org, ()) if one.type in {"credits.deducted", *BY_COMMAND}]
        for entry in [one for one in booked if one not in said][:3]:
            yield Violation(BOOKS, f"{org!r}: no outcome tells of the entry {entry}")
        for outcome in [one for one in said if one not in booked][:3]:
            yield Violation(BOOKS, f"{org!r}: the ledger does not know what is told: {outcome}")
        if sorted(map(str, booked)) == sorted(map(str, said)) and booked != said:
            yield Violation(ORDER, f"{org!r}: outcomes stand in another order than the ledger's")


def the_first_grant_is_what_was_asked_for(reading: Reading) -> Iterator[Violation]:
    for org, entries in _ledger(reading).items():
        wanted = _granted(reading, org)
        found = sum(entry.credits for entry in entries if _is_first_grant(reading, entry))
        if wanted is None:
            yield Violation(ONCE, f"{org!r} has a ledger, but no organization was created")
        elif found != wanted:
            yield Violation(ONCE, f"{org!r} was granted {found} instead of {wanted}")


def outcomes_follow_the_model(reading: Reading) -> Iterator[Violation]:
    """Every job's outcome is what a simple account would say at that place of the topic."""
    for org, outcomes in reading.of_org(reading.policy.credits_topic).items():
        account = _Account(reading.policy.price, _granted(reading, org))
        for outcome in outcomes:
            cause = None if outcome.cause is None else reading.taken.get(outcome.cause)
            problem = account.take(outcome, cause)
            if problem is not None:
                yield Violation(ORDER, f"{org!r}: {outcome}: {problem}")
                break  # what follows a gap only repeats it


def outcomes_carry_the_facts(reading: Reading) -> Iterator[Violation]:
    for outcome in reading.outcomes.values():
        cause = None if outcome.cause is None else reading.taken.get(outcome.cause)
        if cause is None or cause.event.type != "job.completed":
            continue
        wanted = _received_facts(cause)
        found = {name: outcome.data.get(name) for name in wanted}
        occurred = {cause.data.get("completed_at")} - {None} or reading.times(cause.identity)
        if outcome.data.get("occurred_at") not in occurred:
            yield Violation(ORDER, f"{outcome} occurred at another time than its event says")
        if text_of(_exact(found)) != text_of(_exact(wanted)):
            yield Violation(ORDER, f"{outcome} tells other facts than the event did")


def jobs_are_charged_in_the_order_received(reading: Reading) -> Iterator[Violation]:
    """Jobs of an organization that came on one partition, each on no other, are decided in their order."""
    for org, outcomes in reading.of_org(reading.policy.credits_topic).items():
        last: dict[tuple[str, int], tuple[int, Outcome]] = {}
        for outcome in outcomes:
            cause = outcome.cause
            if cause is None or cause not in reading.events or outcome.round != 1:
                continue
            if outcome.data.get("reason") in _WITHOUT_ACCOUNT:
                continue
            partitions = {(one.record.topic, one.record.partition) for one in reading.events[cause]}
            if len(partitions) > 1:
                continue
            (partition,) = partitions
            offset = min(one.record.offset for one in reading.events[cause])
            before = last.get(partition)
            if before is not None and offset < before[0]:
                yield Violation(
                    RECEIVED,
                    f"{org!r}: {outcome} (received at {offset}) was decided after {before[1]} ({before[0]})",
                )
                break
            last[partition] = offset, outcome


class _Account:
    """What one organization's outcomes must say, one after the other."""

    def __init__(self, price: int, granted: int | None) -> None:
        self._price = price
        self._balance = granted
        self._charged: dict[str, str] = {}
        self._active = False

    def take(self, outcome: Outcome, cause: Received | None) -> str | None:
        """Move on by one outcome; say what is wrong with it."""
        data = outcome.data
        if outcome.type == "credits.deduction_failed" and data.get("reason") in _WITHOUT_ACCOUNT:
            if self._active:
                return "the organization was active before"
            return None if data.get("available") is None else "a balance without an account"
        if self._balance is None:
            return "there is no account"
        self._active = True
        if outcome.type in BY_COMMAND:
            return self._move(outcome, int(data.get("credits", 0)))
        return self._take_job(outcome, cause)

    def _take_job(self, outcome: Outcome, cause: Received | None) -> str | None:
        if cause is None or "job_id" not in cause.data:
            return "no such job was published"
        job, status = str(cause.data["job_id"]), str(cause.data["status"])
        wanted = self._expected(job, status)
        found = {name: outcome.data.get(name) for name in wanted if name != "type"} | {"type": outcome.type}
        if found != wanted:
            return f"expected {wanted}, found {found}"
        if outcome.type == "credits.deducted":
            self._charged[job] = str(outcome.data.get("transaction_id"))
            return self._move(outcome, -self._price)
        return None

    def _expected(self, job: str, status: str) -> dict[str, Any]:
        balance = self._balance or 0
        skipped = {"type": "credits.deduction_skipped", "credits_balance": balance}
        if status in _COSTS_NOTHING:
            return skipped | {"reason": _COSTS_NOTHING[status]}
        if job in self._charged:
            return skipped | {"reason": "job_already_charged", "transaction_id": self._charged[job]}
        if balance < self._price:
            short = {"reason": "insufficient_credits", "required": self._price, "available": balance}
            return {"type": "credits.deduction_failed"} | short
        return {
            "type": "credits.deducted",
            "credits": self._price,
            "balance_before": balance,
            "balance_after": balance - self._price,
            "sequence": len(self._charged) + 1,
        }

    def _move(self, outcome: Outcome, credits_: int) -> str | None:
        before = self._balance or 0
        self._balance = before + credits_
        said = outcome.data.get("balance_before"), outcome.data.get("balance_after")
        if said != (before, self._balance):
            return f"expected the balance to go from {before} to {self._balance}, it says {said}"
        return "the balance is negative" if self._balance < 0 else None


def _granted(reading: Reading, org: str) -> int | None:
    """What the event asked for that created the organization; None where none did."""
    for outcome in reading.of_org(reading.policy.provisioning_topic).get(org, ()):
        if outcome.type == "org.provisioned" and outcome.data.get("created") and outcome.cause is not None:
            cause = reading.taken.get(outcome.cause)
            asked = None if cause is None else cause.data.get("initial_credits")
            return reading.policy.default_credits if asked is None else int(asked)
    return None


def _ledger(reading: Reading) -> dict[str, list[LedgerEntry]]:
    found: dict[str, list[LedgerEntry]] = {}
    for entry in reading.history.ledger:
        found.setdefault(entry.org_id, []).append(entry)
    return found


def _is_first_grant(reading: Reading, entry: LedgerEntry) -> bool:
    """Whether it is the grant an organization begins with, of which no outcome of its own tells."""
    return entry.kind == "grant" and not any(
        one.type in BY_COMMAND and one.data.get("transaction_id") == entry.transaction_id
        for one in reading.of_org(reading.policy.credits_topic).get(entry.org_id, ())
    )


def _facts(entry: LedgerEntry) -> tuple[object, ...]:
    return entry.transaction_id, entry.job_id, abs(entry.credits), entry.balance_after, entry.sequence


def _said(outcome: Outcome) -> tuple[object, ...]:
    data = outcome.data
    return (
        data.get("transaction_id"),
        data.get("job_id"),
        abs(int(data.get("credits", 0))),
        data.get("balance_after"),
        data.get("sequence"),
    )


_FACTS = ("org_id", "job_id", "status", "user_id", "job_type", "started_at", "completed_at")
_COUNTED = (
    "total_calls",
    "successful_calls",
    "failed_calls",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "avg_latency_ms",
)


def _received_facts(cause: Received) -> dict[str, Any]:
    facts = {name: cause.data.get(name) for name in _FACTS}
    facts["account_id"] = cause.data["org_id"]
    usage = cause.data.get("usage")
    if usage is not None:
        facts["usage"] = usage
    return facts


def _exact(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts with numbers as the digits they are, and of `usage` what was counted."""
    usage = facts.get("usage")
    if usage is None:
        return facts
    counted = {name: str(usage[name]) for name in _COUNTED if usage.get(name) is not None}
    if (cost := usage.get("total_cost_usd")) is not None:
        counted["total_cost_usd"] = f"{Decimal(cost):f}"
    return facts | {"usage": counted}
