"""The users of an organization, as provisioned.

Guarantee: a user is a member of an organization once; what stands here is what the outcome said, and later
events don't change it.
"""

from dataclasses import astuple, dataclass, fields
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.bulk import insert_rows
from storage.tables import members


@dataclass(frozen=True, slots=True)
class Member:
    """A user in an organization; `role` is owner, admin or member."""

    org_id: str
    user_id: str
    role: str
    email_set: bool
    key_hash: str
    key_alias: str
    key_name: str
    provisioned_at: datetime


_COLUMNS = tuple(field.name for field in fields(Member))
_query = select(*(members.c[name] for name in _COLUMNS))
_ONE: Final = _query.where(*(members.c[name] == bindparam(name) for name in ("org_id", "user_id")))


async def add(tx: AsyncConnection, member: Member) -> None:
    """Keep a member.

    Raises:
        sqlalchemy.exc.IntegrityError: The user is one already, or the organization has no row.
    """
    await insert_rows(tx, members, _COLUMNS, [astuple(member)])


async def get(tx: AsyncConnection, org_id: str, user_id: str) -> Member | None:
    """One member; None where the user is none."""
    row = (await tx.execute(_ONE, {"org_id": org_id, "user_id": user_id})).one_or_none()
    return None if row is None else Member(*row)


async def of_org(tx: AsyncConnection, org_id: str) -> list[Member]:
    """An organization's members, in the order provisioned."""
    query = _query.where(members.c.org_id == org_id).order_by(members.c.provisioned_at, members.c.user_id)
    return [Member(*row) for row in await tx.execute(query)]
