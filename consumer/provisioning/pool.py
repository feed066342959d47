"""The provisioner: claims organizations whose turn it is and serves so many at a time.

Any number of instances share the work through leases in the database.
"""

import asyncio
import random as random_module
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol
from uuid import UUID, uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.litellm.client import LiteLLMClient
from consumer.litellm.gate import HealthGate
from consumer.provisioning.claim import Claim
from consumer.provisioning.context import Context
from consumer.provisioning.policy import ProvisionerPolicy
from consumer.provisioning.todo import Decided
from consumer.provisioning.worker import Worker
from producers.idling import Idling
from storage import inbox, leases, resources
from storage.database import Clock, Database, DatabaseUnavailable, database_now
from storage.leases import LeaseLost
from storage.virtual_keys import KeyVault

log = structlog.get_logger(__name__)

_IDLE_S: Final = 0.5
"""How often to look for work where nobody wakes the provisioner: events come due by themselves.

Where none does for long, less and less often (`producers.idling`)."""
_SWEEP_S: Final = 1.0
"""How often to look for orphans that are due."""
_NOTE_S: Final = 1.0
"""How often, with LiteLLM down, to look for events that do not say yet that they wait for it."""
_AWAY_S: Final = 2.0
"""How long to leave a database alone that is away."""
_ORPHANS_PER_LOOK: Final = 10
"""Leftovers whose organizations are claimed at the same time; more would outlast their leases."""


class OutcomeCounter(Protocol):
    """Where decided outcomes are counted."""

    def outcomes(self, counts: Mapping[str, int]) -> None:
        """Count outcomes of each type."""


class Provisioner:
    """Brings LiteLLM into line with the events in the inbox.

    Guarantees: for any number of instances, crashes and lost answers one team, one membership and one live
    key for each organization and user, and one outcome for each event and round.

    Args:
        database: Where the inbox is.
        client: LiteLLM.
        gate: Whether LiteLLM is worth a try; somebody else runs it.
        vault: Encrypts keys at rest.
        policy: The settings.
        on_outcomes: Called when outcomes were committed: there is something to publish.
        on_activated: Called with an organization's id when it has become active: its jobs can be judged.
        metrics: Counts outcomes.
        clock: The database's time.
        monotonic: A clock in seconds.
        random: A number from 0 up to 1, for jitter.
        token_bytes: So many bytes that nobody can guess, for keys.
        new_token: Makes a token for each claim.
    """

    def __init__(
        self,
        database: Database,
        client: LiteLLMClient,
        gate: HealthGate,
        vault: KeyVault,
        policy: ProvisionerPolicy,
        *,
        on_outcomes: Callable[[], None],
        on_activated: Callable[[str], None],
        metrics: OutcomeCounter | None = None,
        clock: Clock = database_now,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_module.random,
        token_bytes: Callable[[int], bytes] = secrets.token_bytes,
        new_token: Callable[[], UUID] = uuid4,
    ) -> None:
        self._database = database
        self._gate = gate
        self._policy = policy
        self._on_outcomes = on_outcomes
        self._on_activated = on_activated
        self._metrics = metrics
        self._clock = clock
        self._monotonic = monotonic
        self._new_token = new_token
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._idling = Idling(_IDLE_S)
        self._serving: set[asyncio.Task[None]] = set()
        self._sweeping: set[asyncio.Task[None]] = set()
        self._sweep_at = 0.0
        self._note_at = 0.0
        self._without_database = False
        context = Context(database, vault, policy, clock, random, token_bytes)
        self._worker = Worker(context, client, gate, self._stopping, monotonic, self._decided)

    def wake(self) -> None:
        """Look for work at once: an event was stored, or has come due."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish the calls in hand and give the leases back.

        A database that is away is waited for.
        """
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(self._serve_all())
            await stop.wait()
            self._stopping.set()
            self._woken.set()
            await serving

    async def run_once(self) -> bool:
        """Serve one round of the organizations whose turn it is; tell whether there were any."""
        claims = await self._claim_turns(self._policy.concurrency)
        await asyncio.gather(*(self._turn(claim, self._worker.serve) for claim in claims))
        return bool(claims)

    async def sweep_once(self) -> bool:
        """Attend once to all orphans that are due; tell whether there were any."""
        claims = await self._claim_orphans(_ORPHANS_PER_LOOK) if self._gate.is_open else []
        await asyncio.gather(*(self._turn(claim, self._worker.sweep) for claim in claims))
        return bool(claims)

    async def _serve_all(self) -> None:
        try:
            while not self._stopping.is_set():
                if self._woken.is_set() or self._serving or not self._gate.is_open:
                    self._idling.worked()
                self._woken.clear()
                pause = self._idling.pause_s()
                try:
                    await self._note_outage()
                    await self._begin_sweeps()
                    await self._begin_turns()
                except DatabaseUnavailable as error:
                    self._held_up(error)
                    pause = _AWAY_S
                else:
                    self._goes_on()
                await self._rest(pause)
        finally:
            if self._serving:
                if not self._stopping.is_set():  # cancelled: whatever is in hand is left as after a crash
                    for task in self._serving:
                        task.cancel()
                await asyncio.gather(*self._serving, return_exceptions=True)

    async def _note_outage(self) -> None:
        """While LiteLLM is down, have what waits for it say so."""
        loop = asyncio.get_running_loop()
        if self._gate.is_open or loop.time() < self._note_at:
            return
        self._note_at = loop.time() + _NOTE_S
        async with self._database.looking() as tx:
            now = await self._clock(tx)
            if not await inbox.has_unnoted(tx, now, tried_before=now - self._policy.retry_for):
                return

        async def work(tx: AsyncConnection) -> None:
            now = await self._clock(tx)
            await inbox.note_litellm_down(tx, now, tried_before=now - self._policy.retry_for)

        await self._database.run(work)

    @property
    def _free(self) -> int:
        return self._policy.concurrency - len(self._serving)

    async def _begin_sweeps(self) -> None:
        """Attend to orphans if it is time: first in line, for events that come without a pause leave no room.

        Half of the places at the most, and a pause after each sweep, keep room for events in turn.
        """
        loop = asyncio.get_running_loop()
        if self._free <= 0 or self._sweeping or loop.time() < self._sweep_at or not self._gate.is_open:
            return
        self._sweep_at = loop.time() + _SWEEP_S
        most = min(self._free, max(1, self._policy.concurrency // 2), _ORPHANS_PER_LOOK)
        for claim in await self._claim_orphans(most):
            self._sweeping.add(self._begin(claim, self._worker.sweep))

    async def _begin_turns(self) -> None:
        if self._free > 0:
            for claim in await self._claim_turns(self._free):
                self._begin(claim, self._worker.serve)

    def _begin(self, claim: Claim, work: Callable[[Claim], Awaitable[None]]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._turn(claim, work))
        self._serving.add(task)
        task.add_done_callback(self._served)
        return task

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if task in self._sweeping:
            self._sweeping.discard(task)
            self._sweep_at = asyncio.get_running_loop().time() + _SWEEP_S
        self._woken.set()

    async def _rest(self, pause: float) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), pause)
        except TimeoutError:
            return

    async def _claim_turns(self, limit: int) -> list[Claim]:
        async def due(tx: AsyncConnection) -> list[str]:
            now = await self._clock(tx)
            return await inbox.runnable_orgs(
                tx,
                now,
                gate_open=self._gate.is_open,
                limit=limit,
                tried_before=now - self._policy.retry_for,
            )

        return await self._claim(due)

    async def _claim_orphans(self, limit: int) -> list[Claim]:
        async def due(tx: AsyncConnection) -> list[str]:
            now = await self._clock(tx)
            found = await resources.removable_due(tx, now, _ORPHANS_PER_LOOK)
            return list(dict.fromkeys(one.org_id for one in found))[:limit]

        return await self._claim(due)

    async def _claim(self, find: Callable[[AsyncConnection], Awaitable[list[str]]]) -> list[Claim]:
        """Take those organizations that nobody holds.

        One that another instance has served since the look has nothing due; whoever takes it finds that out.
        """
        taken_at = self._monotonic()
        async with self._database.looking() as tx:  # most looks find nothing, and need no write
            found = sorted(await find(tx))
        if not found:
            return []

        async def take(tx: AsyncConnection) -> list[tuple[str, UUID]]:
            taken = []
            now = await self._clock(tx)
            for org_id in found:
                token = self._new_token()
                scope = leases.org_scope(org_id)
                if await leases.acquire(tx, scope, ttl=self._policy.lease_ttl, token=token, now=now):
                    taken.append((org_id, token))
            return taken

        return [
            Claim(
                org_id,
                token,
                taken_at=taken_at,
                database=self._database,
                policy=self._policy,
                clock=self._clock,
                monotonic=self._monotonic,
            )
            for org_id, token in await self._database.run(take)
        ]

    async def _turn(self, claim: Claim, work: Callable[[Claim], Awaitable[None]]) -> None:
        """Give an organization its turn. After an error its lease is left to run out: that is the pause."""
        try:
            await work(claim)
            await claim.give_back()
        except LeaseLost:
            log.warning("lease_lost", org_id=claim.org_id)
        except DatabaseUnavailable as error:
            self._held_up(error)
        except Exception:
            # Here only what our own code gets wrong; one organization must not stop the others.
            log.exception("provisioning_broke_off", org_id=claim.org_id)

    def _held_up(self, error: DatabaseUnavailable) -> None:
        """Say it once for an outage, however many organizations it met and however long it lasts."""
        if not self._without_database:
            log.warning("provisioner_held_up", by="database", error=str(error), action="waiting for it")
            self._without_database = True

    def _goes_on(self) -> None:
        if self._without_database:
            log.info("provisioner_goes_on", after="database")
            self._without_database = False

    def _decided(self, org_id: str, decided: Decided) -> None:
        if self._metrics is not None:
            self._metrics.outcomes({decided.outcome: 1})
        self._on_outcomes()
        if decided.activated:
            self._on_activated(org_id)
