"""Jobs that waited for their organization, judged in the order received once it can be said what becomes of them.

No LiteLLM and no lease: the transaction under the organization's row lock is all the order this needs.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.decisions.jobs import decide_job
from consumer.ingest.batch import Applied, IngestPolicy
from consumer.metrics import Metrics
from consumer.pauses import wait_for_any
from schemas.event import from_stored
from schemas.outcomes import cause_of, encode_outcome
from schemas.transactions import charge_id
from storage import inbox, ledger, organizations, outbox
from storage.database import Clock, Database, DatabaseUnavailable, database_now
from storage.organizations import OrgStatus

log = structlog.get_logger(__name__)

JOBS_PER_TRANSACTION = 500
ORGANIZATIONS_PER_PASS = 50


async def drain_organization(
    tx: AsyncConnection, org_id: str, *, policy: IngestPolicy, now: datetime, limit: int = JOBS_PER_TRANSACTION
) -> Applied:
    """Judge up to `limit` waiting jobs of one organization, the longest waiting first.

    Guarantees: an active organization's jobs are charged in the order received, before any that came after
    them; of one that isn't active only those jobs end whose wait is over; one that is being provisioned is
    left alone.
    """
    applied = Applied()
    state = (await organizations.lock(tx, [org_id]))[org_id]
    if state.status is OrgStatus.PROVISIONING:
        return applied
    if state.status is OrgStatus.ACTIVE:
        rows = await inbox.waiting_jobs(tx, org_id, limit)
    else:
        rows = await inbox.expired_jobs(tx, org_id, now, limit)
    if not rows:
        return applied

    charged = await ledger.charged(tx, sorted({charge_id(org_id, row.subject) for row in rows}))
    entries = []
    outcomes = []
    for row in rows:
        event = from_stored(row.event)
        key = charge_id(org_id, event.subject)
        decision = decide_job(
            state, event, already_charged=key in charged, price=policy.credits_per_job, now=now
        )
        state = decision.state
        if decision.entry is not None:
            entries.append(decision.entry)
            charged.add(key)
        outcomes.append(
            encode_outcome(
                decision.outcome,
                decision.data,
                org_id=org_id,
                cause=cause_of(event),
                decided_at=now,
                origin=row.origin,
                round=row.round,
                our_source=policy.our_source,
                job_key=key,
            )
        )
    if entries:
        await ledger.append(tx, entries)
    await inbox.remove(tx, [row.inbox_id for row in rows])
    await outbox.append_outcomes(tx, outcomes)
    await organizations.save(tx, [replace(state, waiting_jobs=state.waiting_jobs - len(rows))])
    applied.outcomes.update(outcome.type for outcome in outcomes)
    return applied


class Drain:
    """The worker that finds organizations with jobs to judge; any number of instances may run one."""

    def __init__(
        self,
        database: Database,
        policy: IngestPolicy,
        *,
        metrics: Metrics,
        on_outcomes: Callable[[], None],
        clock: Clock = database_now,
        idle: float = 1.0,
    ) -> None:
        """Prepare a drain that looks again every `idle` seconds where nobody wakes it."""
        self._database = database
        self._policy = policy
        self._metrics = metrics
        self._on_outcomes = on_outcomes
        self._clock = clock
        self._idle = idle
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look at once: an organization was activated, or jobs joined a queue."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; a database that is away is waited for."""
        while not stop.is_set():
            self._woken.clear()
            try:
                worked = await self.drain_once()
            except DatabaseUnavailable:
                worked = False
            if not worked:
                await wait_for_any(self._woken, stop, timeout=self._idle)

    async def drain_once(self) -> bool:
        """Serve one page of organizations; tell whether there was anything to do."""
        async with self._database.reading() as tx:
            org_ids = await inbox.drainable_orgs(tx, await self._clock(tx), ORGANIZATIONS_PER_PASS)
        worked = False
        for org_id in org_ids:

            async def serve(tx: AsyncConnection, org_id: str = org_id) -> Applied:
                return await drain_organization(tx, org_id, policy=self._policy, now=await self._clock(tx))

            applied = await self._database.run(serve)
            if applied.outcomes:
                worked = True
                self._metrics.outcomes(applied.outcomes)
                self._on_outcomes()
        return worked
