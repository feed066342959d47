"""One provisioner over a database and a stand-in, with a clock that moves only when told to."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest.batch import Received, apply_batch
from consumer.ingest.judging import IngestPolicy
from consumer.litellm.client import LiteLLMClient
from consumer.litellm.gate import HealthGate
from consumer.provisioning.policy import ProvisionerPolicy
from consumer.provisioning.pool import Provisioner
from consumer.standin import StandIn
from schemas.decode import IncomingRecord, decode
from schemas.event import InboundEvent
from schemas.outcomes import Origin
from storage import inbox, ledger, members, organizations, resources, tables, virtual_keys
from storage.database import Database
from storage.inbox import WaitReason
from storage.ledger import Verification
from storage.resources import Resource
from storage.virtual_keys import KeyVault, StoredKey

SOURCE = "/upstream"
OUR_SOURCE = "/quartermaster"
START = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Time:
    """The database's clock and the monotonic one, moving together."""

    now: datetime = START

    async def database(self, _tx: AsyncConnection) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return (self.now - START).total_seconds()

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def event(type_: str, id_: str, **data: Any) -> InboundEvent:
    """An event as it comes from upstream."""
    value = {"specversion": "1.0", "id": id_, "source": SOURCE, "type": type_, "data": data}
    raw = json.dumps(value).encode()
    decoded = decode(IncomingRecord("events", 0, 0, 1_700_000_000_000, b"key", raw, ()), max_bytes=524_288)
    assert isinstance(decoded, InboundEvent), decoded
    return decoded


def org_created(org_id: str = "org", id_: str = "e-org", **data: Any) -> InboundEvent:
    wanted = {"name": "Acme", "owner_user_id": f"owner-of-{org_id}", "max_budget_usd": "25.00", **data}
    return event("org.created", id_, org_id=org_id, **wanted)


def user_joined(
    user_id: str = "ann", id_: str | None = None, org_id: str = "org", **data: Any
) -> InboundEvent:
    return event("user.joined", id_ or f"e-{org_id}-{user_id}", org_id=org_id, user_id=user_id, **data)


def job_completed(job_id: str = "job", org_id: str = "org", **data: Any) -> InboundEvent:
    return event(
        "job.completed",
        f"e-{org_id}-{job_id}",
        org_id=org_id,
        job_id=job_id,
        **{"status": "completed", **data},
    )


@dataclass
class World:
    """Everything a scenario needs."""

    database: Database
    standin: StandIn
    client: LiteLLMClient
    time: Time
    vault: KeyVault
    policy: ProvisionerPolicy
    activated: list[str] = field(default_factory=list)
    decided: int = 0
    provisioner: Provisioner = field(init=False)
    gate: HealthGate = field(init=False)

    def __post_init__(self) -> None:
        self._news = asyncio.Event()
        self.restart()

    def restart(self, **changes: Any) -> None:
        """A new process: nothing of the old one's memory is left."""
        self.policy = replace(self.policy, **changes)
        self.gate = HealthGate(self.client.probe, random=lambda: 0.5, clock=self.time.monotonic)
        self.provisioner = self.another()

    def another(self) -> Provisioner:
        return Provisioner(
            self.database,
            self.client,
            self.gate,
            self.vault,
            self.policy,
            on_outcomes=self._count,
            on_activated=self.activated.append,
            clock=self.time.database,
            monotonic=self.time.monotonic,
            random=lambda: 0.5,
        )

    def _count(self) -> None:
        self.decided += 1
        self._news.set()

    async def decides(self, count: int) -> None:
        """Return once so many outcomes have been decided."""
        async with asyncio.timeout(20):
            while self.decided < count:
                self._news.clear()
                await self._news.wait()

    async def take(self, *events: InboundEvent) -> None:
        """Ingest, as from Kafka."""
        record = IncomingRecord("events", 0, 0, 0, None, b"", ())
        policy = IngestPolicy(
            our_source=OUR_SOURCE, credits_per_job=1, dependency_wait=self.policy.dependency_wait
        )

        async def work(tx: AsyncConnection) -> None:
            await apply_batch(
                tx,
                [Received(one, record) for one in events],
                [],
                policy=policy,
                origin=Origin.LIVE,
                now=self.time.now,
            )

        await self.database.run(work)

    async def settle(self, *, rounds: int = 200) -> None:
        """Serve what is due until nothing is, without letting time pass."""
        for _ in range(rounds):
            if not await self.provisioner.run_once():
                return
        raise AssertionError("there is always something due")

    async def run_for(self, seconds: float, *, step: float = 5.0) -> None:
        """Let time pass, serving what comes due and attending to orphans."""
        passed = 0.0
        while passed < seconds:
            await self.settle()
            await self.provisioner.sweep_once()
            self.time.passes(step)
            passed += step
        await self.settle()
        await self.provisioner.sweep_once()

    async def probe_gate(self) -> None:
        """What the gate does with a reported failure: probe once."""
        task = asyncio.create_task(self.gate.run())
        for _ in range(50):
            await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def outcomes(self) -> list[dict[str, Any]]:
        async with self.database.reading() as tx:
            rows = await tx.execute(select(tables.outcomes.c.value).order_by(tables.outcomes.c.outcome_seq))
            return [json.loads(row.value) for row in rows]

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        return [(one["type"], one["data"]) for one in await self.outcomes()]

    async def outcome_of(self, cause: InboundEvent) -> tuple[str, dict[str, Any]]:
        """The one outcome of an event."""
        (only,) = [one for one in await self.outcomes() if one.get("causationid") == cause.id]
        return only["type"], only["data"]

    async def resources(self, org_id: str = "org") -> list[Resource]:
        async with self.database.reading() as tx:
            return await resources.of_org(tx, org_id)

    async def keys(self, org_id: str = "org") -> list[StoredKey]:
        async with self.database.reading() as tx:
            return await virtual_keys.of_org(tx, org_id)

    async def waiting(self, org_id: str = "org") -> Sequence[inbox.InboxRow]:
        async with self.database.reading() as tx:
            return await inbox.waiting_of(tx, org_id)

    async def status(self, org_id: str = "org") -> str:
        async with self.database.reading() as tx:
            return (await organizations.read(tx, [org_id]))[org_id].status

    async def member_ids(self, org_id: str = "org") -> list[str]:
        async with self.database.reading() as tx:
            return [one.user_id for one in await members.of_org(tx, org_id)]

    async def books(self) -> Verification:
        async with self.database.reading() as tx:
            return await ledger.verify(tx)

    async def retry_failed(self, org_id: str = "org") -> int:
        """What `replay --retry-failed` does for provisioning."""

        async def work(tx: AsyncConnection) -> int:
            states = await organizations.lock(tx, [org_id])
            rows = await inbox.failed_rows(tx, org_id=org_id)
            for row in rows:
                await inbox.reopen(tx, row, reason=WaitReason.TURN, due_at=self.time.now)
            assert states
            return len(rows)

        return await self.database.run(work)

    def live_keys(self, team_id: str = "org", user_id: str | None = None) -> list[Any]:
        return self.standin.state.keys_of(team_id=team_id, user_id=user_id)

    def calls(self) -> list[str]:
        return [one.endpoint for one in self.standin.log]
