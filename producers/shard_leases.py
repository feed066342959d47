"""Which parts of the outbox are this relay's to publish: a lease for each, shared through the database."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from storage import leases
from storage.database import Clock, Database, database_now
from storage.outbox import SHARDS

RENEWALS_PER_LEASE: Final = 3
"""How often in its time a lease is renewed, so that one failed renewal loses nothing."""


class ShardLeases:
    """Takes what is free, keeps what it has, and forgets what it may have lost.

    A relay whose lease has passed to another without its knowledge breaks no order, it only repeats: both
    send from the first row on that is not acknowledged, and neither sends a row before those ahead of it
    stand on the topic. The lease is what makes such repeats rare.

    Args:
        database: Where the leases stand.
        token: Names this relay among all.
        ttl_s: After how many seconds without renewal a lease is free, by the database's clock.
        clock: The database's clock.
        monotonic: The process's clock, in seconds.
    """

    def __init__(
        self,
        database: Database,
        *,
        token: UUID,
        ttl_s: float,
        clock: Clock = database_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._token = token
        self._ttl = timedelta(seconds=ttl_s)
        self._clock = clock
        self._monotonic = monotonic
        self._held: tuple[int, ...] = ()
        self._held_until = 0.0
        self._renew_at = 0.0

    async def keep(self) -> Sequence[int]:
        """Renew, and take what others have left, when it is time to; give the shards that are ours now.

        Raises:
            DatabaseUnavailable: It was time to, and the database does not answer.
        """
        now = self._monotonic()
        if now >= self._held_until:
            self._held = ()
        if now >= self._renew_at:
            self._held = await self._take()
            # Counted from before the transaction, so that we never believe longer than the database does.
            self._held_until = now + self._ttl.total_seconds()
            self._renew_at = now + self._ttl.total_seconds() / RENEWALS_PER_LEASE
        return self._held

    async def _take(self) -> tuple[int, ...]:
        taken = []
        async with self._database.transaction() as tx:
            now = await self._clock(tx)
            for shard in range(SHARDS):
                if await leases.acquire(tx, _scope(shard), ttl=self._ttl, token=self._token, now=now):
                    taken.append(shard)  # noqa: PERF401 - told one by one
        return tuple(taken)

    async def release(self) -> None:
        """Give everything back, so that another relay need not wait.

        Raises:
            DatabaseUnavailable: The database does not answer; the leases run out by themselves.
        """
        held, self._held, self._held_until = self._held, (), 0.0
        if not held:
            return

        async with self._database.transaction() as tx:
            await leases.release_all(tx, [self._token], await self._clock(tx))


def _scope(shard: int) -> str:
    return f"relay:{shard}"
