"""A history in which every guarantee holds, and the means to spoil it in one place."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.checker.history import (
    Emitted,
    Headers,
    History,
    Key,
    LedgerEntry,
    Policy,
    Proxy,
    Published,
    Team,
)
from tests.checker.reading import outcome_id

POLICY = Policy()
PROVISIONING = POLICY.provisioning_topic
CREDITS = POLICY.credits_topic
LETTERS = POLICY.dead_letter_topic
SOURCE = "/platform"
TIME = "2026-03-01T12:00:00Z"
CONTENT: Headers = (("content-type", b"application/cloudevents+json"),)
KEY = {"name": "default", "alias": "qm-1", "hash": "a" * 64}
OTHER_KEY = {"name": "default", "alias": "qm-2", "hash": "b" * 64}
STARTED = "2026-03-01T11:00:00Z"


def envelope(type_: str, id_: str, data: Mapping[str, Any]) -> bytes:
    return json.dumps(
        {"specversion": "1.0", "id": id_, "source": SOURCE, "type": type_, "time": TIME, "data": data}
    ).encode()


def transaction(job: str) -> str:
    return f"transaction of {job}"


@dataclass
class Story:
    """A run, told event by event; everything stands on partition 0."""

    published: list[Published] = field(default_factory=list)
    emitted: list[Emitted] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    balance: int = 0
    charges: int = 0

    def receive(
        self, topic: str, value: bytes | None, *, org: str = "acme", headers: Headers = ()
    ) -> Published:
        offset = sum(one.topic == topic for one in self.published)
        record = Published(topic, 0, offset, org.encode(), value, headers, 1_772_366_400_000)
        self.published.append(record)
        return record

    def emit(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        offset = sum(one.topic == topic for one in self.emitted)
        self.emitted.append(Emitted(topic, 0, offset, key, value, headers))

    def tell(self, type_: str, cause: str, data: Mapping[str, Any]) -> None:
        topic = CREDITS if type_.startswith("credits.") else PROVISIONING
        told = {
            "specversion": "1.0",
            "id": outcome_id((SOURCE, cause), type_, 1),
            "source": POLICY.source,
            "type": type_,
            "subject": data["org_id"],
            "causationid": cause,
            "causationsource": SOURCE,
            "causationtime": TIME,
            "round": 1,
            "data": data,
        }
        self.emit(topic, data["org_id"].encode(), json.dumps(told).encode(), CONTENT)

    def letter(self, record: Published, reason: str) -> None:
        ours = {
            "qm-reason": reason,
            "qm-original-topic": record.topic,
            "qm-original-partition": str(record.partition),
            "qm-original-offset": str(record.offset),
        }
        kept = tuple(one for one in record.headers if not one[0].startswith("qm-"))
        headers = kept + tuple((name, value.encode()) for name, value in ours.items())
        self.emit(LETTERS, record.key, record.value, headers)

    def job(self, id_: str, job: str, status: str = "completed") -> None:
        data = {"org_id": "acme", "job_id": job, "status": status, "usage": {"avg_latency_ms": 1.50}}
        self.receive("job.completed", envelope("job.completed", id_, data))
        facts = data | {"account_id": "acme", "occurred_at": TIME}
        if status != "completed":
            self.skipped(id_, facts, reason=f"job_{status}")
        elif any(entry.job_id == job for entry in self.ledger):
            self.skipped(id_, facts, reason="job_already_charged", transaction_id=transaction(job))
        elif self.balance < POLICY.price:
            short = {"reason": "insufficient_credits", "required": 1, "available": self.balance}
            self.tell("credits.deduction_failed", id_, facts | short)
        else:
            self.charge(id_, job, facts)

    def skipped(self, id_: str, facts: Mapping[str, Any], **why: str) -> None:
        said = {**facts, **why, "credits_balance": self.balance}
        self.tell("credits.deduction_skipped", id_, said)

    def charge(self, id_: str, job: str, facts: Mapping[str, Any]) -> None:
        before = self.balance
        self.balance -= 1
        self.charges += 1
        self.ledger.append(
            LedgerEntry("acme", transaction(job), "charge", job, -1, self.balance, self.charges)
        )
        said = {
            "transaction_id": transaction(job),
            "credits": 1,
            "balance_before": before,
            "balance_after": self.balance,
            "sequence": self.charges,
        }
        self.tell("credits.deducted", id_, {**facts, **said})


def good() -> History:
    """An organization with three credits, a second user, six jobs, a conflict, a duplicate, a bad record."""
    story = Story()
    asked = {"org_id": "acme", "name": "Acme", "owner_user_id": "ann", "initial_credits": 3}
    told = {"org_id": "acme", "team_id": "acme", "name": "Acme", "max_budget_usd": None}
    org = told | {"owner": {"user_id": "ann", "email_set": False, "key": KEY}}
    story.receive("org.created", envelope("org.created", "o1", asked))
    story.receive("org.created", envelope("org.created", "o2", asked))
    story.ledger.append(LedgerEntry("acme", "grant of acme", "grant", None, 3, 3, None))
    story.balance = 3
    story.tell("org.provisioned", "o1", org | {"created": True})
    story.tell("org.provisioned", "o2", org | {"created": False})
    for id_, user, key in (("u1", "bob", OTHER_KEY), ("u2", "ann", KEY)):
        joined = {"org_id": "acme", "user_id": user}
        story.receive("user.joined", envelope("user.joined", id_, joined))
        story.tell("user.provisioned", id_, joined | {"created": user == "bob", "key": key})
    story.job("e1", "job 1")
    story.job("e2", "job 2", "failed")
    story.job("e3", "job 1")
    story.receive("job.completed", story.published[-1].value)
    story.job("e4", "job 2")
    story.job("e5", "job 3")
    story.job("e6", "job 4")
    other = {"org_id": "acme", "job_id": "job 5", "status": "completed"}
    story.letter(story.receive("job.completed", envelope("job.completed", "e1", other)), "id_conflict")
    bad = story.receive("user.joined", b"{", headers=(("qm-reason", b"x"), ("trace", None), ("trace", b"1")))
    story.letter(bad, "invalid_json")
    story.receive("user.joined", b'{"type": "nothing.known"}')
    story.receive("user.joined", None)
    # A repeat, as after a relay that was killed.
    story.emitted.append(replace(story.emitted[0], offset=len(story.emitted)))
    return History(
        published=story.published,
        emitted=story.emitted,
        ledger=story.ledger,
        balances={"acme": 0},
        proxy=Proxy(
            teams={"acme": Team("Acme", None, ["default_user_id", "ann", "bob"])},
            users=frozenset({"ann", "bob"}),
            keys=[
                Key(KEY["hash"], KEY["alias"], "acme", "ann"),
                Key(OTHER_KEY["hash"], OTHER_KEY["alias"], "acme", "bob"),
            ],
        ),
    )


def told(record: Emitted) -> dict[str, Any]:
    """What an outcome's record says."""
    found: dict[str, Any] = json.loads(record.value or b"")
    return found


def is_about(type_: str, cause: str | None = None) -> Callable[[Emitted], bool]:
    """Whether a record is an outcome of this type, and of this event."""

    def matches(record: Emitted) -> bool:
        if record.topic == LETTERS:
            return False
        found = told(record)
        return found["type"] == type_ and cause in {None, found["causationid"]}

    return matches


def retold(record: Emitted, **changes: Any) -> Emitted:
    """The outcome's record with other data; `envelope_...` changes the envelope."""
    found = told(record)
    for name, value in changes.items():
        if name.startswith("envelope_"):
            found[name.removeprefix("envelope_")] = value
        else:
            found["data"][name] = value
    return replace(record, value=json.dumps(found).encode())


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
