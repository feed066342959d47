"""What our attempts made at LiteLLM, or may have made: the only things that may ever be removed there.

Guarantee: a resource is written down before the call that could make it, so that nothing of ours stands at
LiteLLM unknown to the database. An organization's resources are written under its lease.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Insert, Select, and_, bindparam, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.bulk import on_postgresql
from storage.tables import litellm_resources


class ResourceKind(StrEnum):
    """What it is; its id is the team's, the user's or the key's hash."""

    TEAM = "team"
    MEMBER = "member"
    KEY = "key"


class ResourceState(StrEnum):
    """What is known of it."""

    INTENDED = "intended"  # a call may have made it
    MADE = "made"  # it stands, and our attempts made it
    IN_USE = "in_use"  # its event succeeded
    REMOVING = "removing"  # to be removed
    REMOVED = "removed"  # removed, to be looked at once more while `due_at` is set
    KEPT = "kept"  # it stands, and others use it or made it


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing at LiteLLM.

    Attributes:
        org_id: The organization it was made for.
        kind: What it is.
        resource_id: Its id at LiteLLM.
        made_by: The identity of the event whose attempts made it last.
        state: What is known of it.
        doubt_until: Until when a call whose answer was lost may still make it.
        due_at: When to look at it next, where it is to be removed.
    """

    org_id: str
    kind: ResourceKind
    resource_id: str
    made_by: UUID
    state: ResourceState = ResourceState.INTENDED
    doubt_until: datetime | None = None
    due_at: datetime | None = None


_COLUMNS = tuple(field.name for field in fields(Resource))
_table = litellm_resources.c
_query = select(*(_table[name] for name in _COLUMNS))
_KEY = ("org_id", "kind", "resource_id")
#: One resource, by its key.
_IS = and_(*(_table[name] == bindparam(name, type_=_table[name].type) for name in _KEY))
_ONE = _query.where(_IS)
_FORGET = delete(litellm_resources).where(_IS)


async def get(tx: AsyncConnection, org_id: str, kind: ResourceKind, resource_id: str) -> Resource | None:
    """One resource, as last written down."""
    found = await _read(tx, _ONE, org_id=org_id, kind=kind, resource_id=resource_id)
    return found[0] if found else None


async def save(tx: AsyncConnection, resources: Iterable[Resource]) -> None:
    """Write these down as they are, whatever stood before."""
    in_order = sorted(resources, key=lambda one: (one.org_id, one.kind, one.resource_id))
    rows = [dict(zip(_COLUMNS, astuple(resource), strict=True)) for resource in in_order]
    if rows:
        await tx.execute(_saving(on_postgresql=on_postgresql(tx)), rows)


@lru_cache(maxsize=2)
def _saving(*, on_postgresql: bool) -> Insert:
    insert = (postgresql if on_postgresql else sqlite).insert(litellm_resources)
    given = insert.values({name: bindparam(name, type_=_table[name].type) for name in _COLUMNS})
    saving: Insert = given.on_conflict_do_update(
        index_elements=[_table[name] for name in _KEY],
        set_={name: given.excluded[name] for name in _COLUMNS if name not in _KEY},
    )
    return saving


async def forget(tx: AsyncConnection, resource: Resource) -> None:
    """Strike out a resource that surely was not made."""
    await tx.execute(_FORGET, {name: getattr(resource, name) for name in _KEY})


async def intend(
    tx: AsyncConnection, org_id: str, kind: ResourceKind, resource_id: str, made_by: UUID
) -> Resource:
    """Write down that a call may make this.

    Returns:
        What stands now: intended, where it was not known or known as removed; otherwise what stood before,
        unchanged.
    """
    standing = await get(tx, org_id, kind, resource_id)
    if standing is not None and standing.state is not ResourceState.REMOVED:
        return standing
    intended = Resource(org_id, kind, resource_id, made_by)
    await save(tx, [intended])
    return intended


async def mark_made(tx: AsyncConnection, resource: Resource) -> Resource:
    """Note that it stands and that our attempts made it: no doubt is left."""
    return await _change(tx, replace(resource, state=ResourceState.MADE, doubt_until=None))


async def doubt(tx: AsyncConnection, resource: Resource, until: datetime) -> Resource:
    """Note until when a call whose answer was lost may still make it; a later moment noted before stands."""
    latest = max(until, resource.doubt_until) if resource.doubt_until else until
    return await _change(tx, replace(resource, doubt_until=latest))


async def set_state(
    tx: AsyncConnection, resource: Resource, state: ResourceState, *, due_at: datetime | None = None
) -> Resource:
    """Note what is known of it, and when to look at it next."""
    return await _change(tx, replace(resource, state=state, due_at=due_at))


async def take_over(tx: AsyncConnection, resource: Resource, made_by: UUID) -> Resource:
    """Make what an earlier event left a later event's own, and no longer to be removed."""
    state = ResourceState.MADE if resource.state is ResourceState.REMOVING else resource.state
    if resource.doubt_until is not None and state is ResourceState.MADE:
        state = ResourceState.INTENDED
    return await _change(tx, replace(resource, made_by=made_by, state=state, due_at=None))


async def of_event(tx: AsyncConnection, made_by: UUID) -> list[Resource]:
    """What an event's own attempts made or may have made."""
    return await _read(tx, _query.where(_table.made_by == made_by))


async def of_org(tx: AsyncConnection, org_id: str) -> list[Resource]:
    """What was made for an organization."""
    return await _read(tx, _query.where(_table.org_id == org_id))


async def removable_due(
    tx: AsyncConnection, now: datetime, limit: int, *, org_id: str | None = None
) -> list[Resource]:
    """What is to be removed, or looked at once more after it was, the longest due first."""
    due = _removable(limit)
    if org_id is not None:
        due = due.where(_table.org_id == org_id)
    return await _read(tx, due, now=now)


@lru_cache(maxsize=8)  # asked every second, and mostly for nothing
def _removable(limit: int) -> Select[Any]:
    return (
        _query.where(
            _table.due_at <= bindparam("now", type_=_table.due_at.type),
            or_(_table.state == ResourceState.REMOVING, _table.state == ResourceState.REMOVED),
        )
        .order_by(_table.due_at, *(_table[name] for name in _KEY))
        .limit(limit)
    )


async def _change(tx: AsyncConnection, resource: Resource) -> Resource:
    await save(tx, [resource])
    return resource


async def _read(tx: AsyncConnection, query: Select[Any], **given: Any) -> list[Resource]:
    return [_resource(row) for row in await tx.execute(query, given)]


def _resource(row: Sequence[Any]) -> Resource:
    org_id, kind, resource_id, made_by, state, doubt_until, due_at = row
    return Resource(
        org_id, ResourceKind(kind), resource_id, made_by, ResourceState(state), doubt_until, due_at
    )
