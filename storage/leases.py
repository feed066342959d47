"""Leases: who may work on an organization, publish a part of the outbox, or set an e-mail, across instances.

Guarantee: at one moment of the database's clock at most one token holds a scope; a result written in a
transaction that called `hold` is written by the holder. A lease fences writes to this database, not calls
over HTTP: start no call that may outlast it. Every `now` is the database's clock
(`storage.database.database_now`), read in the same transaction.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, bindparam, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningInsert

from storage.bulk import among, on_postgresql
from storage.database import database_now
from storage.tables import leases


class LeaseLost(Exception):  # noqa: N818 (says what is so)
    """The lease ran out or another one holds it: drop what was done under it."""


#: What the queries are given.
_SCOPE: BindParameter[str] = bindparam("wanted")
_BY = bindparam("by", type_=leases.c.token.type)
_NOW = bindparam("now", type_=leases.c.expires_at.type)
_UNTIL = bindparam("until", type_=leases.c.expires_at.type)


def org_scope(org_id: str) -> str:
    """The scope of the work on one organization."""
    return f"org:{org_id}"


async def acquire(tx: AsyncConnection, scope: str, *, ttl: timedelta, token: UUID, now: datetime) -> bool:
    """Take a lease for `ttl`, unless another token holds it. Taking one's own again prolongs it."""
    given = {"wanted": scope, "by": token, "until": now + ttl, "now": now}
    return await tx.scalar(_acquire(on_postgresql=on_postgresql(tx)), given) is not None


@lru_cache(maxsize=2)
def _acquire(*, on_postgresql: bool) -> ReturningInsert[Any]:
    insert = (postgresql if on_postgresql else sqlite).insert(leases)
    taken = {"token": _BY, "expires_at": _UNTIL}
    query = insert.values(scope=_SCOPE, **taken).on_conflict_do_update(
        index_elements=[leases.c.scope],
        set_=taken,
        where=or_(leases.c.expires_at <= _NOW, leases.c.token == _BY, leases.c.token.is_(None)),
    )
    kept: ReturningInsert[Any] = query.returning(leases.c.scope)
    return kept


async def renew(tx: AsyncConnection, scope: str, token: UUID, ttl: timedelta, now: datetime) -> bool:
    """Prolong a lease to `ttl` from now; False where it is lost, also where it ran out and nobody took it."""
    given = {"wanted": scope, "by": token, "now": now, "until": now + ttl}
    return await tx.scalar(_RENEW, given) is not None


async def hold(tx: AsyncConnection, scope: str, token: UUID, now: datetime) -> None:
    """Keep the lease from everybody else until this transaction ends. Call it before anything is written.

    Raises:
        LeaseLost: It ran out, or another token has it.
    """
    held = (await tx.execute(_HOLD, {"wanted": scope})).one_or_none()
    if held is None or held.token != token or held.expires_at <= now:
        raise LeaseLost(scope)


async def release(tx: AsyncConnection, scope: str, token: UUID, now: datetime) -> None:
    """Give a lease back, noting when it was served; nothing happens where it is lost."""
    await tx.execute(_RELEASE, {"wanted": scope, "by": token, "now": now})


#: Built once: each is part of every provisioning's every step.
_HOLD = select(leases.c.token, leases.c.expires_at).where(leases.c.scope == _SCOPE).with_for_update()
_RENEW = (
    update(leases)
    .where(leases.c.scope == _SCOPE, leases.c.token == _BY, leases.c.expires_at > _NOW)
    .values(expires_at=_UNTIL)
    .returning(leases.c.scope)
)
_RELEASE = (
    update(leases)
    .where(leases.c.scope == _SCOPE, leases.c.token == _BY)
    .values(token=None, expires_at=_NOW, served_at=_NOW)
)


async def release_all(tx: AsyncConnection, tokens: Iterable[UUID], now: datetime | None = None) -> None:
    """Give back whatever these tokens hold, at the end of a process."""
    given = list(tokens)
    if given:
        now = now or await database_now(tx)
        await tx.execute(
            update(leases).where(leases.c.token.in_(given)).values(token=None, expires_at=now, served_at=now)
        )


async def held_scopes(tx: AsyncConnection, scopes: Iterable[str], now: datetime) -> set[str]:
    """Which of these are held by anybody now."""
    wanted = list(scopes)
    if not wanted:
        return set()
    query = select(leases.c.scope).where(
        among(tx, leases.c.scope, wanted), leases.c.token.is_not(None), leases.c.expires_at > now
    )
    return set((await tx.scalars(query)).all())


async def forget_idle(tx: AsyncConnection, before: datetime, limit: int) -> int:
    """Delete up to `limit` leases that ran out before a moment; a scope without a row is merely free."""
    idle = select(leases.c.scope).where(leases.c.expires_at < before).limit(limit).scalar_subquery()
    return (await tx.execute(delete(leases).where(leases.c.scope.in_(idle)))).rowcount
