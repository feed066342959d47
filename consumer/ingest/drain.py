"""Jobs that waited for their organization, judged in the order received once their fate can be said.

No LiteLLM and no lease: the transaction under the organization's row lock is all the order this needs.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest.judging import IngestPolicy, Judge
from consumer.ingest.records import LARGE
from consumer.metrics import Metrics
from consumer.pauses import wait_for_any
from producers.idling import Idling
from schemas.event import from_stored
from schemas.outcomes import OutcomeType
from schemas.transactions import charge_id
from storage import inbox, ledger, organizations
from storage.database import Clock, Database, DatabaseUnavailable, database_now
from storage.organizations import OrgStatus

log = structlog.get_logger(__name__)

JOBS_PER_TRANSACTION = 500
ORGANIZATIONS_PER_PASS = 50


async def drain_organization(
    tx: AsyncConnection,
    org_id: str,
    *,
    policy: IngestPolicy,
    now: datetime,
    limit: int = JOBS_PER_TRANSACTION,
) -> Counter[OutcomeType]:
    """Judge up to `limit` waiting jobs of one organization, the longest waiting first.

    Guarantees: an active organization's jobs are charged in the order received, before any that came after
    them; of one that isn't active only those jobs end whose wait is over; one that is being provisioned is
    left alone.

    Returns:
        How many outcomes of each type were decided.
    """
    state = (await organizations.lock(tx, [org_id]))[org_id]
    if state.status is OrgStatus.PROVISIONING:
        return Counter()
    if state.status is OrgStatus.ACTIVE:
        rows = await inbox.waiting_jobs(tx, org_id, limit)
    else:
        rows = await inbox.expired_jobs(tx, org_id, now, limit)
    if not rows:
        return Counter()

    keys = {charge_id(org_id, row.subject) for row in rows}
    judge = Judge(policy, now, charged=await ledger.charged(tx, sorted(keys)))
    for row in rows:
        state = judge.judge(
            state, from_stored(row.event), origin=row.origin, stored_at=row.stored_at, round_=row.round
        )
        if len(row.event) >= LARGE:
            await asyncio.sleep(0)
    await inbox.remove(tx, [row.inbox_id for row in rows])
    await judge.write(tx, [state._replace(waiting_jobs=state.waiting_jobs - len(rows))])
    return judge.outcomes


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
        """Prepare a drain that looks again every `idle` seconds where nobody wakes it, or less often."""
        self._database = database
        self._policy = policy
        self._metrics = metrics
        self._on_outcomes = on_outcomes
        self._clock = clock
        self._idling = Idling(idle)
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look at once: an organization was activated, or jobs joined a queue."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; a database that is away is waited for."""
        while not stop.is_set():
            if self._woken.is_set():
                self._idling.worked()
                self._woken.clear()
            try:
                worked = await self.drain_once()
            except DatabaseUnavailable:
                worked = False
            if worked:
                self._idling.worked()
            else:
                await wait_for_any(self._woken, stop, timeout=self._idling.pause_s())

    async def drain_once(self) -> bool:
        """Serve one page of organizations; tell whether there was anything to do."""
        async with self._database.looking() as tx:
            org_ids = await inbox.drainable_orgs(tx, await self._clock(tx), ORGANIZATIONS_PER_PASS)
        worked = False
        for org_id in org_ids:

            async def serve(tx: AsyncConnection, org_id: str = org_id) -> Counter[OutcomeType]:
                return await drain_organization(tx, org_id, policy=self._policy, now=await self._clock(tx))

            outcomes = await self._database.run(serve)
            if outcomes:
                worked = True
                self._metrics.outcomes(outcomes)
                self._on_outcomes()
        return worked
