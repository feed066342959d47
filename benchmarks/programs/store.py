"""The books as the peers keep them: SQLAlchemy over PostgreSQL, exactly once, as one would write them.

Four tables: events by (source, id), organizations with their balance, the ledger, the outbox. One function
charges a single event, another a whole batch; a relay publishes the outbox. `python -m
benchmarks.programs.store URL ORGANIZATIONS` makes them.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from schemas.event import InboundEvent
from schemas.json_codec import dump_json

PRICE = 1
RELAY_ROWS = 1_000
POLL_S = 0.05
HEADERS = [("content-type", b"application/cloudevents+json")]

metadata = MetaData()
events = Table(
    "events", metadata, Column("source", Text, primary_key=True), Column("id", Text, primary_key=True)
)
accounts = Table(
    "accounts",
    metadata,
    Column("org_id", Text, primary_key=True),
    Column("balance", BigInteger, nullable=False),
    Column("charges", BigInteger, nullable=False),
    CheckConstraint("balance >= 0"),
)
ledger = Table(
    "ledger",
    metadata,
    Column("org_id", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("credits", BigInteger, nullable=False),
    Column("balance_after", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("org_id", "job_id"),
)
outbox = Table(
    "outbox",
    metadata,
    Column("outbox_id", BigInteger, Identity(), primary_key=True),
    Column("key", LargeBinary, nullable=False),
    Column("value", LargeBinary, nullable=False),
)


class NoCredit(Exception):  # noqa: N818 - says what is so
    """An organization that does not exist, or has no credits left."""


async def charge_one(tx: AsyncConnection, event: InboundEvent) -> None:
    """Charge one job, once for its event and its job; its outcome goes to the outbox."""
    known = insert(events).values(source=event.source, id=event.id).on_conflict_do_nothing()
    if not (await tx.execute(known)).rowcount:
        return
    taken = await tx.execute(
        update(accounts)
        .where(accounts.c.org_id == event.org_id, accounts.c.balance >= PRICE)
        .values(balance=accounts.c.balance - PRICE, charges=accounts.c.charges + 1)
        .returning(accounts.c.balance, accounts.c.charges)
    )
    row = taken.one_or_none()
    if row is None:
        raise NoCredit(event.org_id)
    await tx.execute(insert(ledger).values(**_entry(event, row.balance, row.charges)))
    await tx.execute(insert(outbox).values(key=event.org_id.encode(), value=_outcome(event, row.balance)))


async def charge_batch(tx: AsyncConnection, batch: Sequence[InboundEvent]) -> None:
    """Charge a batch of jobs in one transaction, with a statement for each table."""
    first: dict[tuple[str, str], InboundEvent] = {}
    for event in batch:
        first.setdefault((event.source, event.id), event)
    inserted = await tx.execute(
        insert(events)
        .values([{"source": source, "id": id_} for source, id_ in sorted(first)])
        .on_conflict_do_nothing()
        .returning(events.c.source, events.c.id)
    )
    new = {(row.source, row.id) for row in inserted}
    fresh = [event for key, event in first.items() if key in new]
    if not fresh:
        return
    wanted = sorted({event.org_id for event in fresh})
    locked = await tx.execute(
        select(accounts).where(accounts.c.org_id.in_(wanted)).order_by(accounts.c.org_id).with_for_update()
    )
    balance, charges = {}, {}
    for row in locked:
        balance[row.org_id], charges[row.org_id] = row.balance, row.charges
    entries, outcomes = [], []
    for event in fresh:
        org = event.org_id
        if balance.get(org, 0) < PRICE:
            raise NoCredit(org)
        balance[org] -= PRICE
        charges[org] += 1
        entries.append(_entry(event, balance[org], charges[org]))
        outcomes.append({"key": org.encode(), "value": _outcome(event, balance[org])})
    await tx.execute(
        update(accounts)
        .where(accounts.c.org_id == bindparam("org"))
        .values(balance=bindparam("new_balance"), charges=bindparam("new_charges")),
        [{"org": org, "new_balance": balance[org], "new_charges": charges[org]} for org in wanted],
    )
    await tx.execute(insert(ledger), entries)
    await tx.execute(insert(outbox), outcomes)


def _entry(event: InboundEvent, balance: int, sequence: int) -> dict[str, object]:
    return {
        "org_id": event.org_id,
        "sequence": sequence,
        "job_id": event.subject,
        "credits": -PRICE,
        "balance_after": balance,
        "created_at": datetime.now(UTC),
    }


def _outcome(event: InboundEvent, balance: int) -> bytes:
    """Write an outcome about as long as ours."""
    return dump_json(
        {
            "specversion": "1.0",
            "id": f"deducted-{event.id}",
            "source": "/peer",
            "type": "credits.deducted",
            "subject": event.org_id,
            "causationid": event.id,
            "causationsource": event.source,
            "data": {
                "org_id": event.org_id,
                "job_id": event.subject,
                "credits": PRICE,
                "balance_before": balance + PRICE,
                "balance_after": balance,
                "padding": "x" * 804,
            },
        }
    )


class Relay:
    """Publishes the outbox in order, and deletes what the broker has acknowledged."""

    def __init__(self, engine: AsyncEngine, kafka: str, topic: str) -> None:
        self._engine = engine
        self._topic = topic
        self._producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publish beside the block."""
        async with self._producer:
            task = asyncio.create_task(self._run())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            if not await self._publish():
                await asyncio.sleep(POLL_S)

    async def _publish(self) -> int:
        async with self._engine.begin() as tx:
            found = await tx.execute(select(outbox).order_by(outbox.c.outbox_id).limit(RELAY_ROWS))
            rows = found.all()
            if rows:
                sent = [
                    await self._producer.send(self._topic, row.value, key=row.key, headers=HEADERS)
                    for row in rows
                ]
                await asyncio.gather(*sent)
                await tx.execute(
                    delete(outbox).where(outbox.c.outbox_id.in_([row.outbox_id for row in rows]))
                )
        return len(rows)


async def create(url: str, org_ids: Sequence[str], balance: int) -> None:
    """Make the tables, and an account for each organization."""
    engine = create_async_engine(url)
    async with engine.begin() as tx:
        await tx.run_sync(metadata.create_all)
        await tx.execute(
            insert(accounts), [{"org_id": org, "balance": balance, "charges": 0} for org in org_ids]
        )
    await engine.dispose()


async def check(url: str, *, charges: int, balance: int) -> None:
    """Prove that so many jobs were charged, each once, and that the balances say the same."""
    engine = create_async_engine(url)
    async with engine.connect() as tx:
        booked = Counter({row.org_id: row.booked for row in await tx.execute(_BOOKED)})
        stand = {row.org_id: row for row in await tx.execute(select(accounts))}
    await engine.dispose()
    assert booked.total() == charges, f"{booked.total()} charges instead of {charges}"
    for org, row in stand.items():
        assert (row.charges, balance - row.balance) == (booked[org], booked[org] * PRICE), org


_BOOKED = select(ledger.c.org_id, func.count().label("booked")).group_by(ledger.c.org_id)
