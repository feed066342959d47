"""Topics with a mixed history, a database to replay them into, and what then stands in its books."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from sqlalchemy import select

from producers.kafka_client import partition_of
from storage import tables
from storage.database import Database
from tests.integration.consumer.ingest.events import activate

PARTITIONS: Final = 6
ORGS: Final = tuple(f"org-{number}" for number in range(12))
POOR: Final = ORGS[0]
"""Has fewer credits than jobs."""
LATE: Final = ORGS[1]
"""Is not active: its events wait."""


def mixed(events: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Give keys and values: jobs, repeats, contradictions, broken records, and what needs LiteLLM."""
    random = Random(seed)
    sent: list[tuple[str, bytes]] = []
    for number in range(events):
        org = random.choice(ORGS)
        match random.choices(
            ["job", "repeat", "conflict", "bad", "unknown", "user", "org"], [80, 8, 2, 1, 2, 5, 2]
        )[0]:
            case "repeat" if sent:
                key, value = sent[random.randrange(max(0, len(sent) - 500), len(sent))]
            case "conflict" if sent:
                key, earlier = sent[random.randrange(max(0, len(sent) - 500), len(sent))]
                document = json.loads(earlier)
                value = _event(
                    document["type"], document["data"] | {"metadata": {"n": number}}, document["id"]
                )
            case "bad":
                key, value = org, b"no event %d" % number
            case "unknown":
                key, value = org, _event("job.started", {"org_id": org}, f"x-{number}")
            case "user":
                key, value = (
                    org,
                    _event("user.joined", {"org_id": org, "user_id": f"u-{number}"}, f"u-{number}"),
                )
            case "org":
                data = {"org_id": org, "name": org, "owner_user_id": f"{org}-ann"}
                key, value = org, _event("org.created", data, f"o-{number}")
            case _:
                status = random.choice(["completed", "completed", "completed", "failed", "cancelled"])
                # Some jobs are named twice, by events of their own.
                job = random.randrange(max(0, number - 3), number + 1)
                data = {"org_id": org, "job_id": f"{org}-j{job}", "status": status}
                key, value = org, _event("job.completed", data, f"j-{number}")
        yield key, value
        if value.startswith(b"{") and b"job.started" not in value:
            sent.append((key, value))


def _event(type_: str, data: Mapping[str, Any], id_: str) -> bytes:
    envelope = {"specversion": "1.0", "id": id_, "source": "/platform", "type": type_, "data": data}
    return json.dumps({**envelope, "time": "2026-03-01T12:00:00Z"}).encode()


async def publish(address: str, topic: str, events: int, seed: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address, linger_ms=20, max_batch_size=256 * 1024)
    await producer.start()
    try:
        sent = []
        for key, value in mixed(events, seed):
            partition = partition_of(key.encode(), PARTITIONS)
            sent.append(await producer.send(topic, value, key=key.encode(), partition=partition))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def prepare(url: str, credits_: int) -> None:
    """Make the organizations active, all but one."""
    database = await Database.connect(url)
    try:
        for org in ORGS:
            if org != LATE:
                await activate(database, org=org, credits_=10 if org == POOR else credits_)
    finally:
        await database.close()


async def dump(database: Database) -> dict[str, list[str]]:
    """Give every row of every table."""
    async with database.reading() as tx:
        return {
            name: sorted(map(repr, await tx.execute(select(table))))
            for name, table in tables.metadata.tables.items()
        }


async def books(url: str) -> dict[str, Any]:
    """Give everything in the books but for when it was decided, and in which order between organizations."""
    t = tables
    found: dict[str, Any] = {}
    database = await Database.connect(url)
    try:
        async with database.reading() as tx:

            async def rows(name: str, *columns: Any) -> None:
                found[name] = sorted(tuple(map(str, row)) for row in await tx.execute(select(*columns)))

            ledger, outcomes, inbox, letters = t.ledger_entries.c, t.outcomes.c, t.inbox.c, t.dead_letters.c
            await rows("organizations", *(one for one in t.organizations.c if one.name != "failed_at"))
            await rows("identities", *t.identities.c)
            await rows("ledger", *(one for one in ledger if one.name != "created_at"))
            await rows("inbox", inbox.identity, inbox.state, inbox.reason, inbox.round, inbox.event)
            await rows(
                "outcomes", outcomes.outcome_id, outcomes.type, outcomes.org_id, outcomes.cause_identity
            )
            await rows("dead letters", letters.digest, letters.reason, letters.topic, letters.offset)
            await rows("outbox", t.outbox.c.stream, t.outbox.c.org_id, t.outbox.c.shard)
            in_order = select(outcomes.org_id, outcomes.outcome_id).order_by(outcomes.outcome_seq)
            of_each: dict[str, list[str]] = {}
            for org_id, outcome_id in await tx.execute(in_order):
                of_each.setdefault(org_id, []).append(str(outcome_id))
            found["order of outcomes"] = of_each
    finally:
        await database.close()
    return found


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Say in which parts two books differ."""
    return [f"{part}: {len(one[part])} and {len(other[part])}" for part in one if one[part] != other[part]]
