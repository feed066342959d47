"""Events as the platform sends them, put through ingest, and what then stands in the database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest.batch import Applied, Received, RejectedRecord, apply_batch
from consumer.ingest.judging import IngestPolicy
from schemas.decode import IncomingRecord, Rejected, decode
from schemas.event import InboundEvent
from schemas.json_codec import dump_json, parse_json
from schemas.outcomes import Origin
from schemas.transactions import grant_id
from storage import ledger, organizations, outbox, tables
from storage.database import Database
from storage.ledger import EntryKind, LedgerEntry
from storage.organizations import OrgProfile, OrgState
from storage.outbox import PendingRecord

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
POLICY = IngestPolicy(our_source="/quartermaster", credits_per_job=1, dependency_wait=timedelta(seconds=60))


def record(
    type_: str, data: dict[str, Any], *, id_: str, offset: int = 0, raw: bytes | None = None
) -> IncomingRecord:
    value = raw or dump_json(
        {
            "specversion": "1.0",
            "id": id_,
            "source": "/platform",
            "type": type_,
            "time": "2026-03-01T11:00:00Z",
            "data": data,
        }
    )
    return IncomingRecord("in", 0, offset, 0, b"key", value, ())


def received(one: IncomingRecord) -> Received:
    event = decode(one, max_bytes=1_000_000)
    assert isinstance(event, InboundEvent), event
    return Received(event, one)


def job(job_id: str, *, org: str = "acme", status: str = "completed", id_: str | None = None) -> Received:
    data = {"org_id": org, "job_id": job_id, "status": status}
    return received(record("job.completed", data, id_=id_ or f"e-{org}-{job_id}"))


def joined(user: str = "u", *, org: str = "acme") -> Received:
    return received(record("user.joined", {"org_id": org, "user_id": user}, id_=f"u-{org}-{user}"))


def founded(*, org: str = "acme") -> Received:
    data = {"org_id": org, "name": "Acme", "owner_user_id": "ann"}
    return received(record("org.created", data, id_=f"o-{org}"))


async def ingest(
    database: Database,
    *events: Received,
    rejected: Sequence[RejectedRecord] = (),
    now: datetime = NOW,
    origin: Origin = Origin.LIVE,
) -> Applied:
    async def work(tx: AsyncConnection) -> Applied:
        return await apply_batch(tx, events, rejected, policy=POLICY, origin=origin, now=now)

    return await database.run(work)


async def activate(database: Database, *, org: str = "acme", credits_: int = 10) -> None:
    """Put an active organization there, as provisioning would."""

    async def work(tx: AsyncConnection) -> None:
        state = (await organizations.lock(tx, [org]))[org]
        profile = OrgProfile(
            org_id=org,
            name=org,
            owner_user_id="ann",
            team_id=org,
            adopted=False,
            max_budget_usd=None,
            models=(),
            metadata=None,
            provisioned_at=NOW,
        )
        state = await organizations.activate(tx, state, profile)
        if credits_:
            entry = LedgerEntry(
                transaction_id=grant_id(org),
                org_id=org,
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
            await ledger.append(tx, [entry])
            await organizations.save(tx, [state._replace(balance=credits_, entries=1)])

    await database.run(work)


async def state_of(database: Database, org: str = "acme") -> OrgState:
    async with database.reading() as tx:
        return (await organizations.read(tx, [org]))[org]


async def outcomes_of(database: Database) -> list[dict[str, Any]]:
    """All outcomes, in the order in which the relay would publish them."""
    async with database.reading() as tx:
        rows = await outbox.pending(tx, list(range(outbox.SHARDS)), after=0, limit=100_000)
    found = []
    for row in rows:
        if row.stream != "dead_letter":
            assert row.value is not None
            parsed = parse_json(row.value)
            assert isinstance(parsed, dict)
            found.append(parsed)
    return found


async def letters_of(database: Database) -> list[PendingRecord]:
    """All dead letters, in the order in which the relay would publish them."""
    async with database.reading() as tx:
        rows = await outbox.pending(tx, list(range(outbox.SHARDS)), after=0, limit=100_000)
    return [row for row in rows if row.stream == "dead_letter"]


def rejected_of(one: IncomingRecord) -> RejectedRecord:
    rejected = decode(one, max_bytes=1_000_000)
    assert isinstance(rejected, Rejected), rejected
    return RejectedRecord(rejected, one)


async def inbox_rows(database: Database) -> list[Any]:
    async with database.reading() as tx:
        return list(await tx.execute(select(tables.inbox).order_by(tables.inbox.c.inbox_id)))
