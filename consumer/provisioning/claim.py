"""A worker's hold on one organization, and on the e-mails it sets there."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.provisioning.keys import email_digest
from consumer.provisioning.policy import ProvisionerPolicy
from storage import leases
from storage.database import Clock, Database
from storage.leases import LeaseLost


class Claim:
    """One organization in this worker's hands for as long as the lease lasts.

    A lease fences what is written to the database; a call to LiteLLM cannot be fenced. So no call is begun
    unless the lease outlasts its timeout, and whoever takes over a lease that ran out knows that every call
    made under it has been given up.

    Args:
        org_id: The organization.
        token: Tells this claim from all others.
        taken_at: Monotonic seconds before the lease was taken.
        database: Where the lease is.
        policy: The settings.
        clock: The database's time.
        monotonic: A clock in seconds.
    """

    def __init__(
        self,
        org_id: str,
        token: UUID,
        *,
        taken_at: float,
        database: Database,
        policy: ProvisionerPolicy,
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self.org_id = org_id
        self.token = token
        self._scope = leases.org_scope(org_id)
        self._email_scope: str | None = None
        self._database = database
        self._policy = policy
        self._clock = clock
        self._monotonic = monotonic
        self._ends_at = taken_at + policy.lease_ttl.total_seconds()
        self._given_back = False

    @property
    def _scopes(self) -> list[str]:
        return [self._scope] if self._email_scope is None else sorted([self._scope, self._email_scope])

    async def hold(self, tx: AsyncConnection, now: datetime) -> None:
        """Keep the organization from all others until the transaction ends, before anything is written.

        Raises:
            LeaseLost: Somebody else may have it.
        """
        await leases.hold(tx, self._scope, self.token, now)

    async def cover_a_call(self) -> None:
        """Renew the lease unless it outlasts a call begun now.

        Raises:
            LeaseLost: Somebody else may have it.
        """
        reach = self._policy.litellm_timeout + self._policy.doubt_margin
        if self._monotonic() + reach.total_seconds() >= self._ends_at:
            await self.renew()

    async def renew(self) -> None:
        """Have the lease last its full time from now.

        Raises:
            LeaseLost: Somebody else may have it.
        """
        begun_at = self._monotonic()

        async def work(tx: AsyncConnection) -> bool:
            now = await self._clock(tx)
            ttl = self._policy.lease_ttl
            return all([await leases.renew(tx, scope, self.token, ttl, now) for scope in self._scopes])

        if not await self._database.run(work):
            raise LeaseLost(self._scope)
        self._ends_at = begun_at + self._policy.lease_ttl.total_seconds()

    async def take_email(self, tx: AsyncConnection, email: str, now: datetime) -> bool:
        """Keep all others from making a user with this e-mail; False where another one is at it."""
        scope = "email:" + email_digest(email)
        if not await leases.acquire(tx, scope, ttl=self._policy.lease_ttl, token=self.token, now=now):
            return False
        self._email_scope = scope
        return True

    async def give_back_email(self, tx: AsyncConnection, now: datetime) -> None:
        """Let others have the e-mail."""
        if self._email_scope is not None:
            await leases.release(tx, self._email_scope, self.token, now)

    def email_given_back(self) -> None:
        """Forget the e-mail, once the transaction that gave it back has committed."""
        self._email_scope = None

    async def give_back_within(self, tx: AsyncConnection, now: datetime) -> None:
        """Let others have the organization once this transaction has committed; it has had its turn."""
        for scope in self._scopes:
            await leases.release(tx, scope, self.token, now)

    def given_back(self) -> None:
        """Note that the transaction which gave everything back has committed."""
        self._given_back = True

    async def give_back(self) -> None:
        """Let others have the organization, unless they may have it already."""

        async def work(tx: AsyncConnection) -> None:
            await self.give_back_within(tx, await self._clock(tx))

        if not self._given_back:
            await self._database.run(work)
