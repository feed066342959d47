"""Organizations: the row that each one's order hangs on, and what an active one is.

Guarantee: between `lock` and the end of the transaction nobody else decides anything about these
organizations, so that balances, counters and the order of outcomes follow one another without gaps. Also an
organization nobody has heard of has a row, once something waits for it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.bulk import Form, Write, among, insert_new, insert_rows, is_wanted, update_rows, updating, wanted
from storage.tables import org_profiles, organizations


class OrgStatus(StrEnum):
    """Where an organization stands."""

    UNKNOWN = "unknown"  # something waits for it; no org.created came
    PROVISIONING = "provisioning"  # an org.created is queued or being tried
    ACTIVE = "active"
    FAILED = "failed"  # the last org.created ended in failure


_STATUSES: Final = {status.value: status for status in OrgStatus}


class OrgState(NamedTuple):
    """One organization's place in its own order.

    `balance` in credits; `charges` and `entries` count its ledger; `waiting_jobs` counts the jobs stored
    before those to come.
    """

    org_id: str
    status: OrgStatus = OrgStatus.UNKNOWN
    balance: int = 0
    charges: int = 0
    entries: int = 0
    waiting_jobs: int = 0
    failed_at: datetime | None = None

    def charged(self, price: int) -> Self:
        """Return the state after a charge of `price` credits, booked as one more entry."""
        org_id, status, balance, charges, entries, waiting_jobs, failed_at = self
        return self.__class__(
            org_id, status, balance - price, charges + 1, entries + 1, waiting_jobs, failed_at
        )


@dataclass(frozen=True, slots=True)
class OrgProfile:
    """What stands for an active organization; `max_budget_usd` is a decimal string, `metadata` JSON text."""

    org_id: str
    name: str
    owner_user_id: str
    team_id: str
    adopted: bool
    max_budget_usd: str | None
    models: tuple[str, ...]
    metadata: str | None
    provisioned_at: datetime


_PROFILE = (
    "org_id",
    "name",
    "owner_user_id",
    "team_id",
    "adopted",
    "max_budget_usd",
    "models",
    "metadata",
    "provisioned_at",
)
_PROFILE_OF: Final = select(*(org_profiles.c[name] for name in _PROFILE)).where(
    org_profiles.c.org_id == bindparam("org_id")
)
_state_columns = [organizations.c[name] for name in OrgState._fields]


async def lock(tx: AsyncConnection, org_ids: Iterable[str]) -> dict[str, OrgState]:
    """Hold these organizations until the transaction ends; unknown ones get a row.

    The rows are locked in sorted order. Where some are new, two transactions may still cross; PostgreSQL then
    ends one of them, and `Database.run` does it again.
    """
    wanted = sorted(set(org_ids))
    states = await _locked(tx, wanted)
    missing = [org_id for org_id in wanted if org_id not in states]
    if missing:
        made = await insert_new(tx, organizations, "org_id", ("org_id",), [(org_id,) for org_id in missing])
        states |= {org_id: OrgState(org_id) for org_id in made}
        # Those that somebody else made in between.
        states |= await _locked(tx, [org_id for org_id in missing if org_id not in made])
    return states


async def _locked(tx: AsyncConnection, org_ids: list[str]) -> dict[str, OrgState]:
    if not org_ids:
        return {}
    form, value = wanted(tx, organizations.c.org_id, org_ids)
    rows = await tx.execute(_locking(form), {"wanted": value})
    return {state.org_id: state for state in map(_state, rows)}


@lru_cache(maxsize=4)
def _locking(form: Form) -> Select[Any]:
    org_id = organizations.c.org_id
    return select(*_state_columns).where(is_wanted(org_id, form)).order_by(org_id).with_for_update()


async def read(tx: AsyncConnection, org_ids: Iterable[str]) -> dict[str, OrgState]:
    """What stands for those of `org_ids` that have a row, without holding them."""
    ids = list(org_ids)
    if not ids:
        return {}
    query = select(*_state_columns).where(among(tx, organizations.c.org_id, ids))
    return {state.org_id: state for state in map(_state, await tx.execute(query))}


async def page(
    tx: AsyncConnection, *, status: OrgStatus | None = None, after: str = "", limit: int = 500
) -> list[OrgState]:
    """The first `limit` organizations beyond `after` by id, all that have a row or those of one status."""
    query = select(*_state_columns).where(organizations.c.org_id > after)
    if status is not None:
        query = query.where(organizations.c.status == status)
    rows = await tx.execute(query.order_by(organizations.c.org_id).limit(limit))
    return [_state(row) for row in rows]


async def save(tx: AsyncConnection, states: Iterable[OrgState]) -> None:
    """Write these states, of organizations locked in this transaction."""
    await update_rows(tx, organizations, OrgState._fields, list(states))


def saving(states: Iterable[OrgState]) -> Write:
    """What `save` has PostgreSQL do; one state at least."""
    return updating(organizations, OrgState._fields, list(states))


async def activate(tx: AsyncConnection, state: OrgState, profile: OrgProfile) -> OrgState:
    """Make a locked organization active, once.

    Returns:
        The state as saved.

    Raises:
        sqlalchemy.exc.IntegrityError: It is active already.
    """
    active = state._replace(status=OrgStatus.ACTIVE, failed_at=None)
    await save(tx, [active])
    row = (
        profile.org_id,
        profile.name,
        profile.owner_user_id,
        profile.team_id,
        profile.adopted,
        profile.max_budget_usd,
        json.dumps(profile.models, ensure_ascii=False),
        profile.metadata,
        profile.provisioned_at,
    )
    await insert_rows(tx, org_profiles, _PROFILE, [row])
    return active


async def profile(tx: AsyncConnection, org_id: str) -> OrgProfile | None:
    """What stands for an active organization; None for any other."""
    found = (await tx.execute(_PROFILE_OF, {"org_id": org_id})).one_or_none()
    if found is None:
        return None
    values = found._asdict()
    return OrgProfile(**{**values, "models": tuple(json.loads(values["models"]))})


def _state(row: Sequence[Any]) -> OrgState:
    org_id, status, *rest = row
    return OrgState(org_id, _STATUSES[status], *rest)
