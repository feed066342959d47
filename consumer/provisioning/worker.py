"""One organization's turn: its due events one after another, under its lease."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from consumer.litellm.client import LiteLLMClient
from consumer.litellm.errors import LiteLLMError
from consumer.litellm.gate import HealthGate
from consumer.provisioning.attempt import Attempt, Stopping
from consumer.provisioning.claim import Claim
from consumer.provisioning.context import Context
from consumer.provisioning.failures import judge
from consumer.provisioning.footprint import Footprint
from consumer.provisioning.intents import TryIntents
from consumer.provisioning.leftovers import Attended, compensated, orphans_attended, orphans_due
from consumer.provisioning.organization import provision_organization
from consumer.provisioning.planning import next_todo
from consumer.provisioning.removal import DELETES, Ownership, Remover
from consumer.provisioning.results import organization_stands, try_failed, try_interrupted, user_stands
from consumer.provisioning.todo import (
    Compensation,
    Decided,
    Leftovers,
    OrganizationTry,
    Postponed,
    Todo,
    Try,
    UserTry,
)
from consumer.provisioning.user import provision_user
from storage.database import DatabaseUnavailable
from storage.leases import LeaseLost

log = structlog.get_logger(__name__)

_EVENTS_PER_TURN = 20
"""After so many events an organization gives way to the others."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Serves organizations that have been claimed.

    Attributes:
        context: The database's side.
        client: LiteLLM.
        gate: Whether LiteLLM is worth a try.
        stopping: Set when the process is to end: the call in hand is finished, and no further one begun.
        monotonic: A clock in seconds.
        on_decided: Called with every outcome, once it is committed.
    """

    context: Context
    client: LiteLLMClient
    gate: HealthGate
    stopping: asyncio.Event
    monotonic: Callable[[], float]
    on_decided: Callable[[str, Decided], None]

    async def serve(self, claim: Claim) -> None:
        """Work on an organization's due events for one turn.

        Raises:
            LeaseLost: Somebody else may have the organization.
            DatabaseUnavailable: Nothing can be written down.
        """
        for _ in range(_EVENTS_PER_TURN):
            if self.stopping.is_set():
                return
            todo = await next_todo(self.context, claim, gate_open=self.gate.is_open)
            if todo is None:
                return
            try:
                ended = await self._do(claim, todo)
            except Stopping:
                return
            if isinstance(ended, Decided):
                self.on_decided(claim.org_id, ended)

    async def sweep(self, claim: Claim) -> None:
        """Remove what ended events of an organization have left, as far as it is due.

        Raises:
            LeaseLost: Somebody else may have the organization.
            DatabaseUnavailable: Nothing can be written down.
        """
        leftovers = await orphans_due(self.context, claim)
        if leftovers is None:
            return
        try:
            attended = await self._remove(claim, leftovers)
        except Stopping:
            return
        await orphans_attended(self.context, claim, attended)

    async def _do(self, claim: Claim, todo: Todo) -> Decided | Postponed:
        match todo:
            case Decided() | Postponed():
                return todo
            case Compensation():
                attended = await self._remove(claim, todo.leftovers)
                return await compensated(self.context, claim, todo, attended)
            case OrganizationTry() | UserTry():
                return await self._try(claim, todo)

    async def _try(self, claim: Claim, todo: Try) -> Decided | Postponed:
        context = self.context
        intents = TryIntents(context, claim, todo.row)
        attempt = Attempt(
            client=self.client,
            lease=claim,
            intents=intents,
            policy=context.policy,
            stopping=self.stopping,
            monotonic=self.monotonic,
        )

        def footprints() -> list[Footprint]:
            return [*todo.footprints, *intents.found]

        try:
            if isinstance(todo, OrganizationTry):
                organization = await provision_organization(attempt, todo.plan)
                return await organization_stands(context, claim, todo, organization, footprints())
            user = await provision_user(attempt, todo.plan)
            return await user_stands(context, claim, todo, user, footprints())
        except Stopping:
            await try_interrupted(
                context, claim, todo, footprints(), monotonic=self.monotonic(), called=attempt.called
            )
            raise
        except (LeaseLost, DatabaseUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the event is tried again or told as failed
            verdict = judge(error, attempt.step)
            log.warning(
                "provisioning_try_failed",
                org_id=todo.row.org_id,
                event_id=todo.event.id,
                attempt=todo.row.attempts,
                step=verdict.failure.step,
                error_code=verdict.failure.error_code,
                reason=verdict.failure.message,
                final=verdict.final,
            )
            if verdict.outage:
                self.gate.report_failure()
            return await try_failed(
                context,
                claim,
                todo,
                footprints(),
                verdict=verdict,
                monotonic=self.monotonic(),
                called=attempt.called,
            )

    async def _remove(self, claim: Claim, leftovers: Leftovers) -> list[Attended]:
        """Try to remove each leftover once; one that cannot be removed does not keep the others."""

        async def cover_a_call() -> None:
            if self.stopping.is_set():
                raise Stopping
            await claim.cover_a_call()

        remover = Remover(self.client, cover_a_call)
        ownership = Ownership(self.context.policy.our_source, leftovers.known_keys, leftovers.our_users)
        attended = []
        for resource in leftovers.resources:
            try:
                attended.append(Attended(resource, await remover.remove(resource, ownership)))
            except LiteLLMError as error:
                log.warning(
                    "removal_failed", org_id=claim.org_id, kind=resource.kind.value, reason=str(error)
                )
                if error.retryable:
                    self.gate.report_failure()
                doubtful = error.may_have_applied and error.endpoint in DELETES
                attended.append(Attended(resource, None, doubtful=doubtful))
            except (Stopping, LeaseLost, DatabaseUnavailable):
                raise
            except Exception:
                # What our own code gets wrong ends, too: the failure is told when its time is up.
                log.exception("removal_broke_off", org_id=claim.org_id, kind=resource.kind.value)
                attended.append(Attended(resource, None, doubtful=True))
        return attended
