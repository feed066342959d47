"""Jobs judged one after another within one transaction, and what follows from them written together."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.decisions.jobs import decide_job
from consumer.settings import Settings
from schemas.event import InboundEvent
from schemas.json_codec import dump_json
from schemas.outcomes import EncodedOutcome, Origin, OutcomeType, cause_of, encode_outcome
from schemas.transactions import charge_id
from storage import inbox, judgements
from storage.inbox import InboxState, NewInboxRow, WaitReason
from storage.ledger import LedgerEntry
from storage.organizations import OrgState

_FAILED = OutcomeType.CREDITS_DEDUCTION_FAILED


@dataclass(frozen=True, slots=True)
class IngestPolicy:
    """The settings that decide what an event does at ingest."""

    our_source: str
    credits_per_job: int
    dependency_wait: timedelta

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take it from the settings."""
        return cls(
            our_source=settings.source,
            credits_per_job=settings.credits_per_job,
            dependency_wait=timedelta(seconds=settings.dependency_wait),
        )


def job_key(event: InboundEvent) -> UUID:
    """Return the key of the job that an event is about: the id its one charge has."""
    return charge_id(event.org_id, event.subject)


class Judge:
    """Judges the jobs of organizations that are locked, and gathers what is to be written.

    Attributes:
        outcomes: How many outcomes of each type were written.
        written: Their values, by their numbers.
    """

    def __init__(self, policy: IngestPolicy, now: datetime, *, charged: set[UUID]) -> None:
        """Begin with the keys of the jobs that the ledger holds a charge for."""
        self._policy = policy
        self._now = now
        self._charged = charged
        self._entries: list[LedgerEntry] = []
        self._outcomes: list[EncodedOutcome] = []
        self._refused: list[NewInboxRow] = []
        self.outcomes: Counter[OutcomeType] = Counter()
        self.written: dict[int, bytes] = {}

    @property
    def gathered(self) -> int:
        """How many outcomes wait to be written."""
        return len(self._outcomes)

    def judge(
        self, state: OrgState, event: InboundEvent, *, origin: Origin, stored_at: datetime, round_: int = 1
    ) -> OrgState:
        """Judge one job; return its organization's state after it."""
        key = job_key(event)
        decision = decide_job(
            state,
            event,
            already_charged=key in self._charged,
            price=self._policy.credits_per_job,
            now=self._now,
        )
        if decision.entry is not None:
            self._entries.append(decision.entry)
            self._charged.add(key)
        if decision.outcome is _FAILED:
            self._refused.append(
                _refused(event, decision.data, origin=origin, stored_at=stored_at, round_=round_)
            )
        self._outcomes.append(
            encode_outcome(
                decision.outcome,
                decision.data,
                org_id=event.org_id,
                cause=cause_of(event),
                decided_at=self._now,
                origin=origin,
                round=round_,
                our_source=self._policy.our_source,
                job_key=key,
            )
        )
        return decision.state

    async def write(self, tx: AsyncConnection, states: Collection[OrgState] = ()) -> None:
        """Write what was gathered: entries, refused jobs, outcomes.

        More may be gathered meanwhile, for the next call, which must not come before this one has ended.

        Args:
            tx: The transaction that holds their organizations.
            states: Organizations to be saved with them.
        """
        entries, self._entries = self._entries, []
        refused, self._refused = self._refused, []
        outcomes, self._outcomes = self._outcomes, []
        if refused:
            await inbox.add(tx, refused)
        numbers = await judgements.write(tx, entries=entries, outcomes=outcomes, states=states)
        self.outcomes.update(outcome.type for outcome in outcomes)
        self.written.update(zip(numbers, (outcome.value for outcome in outcomes), strict=True))


def _refused(
    event: InboundEvent, outcome: Mapping[str, object], *, origin: Origin, stored_at: datetime, round_: int
) -> NewInboxRow:
    """Return the row that keeps a job whose charge was refused, so that it can be tried again."""
    return NewInboxRow(
        identity=event.identity,
        org_id=event.org_id,
        type=event.type,
        subject=event.subject,
        reason=WaitReason.FAILED,
        origin=origin,
        round=round_,
        stored_at=stored_at,
        state=InboxState.FAILED,
        failure=dump_json({"step": "charge", "error_code": outcome["reason"]}).decode(),
        event=event.stored,
    )
