"""What all of the database's side of provisioning works with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.provisioning.claim import Claim
from consumer.provisioning.key_delivery import encrypt_for
from consumer.provisioning.policy import ProvisionerPolicy
from storage import organizations
from storage.database import Clock, Database
from storage.organizations import OrgState
from storage.virtual_keys import KeyVault

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """The database, the settings, and what is passed in so that tests can decide it.

    Attributes:
        database: Where everything is written down.
        vault: Encrypts keys at rest.
        policy: The settings.
        clock: The database's time.
        random: A number from 0 up to 1, for jitter.
        token_bytes: So many bytes that nobody can guess, for keys.
    """

    database: Database
    vault: KeyVault
    policy: ProvisionerPolicy
    clock: Clock
    random: Callable[[], float]
    token_bytes: Callable[[int], bytes]

    @property
    def reach(self) -> timedelta:
        """How long after its beginning a call to LiteLLM may take effect."""
        return self.policy.litellm_timeout + self.policy.doubt_margin

    async def transaction(self, claim: Claim, work: Callable[["Moment"], Awaitable[T]]) -> T:
        """Do `work` in one transaction that holds the lease and the organization's row.

        What is written so stands at one place in the organization's order, and is written by the holder of
        its lease alone. `work` may be called several times.

        Raises:
            LeaseLost: Somebody else may have the organization; nothing was written.
        """

        async def locked(tx: AsyncConnection) -> T:
            now = await self.clock(tx)
            await claim.hold(tx, now)
            state = (await organizations.lock(tx, [claim.org_id]))[claim.org_id]
            return await work(Moment(self, tx, state, now))

        return await self.database.run(locked)

    def deliver(self, key: str) -> str | None:
        """Encrypt a key for the receiver of outcomes; None where there is none."""
        jwk = self.policy.delivery_jwk
        return None if jwk is None else encrypt_for(jwk, key)


@dataclass(frozen=True, slots=True)
class Moment:
    """One organization, held in one transaction.

    Attributes:
        context: What to work with.
        tx: The transaction.
        state: The organization as it stood at the beginning of the transaction.
        now: The database's time.
    """

    context: Context
    tx: AsyncConnection
    state: OrgState
    now: datetime
