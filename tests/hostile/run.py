"""Hostile records through ingest as it runs, each compared with what the contract says it is."""

import asyncio
import json
import random
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest.judging import IngestPolicy
from consumer.ingest.loop import Ingest, IngestLimits
from consumer.ingest.offsets import OffsetsToCommit
from consumer.ingest.records import Decoded
from consumer.ingest.status import IngestStatus
from consumer.metrics import Metrics
from schemas.dead_letters import decode_headers
from schemas.decode import PassedOver, Rejected
from schemas.transactions import grant_id
from storage import ledger, organizations
from storage.database import Database
from storage.ledger import EntryKind, LedgerEntry
from storage.organizations import OrgProfile
from tests.hostile.books import Books, given
from tests.hostile.reference import Expected, Number, expected, read_json
from tests.hostile.upstream import ACTIVE, MAX_BYTES, Upstream

PARTITION = TopicPartition("events", 0)
BATCH = 1000
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = IngestPolicy(our_source="/quartermaster", credits_per_job=1, dependency_wait=timedelta(hours=1))

Progress = Callable[[int, float], None]


@dataclass(slots=True)
class Report:
    """What a run came to.

    Attributes:
        seed: What it followed from.
        records: How many records were read, those read again included.
        seconds: How long it took.
        decided: What became of them.
        differences: Where the product and the reference disagree; empty where all is well.
    """

    seed: int
    records: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    decided: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Say it."""
        rate = f"{self.records / max(self.seconds, 0.001):,.0f}/s"
        return [
            f"seed {self.seed}: {self.records:,} records in {self.seconds:.0f} s ({rate})",
            f"  slowest batch to decode: {self.slowest_ms:,.0f} ms",
            *(f"  {count:>9,}  {what}" for what, count in self.decided.most_common()),
            *(f"DIFFERENCE {one}" for one in self.differences[:20]),
        ]


class _OneMember:
    """As much of a consumer as ingest needs to commit."""

    def assignment(self) -> set[TopicPartition]:
        return {PARTITION}

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        pass


class Run:
    """One stream of records into one database."""

    def __init__(self, database: Database, path: Path, seed: int) -> None:
        self._database = database
        self._path = path
        self._chance = random.Random(seed)
        self._upstream = Upstream(seed)
        self._books = Books(given(ACTIVE))
        self._sent: dict[int, bytes] = {}
        self._samples: dict[tuple[str, str], Any] = {}
        self._last: Sequence[ConsumerRecord] = ()
        self._offset = 0
        self._metrics = Metrics(CollectorRegistry())
        self.report = Report(seed)
        self._ingest = Ingest(
            _OneMember(),
            database,
            POLICY,
            IngestLimits(max_event_bytes=MAX_BYTES, breaker_bad=None),
            offsets=OffsetsToCommit(),
            metrics=self._metrics,
            status=IngestStatus(),
            on_applied=lambda _applied: None,
            clock=_noon,
        )

    async def go(self, records: int, *, within_s: float, progress: Progress = lambda _n, _s: None) -> Report:
        """Read so many records, then compare the sums."""
        started = time.monotonic()
        for org_id, credits_ in given(ACTIVE).items():
            await self._database.run(_activation(org_id, credits_))
        while self.report.records < records:
            self.report.seconds = time.monotonic() - started
            if self.report.seconds > within_s:
                self.report.differences.append(
                    f"the time limit of {within_s:.0f} s, {records:,} records to read"
                )
                break
            await self._batch(min(BATCH, records - self.report.records))
            progress(self.report.records, time.monotonic() - started)
        self._compare_sums()
        await self._compare_database()
        self.report.seconds = time.monotonic() - started
        return self.report

    async def _batch(self, size: int) -> None:
        batch = self._again(size) or [self._next() for _ in range(size)]
        before = time.monotonic()
        decoded = await self._ingest._decode({PARTITION: list(batch)})
        self.report.slowest_ms = max(self.report.slowest_ms, 1000 * (time.monotonic() - before))
        for record, one in zip(batch, decoded, strict=True):
            meant = expected(record.value, tuple(record.headers), max_bytes=MAX_BYTES)
            self._compare(record, one, meant)
            became = self._books.take(record.offset, meant)
            self.report.decided[became] += 1
            if became == "accepted" and (meant.data or {}).get("usage") and len(self._samples) < 20_000:
                self._samples[str(meant.source), str(meant.id)] = meant.data
        following: asyncio.Future[list[Decoded]] = asyncio.get_running_loop().create_future()
        await self._ingest._handle(decoded, following)
        self.report.records += len(batch)
        self._last = batch

    def _again(self, size: int) -> Sequence[ConsumerRecord]:
        """Read the last batch again, from anywhere in it, as after a crash before the commit."""
        if not self._last or self._chance.random() > 0.03:
            return ()
        start = self._chance.randrange(len(self._last))
        return self._last[start : start + size]

    def _next(self) -> ConsumerRecord:
        sent = self._upstream.next()
        offset, self._offset = self._offset, self._offset + self._chance.choice((1, 1, 1, 2))
        self._sent[offset] = _digest(sent.key, sent.value, sent.headers)
        return ConsumerRecord(
            topic=PARTITION.topic,
            partition=PARTITION.partition,
            offset=offset,
            timestamp=sent.timestamp_ms,
            timestamp_type=0,
            key=sent.key,
            value=sent.value,
            checksum=None,
            serialized_key_size=-1,
            serialized_value_size=-1,
            headers=sent.headers,
        )

    def _compare(self, record: ConsumerRecord, one: Decoded, meant: Expected) -> None:
        meaning = one.meaning
        match meaning:
            case PassedOver():
                found: tuple[object, ...] = ("null" if meaning.why == "null" else "unknown",)
                wanted: tuple[object, ...] = (meant.what,)
            case Rejected():
                found = (meaning.reason.value, meaning.event_type, meaning.event_source, meaning.event_id)
                wanted = (meant.what, meant.type, meant.source, meant.id)
            case _:
                data = meant.data or {}
                found = (
                    "event",
                    meaning.type.value,
                    meaning.source,
                    meaning.id,
                    meaning.org_id,
                    meaning.subject,
                )
                subject = data.get(
                    {"job.completed": "job_id", "user.joined": "user_id"}.get(str(meant.type), ""), ""
                )
                wanted = (meant.what, meant.type, meant.source, meant.id, data.get("org_id"), subject)
        if found != wanted:
            self._differ(
                f"offset {record.offset}: {found} instead of {wanted}: {record.value!r} {record.headers!r}"
            )

    def _differ(self, what: str) -> None:
        if len(self.report.differences) < 100:
            self.report.differences.append(what[:2000])

    def _equal(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self._differ(f"{what}: {found} instead of {wanted}")

    # -- sums ---------------------------------------------------------------------------------------------

    def _compare_sums(self) -> None:
        counted = Counter(
            {
                (sample.labels["type"], sample.labels["result"]): int(sample.value)
                for family in self._metrics.registry.collect()
                for sample in family.samples
                if sample.name == "quartermaster_events_total" and sample.value
            }
        )
        self._equal("quartermaster_events_total", counted, self._books.events)
        nulls = self._metrics.registry.get_sample_value("quartermaster_null_records_total")
        self._equal("quartermaster_null_records_total", nulls, self._books.nulls)
        self._equal("what became of all records", sum(self.report.decided.values()), self.report.records)

    async def _compare_database(self) -> None:
        async with self._database.reading() as tx:
            verified = await ledger.verify(tx)
        self._equal("ledger verify", verified.problems, type(verified.problems)())
        books = self._books
        with sqlite3.connect(f"file:{self._path}?mode=ro", uri=True) as db:
            self._equal("identities", _one(db, "identities"), len(books.identities))
            dead = dict(db.execute("select reason, count(*) from dead_letters group by reason"))
            self._equal("dead letters", Counter(dead), books.reasons())
            inbox = {
                (type_, state): count
                for type_, state, count in db.execute("select type, state, count(*) from inbox group by 1, 2")
            }
            self._equal("inbox", Counter(inbox), books.inbox)
            balances = dict(db.execute("select org_id, balance from organizations where status = 'active'"))
            self._equal("balances", balances, {org: one.balance for org, one in books.accounts.items()})
            pending = _one(db, "outbox")
            self._equal("outbox", pending, len(books.outcomes) + len(books.dead))
            self._compare_outcomes(db)
            self._compare_dead_letters(db)
        db.close()

    def _compare_outcomes(self, db: sqlite3.Connection) -> None:
        found: dict[tuple[str, str], str] = {}
        rows = db.execute("select outcome_id, type, org_id, value from outcomes order by outcome_seq")
        for outcome_id, type_, org_id, value in rows:
            outcome = read_json(value)
            identity = (outcome["causationsource"], outcome["causationid"])
            name = json.dumps([*identity, type_, 1], ensure_ascii=False, separators=(",", ":"))
            wanted = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
            if (outcome["id"], uuid.UUID(outcome_id), outcome["subject"]) != (
                wanted,
                uuid.UUID(wanted),
                org_id,
            ):
                self._differ(f"outcome {outcome['id']} of {identity}")
            if identity in found:
                self._differ(f"a second outcome of {identity}")
            found[identity] = type_
            if identity in self._samples:
                self._compare_usage(outcome["data"].get("usage"), self._samples[identity]["usage"])
        self._equal("outcomes", Counter(found.values()), Counter(self._books.outcomes.values()))
        if found != self._books.outcomes:
            self._differ("other events have outcomes than should")

    def _compare_usage(self, told: dict[str, Any], received: dict[str, Any]) -> None:
        """Digit for digit, as received."""
        for name, value in received.items():
            if value is None or name not in _USAGE:
                continue
            if isinstance(value, Number):
                digits = Decimal(value) if name == "avg_latency_ms" else None
                same = (
                    told[name] == value
                    if digits is None
                    else Decimal(told[name]).as_tuple() == digits.as_tuple()
                )
                same = same or (name == "total_cost_usd" and Decimal(told[name]) == Decimal(value))
                same = same or (value == "-0" and told[name] in {"0", "-0"})
            else:
                same = told[name] == value
            if not same:
                self._differ(f"usage.{name}: {told[name]} instead of {value}")

    def _compare_dead_letters(self, db: sqlite3.Connection) -> None:
        rows = db.execute('select "offset", reason, key, value, headers from dead_letters')
        for offset, reason, key, value, headers in rows:
            self._equal(f"the reason at {offset}", reason, self._books.dead.get(offset))
            if _digest(key, value, decode_headers(headers)) != self._sent[offset]:
                self._differ(f"the dead letter of {offset} is not what was received")


_USAGE = {
    "total_calls",
    "successful_calls",
    "failed_calls",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "total_cost_usd",
    "avg_latency_ms",
}


def _one(db: sqlite3.Connection, table: str) -> int:
    (count,) = db.execute(f"select count(*) from {table}").fetchone()
    return int(count)


def _digest(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    return blake2b(repr((key, value, tuple(headers))).encode(), digest_size=12).digest()


async def _noon(_tx: AsyncConnection) -> datetime:
    return NOW


def _activation(org_id: str, credits_: int) -> Callable[[AsyncConnection], Any]:
    async def work(tx: AsyncConnection) -> None:
        state = (await organizations.lock(tx, [org_id]))[org_id]
        profile = OrgProfile(
            org_id=org_id,
            name="Hostile",
            owner_user_id="owner",
            team_id=org_id,
            adopted=False,
            max_budget_usd=None,
            models=(),
            metadata=None,
            provisioned_at=NOW,
        )
        state = await organizations.activate(tx, state, profile)
        grant = LedgerEntry(
            transaction_id=grant_id(org_id),
            org_id=org_id,
            entry=1,
            kind=EntryKind.GRANT,
            credits=credits_,
            balance_after=credits_,
            sequence=None,
            job_id=None,
            reason=None,
            corrects=None,
            created_at=NOW,
        )
        await ledger.append(tx, [grant])
        await organizations.save(tx, [state._replace(balance=credits_, entries=1)])

    return work
