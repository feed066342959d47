"""Events like those of production: about 812 bytes, 1,000 organizations, 5 % delivered twice.

The same numbers give the same events on every machine. Organizations follow Zipf's law: the busiest has
13 % of the events.
"""

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from schemas.decode import IncomingRecord

ORGANIZATIONS = 1_000
DUPLICATES = 0.05
REDELIVERED_WITHIN = 5_000
"""A duplicate follows its first delivery within so many events."""
SEED = 20_260_301

_JOB = (
    b'{"specversion": "1.0", "id": "evt-%(number)012d", "source": "/platform/jobs", "type": "job.completed", '
    b'"time": "2026-03-01T12:00:00.123Z", "datacontenttype": "application/json", '
    b'"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", '
    b'"data": {"job_id": "job-%(number)012d", "org_id": "%(org)b", "user_id": "user-%(user)05d", '
    b'"job_type": "batch-inference", "status": "completed", '
    b'"usage": {"total_calls": 12, "successful_calls": 12, "failed_calls": 0, "prompt_tokens": 18231, '
    b'"completion_tokens": 2044, "total_tokens": 20275, '
    b'"total_cost_usd": "0.123400", "avg_latency_ms": 812.5}, '
    b'"started_at": "2026-03-01T11:59:00Z", "completed_at": "2026-03-01T12:00:00Z", '
    b'"metadata": {"region": "eu-central-1", "queue": "default", "labels": ["batch", "nightly"], '
    b'"submitted_by": "scheduler-7.jobs.internal:443"}}}'
)


class Event(NamedTuple):
    """One record to be published."""

    number: int
    key: bytes
    value: bytes


def org_id(number: int) -> str:
    """Name the `number`th organization; 0 is the busiest."""
    return f"org-{number:04}"


def org_ids() -> list[str]:
    """Name all organizations."""
    return [org_id(number) for number in range(ORGANIZATIONS)]


def job_value(number: int, org: bytes) -> bytes:
    """Return the `number`th `job.completed`, of this organization."""
    return _JOB % {b"number": number, b"org": org, b"user": number % 10_000}


def job_record(number: int) -> IncomingRecord:
    """Return the `number`th job as a record that was read."""
    org = org_id(number % ORGANIZATIONS).encode()
    return IncomingRecord("job.completed", 0, number, 0, org, job_value(number, org), ())


def jobs(records: int, organizations: int = ORGANIZATIONS, *, first: int = 0) -> Iterator[Event]:
    """Yield so many records, of which `DUPLICATES` repeat one before them, value and key alike.

    Those with another `first` number are other events.
    """
    chance = random.Random(SEED)
    names = [org_id(number).encode() for number in range(organizations)]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, organizations + 1)))
    recent: list[Event] = []
    unique = identities(records)
    repeats = set(chance.sample(range(1, records), records - unique))
    number = first
    for place in range(records):
        if place in repeats:
            yield chance.choice(recent)
            continue
        [org] = chance.choices(names, cum_weights=weights)
        event = Event(number, org, job_value(number, org))
        number += 1
        if len(recent) < REDELIVERED_WITHIN:
            recent.append(event)
        else:
            recent[(number - first) % REDELIVERED_WITHIN] = event
        yield event


def identities(records: int) -> int:
    """How many different events are among so many records."""
    return records - int(records * DUPLICATES)


def org_created(org: str, owner: str) -> bytes:
    """Return the `org.created` of an organization, with 1,000,000 credits."""
    return _envelope(
        f"created-{org}",
        "org.created",
        {"org_id": org, "name": org, "owner_user_id": owner, "initial_credits": 1_000_000},
    )


def user_joined(org: str, user: str) -> bytes:
    """Return the `user.joined` of a user."""
    return _envelope(f"joined-{user}", "user.joined", {"org_id": org, "user_id": user})


def _envelope(id_: str, type_: str, data: dict[str, object]) -> bytes:
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": id_,
            "source": "/platform",
            "type": type_,
            "time": "2026-03-01T12:00:00Z",
            "data": data,
        }
    )
