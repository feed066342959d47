"""A sample organization: what upstream might send in its first minutes, and what must come of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schemas.events import EventType
from schemas.json_codec import dump_json
from schemas.outcomes import OutcomeType
from schemas.timestamps import format_rfc3339

PAID_JOBS: Final = 3
"""How many jobs the sample organization's credits pay for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleIds:
    """The names in the samples.

    Attributes:
        org_id: The organization.
        owner_user_id: Its owner.
        user_ids: Users who join it, any number.
        prefix: What the ids of events and jobs begin with: another one makes other events.
    """

    org_id: str
    owner_user_id: str
    user_ids: tuple[str, ...]
    prefix: str


@dataclass(frozen=True, slots=True)
class Sample:
    """An event, and what is to come of it.

    Attributes:
        title: What happened, for people.
        type: The type, which decides the topic.
        key: The record's key.
        value: The CloudEvent in structured mode.
        outcome: The one outcome it leads to; None where it leads to none.
        reason: The `reason` in that outcome, or in the dead letter.
        dead_letter: Whether it becomes a dead letter.
    """

    title: str
    type: EventType
    key: bytes
    value: bytes
    outcome: OutcomeType | None
    reason: str | None = None
    dead_letter: bool = False


def samples(ids: SampleIds, *, source: str, start: datetime, price: int = 1) -> list[Sample]:
    """Tell the story of an organization, from its creation to its last credit and one broken event.

    The same arguments give the same bytes, so that sending it all again changes nothing.

    Args:
        ids: The names.
        source: Every event's `source`.
        start: When the story begins; a second lies between two events.
        price: What a job costs, in credits.
    """
    story = _Story(ids, source, start)
    story.tell(
        f"organization {ids.org_id} is created with {PAID_JOBS * price} credits",
        EventType.ORG_CREATED,
        "org",
        {
            "name": "Acme Robotics",
            "owner_user_id": ids.owner_user_id,
            "owner_email": f"{ids.owner_user_id}@example.com",
            "initial_credits": PAID_JOBS * price,
            "max_budget_usd": "25.00",
            "metadata": {"plan": "trial"},
        },
        outcome=OutcomeType.ORG_PROVISIONED,
    )
    for number, user_id in enumerate(ids.user_ids, 1):
        story.tell(
            f"user {user_id} joins",
            EventType.USER_JOINED,
            f"user-{number}",
            {"user_id": user_id, "email": f"{user_id}@example.com", "role": "member"},
            outcome=OutcomeType.USER_PROVISIONED,
        )
    for number in range(1, PAID_JOBS + 1):
        story.job(f"job {number} completes", number, "completed", OutcomeType.CREDITS_DEDUCTED)
    story.repeat(f"job {PAID_JOBS} is delivered again: the same event, no second charge")
    story.job("a job fails: no charge", 4, "failed", OutcomeType.CREDITS_DEDUCTION_SKIPPED, "job_failed")
    story.job(
        "one job more than there are credits",
        5,
        "completed",
        OutcomeType.CREDITS_DEDUCTION_FAILED,
        "insufficient_credits",
    )
    story.break_one("a broken event: a job of an unknown status", 6)
    return story.samples


class _Story:
    def __init__(self, ids: SampleIds, source: str, start: datetime) -> None:
        self._ids = ids
        self._source = source
        self._now = start
        self._users = ids.user_ids or (ids.owner_user_id,)
        self.samples: list[Sample] = []

    def tell(
        self,
        title: str,
        type_: EventType,
        id_: str,
        data: Mapping[str, object],
        *,
        outcome: OutcomeType | None = None,
        reason: str | None = None,
        dead_letter: bool = False,
    ) -> None:
        envelope = {
            "specversion": "1.0",
            "id": f"{self._ids.prefix}-{id_}",
            "source": self._source,
            "type": type_.value,
            "time": format_rfc3339(self._now),
            "datacontenttype": "application/json",
            "data": {"org_id": self._ids.org_id, **data},
        }
        self._now += timedelta(seconds=1)
        key = self._ids.org_id.encode()
        self.samples.append(
            Sample(title, type_, key, dump_json(envelope), outcome, reason, dead_letter=dead_letter)
        )

    def job(
        self, title: str, number: int, status: str, outcome: OutcomeType, reason: str | None = None
    ) -> None:
        self.tell(
            title,
            EventType.JOB_COMPLETED,
            f"job-{number}",
            self._job(number, status),
            outcome=outcome,
            reason=reason,
        )

    def repeat(self, title: str) -> None:
        last = self.samples[-1]
        self.samples.append(Sample(title, last.type, last.key, last.value, outcome=None))

    def break_one(self, title: str, number: int) -> None:
        data = self._job(number, "exploded")
        self.tell(
            title, EventType.JOB_COMPLETED, f"job-{number}", data, reason="invalid_data", dead_letter=True
        )

    def _job(self, number: int, status: str) -> dict[str, object]:
        job: dict[str, object] = {
            "job_id": f"{self._ids.prefix}-job-{number}",
            "user_id": self._users[number % len(self._users)],
            "job_type": "document.summary",
            "status": status,
            "usage": {
                "total_calls": 4,
                "successful_calls": 4 if status == "completed" else 3,
                "failed_calls": 0 if status == "completed" else 1,
                "prompt_tokens": 1_200,
                "completion_tokens": 340,
                "total_tokens": 1_540,
                "total_cost_usd": "0.0123",
                "avg_latency_ms": 812,
            },
            "started_at": format_rfc3339(self._now - timedelta(seconds=30)),
            "completed_at": format_rfc3339(self._now),
        }
        if status == "failed":
            job["error_message"] = "the model did not answer"
        return job
