"""Another round for what failed: provisioning, and charges that were refused for a reason named."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.decisions.waiting import join_queue
from consumer.pauses import wait_for_any
from consumer.replay.pace import Pace
from consumer.replay.running import patiently
from consumer.replay.stored import StoredSelection, name_of
from schemas.events import EventType
from schemas.json_codec import parse_trusted_json
from storage import inbox, organizations
from storage.database import Clock, Database, database_now
from storage.inbox import InboxRow
from storage.organizations import OrgStatus

PAGE: Final = 500
AT_ONCE: Final = 100
"""Events opened again in one transaction: their organizations are locked meanwhile."""


@dataclass(slots=True)
class Retried:
    """What another round was given to, by type and by the reason it had failed for."""

    types: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, row: InboxRow) -> None:
        """Count an event."""
        self.types[row.type.value] += 1
        self.reasons[reason_of(row)] += 1

    @property
    def total(self) -> int:
        """How many events there are."""
        return self.types.total()


def reason_of(row: InboxRow) -> str:
    """Say why an event failed: its outcome's `error_code` or `reason`."""
    if row.failure is None:
        return ""
    return str(cast("dict[str, object]", parse_trusted_json(row.failure.encode())).get("error_code", ""))


def is_meant(row: InboxRow, selection: StoredSelection, reasons: frozenset[str]) -> bool:
    """Whether a failed event is to be tried again.

    With reasons only what failed for one of them; without, whatever failed but refused charges: nothing has
    changed for those until somebody says so.
    """
    if reasons and reason_of(row) not in reasons:
        return False
    if not reasons and row.type is EventType.JOB_COMPLETED:
        return False
    return selection.takes(row.org_id, lambda: name_of(row.event, "source", "id"))


async def failed_pages(
    database: Database, selection: StoredSelection, reasons: frozenset[str]
) -> AsyncIterator[list[InboxRow]]:
    """Give the failed events that are meant, page by page."""
    after = 0

    async def read() -> list[InboxRow]:
        async with database.reading() as tx:
            return await inbox.failed_rows(
                tx,
                org_id=selection.only_org,
                identities=selection.identities,
                stored_from=selection.begin,
                stored_to=selection.end,
                after=after,
                limit=PAGE,
            )

    while page := await patiently(read):
        after = page[-1].inbox_id
        yield [row for row in page if is_meant(row, selection, reasons)]


async def would_retry(database: Database, selection: StoredSelection, reasons: frozenset[str]) -> Retried:
    """Say what `retry_failed` would give another round to."""
    found = Retried()
    async for page in failed_pages(database, selection, reasons):
        for row in page:
            found.add(row)
    return found


async def retry_failed(
    database: Database,
    selection: StoredSelection,
    reasons: frozenset[str],
    *,
    dependency_wait: timedelta,
    rate: float | None,
    stop: asyncio.Event,
    on_progress: Callable[[int], None],
    clock: Clock = database_now,
    monotonic: Callable[[], float] = time.monotonic,
) -> Retried:
    """Open failed events for another round; running instances go on with them.

    Guarantees: an event is opened once however many do this at the same time; of an organization whose
    `org.created` is opened, the dependents wait for it as for any other.

    Args:
        database: The books.
        selection: Which failed events.
        reasons: Which failures; empty: all but refused charges.
        dependency_wait: How long an event waits for an organization of which no `org.created` is in hand.
        rate: Events a second at most; None: no limit.
        stop: Ends it early.
        on_progress: Told how many were opened.
        clock: The database's time.
        monotonic: A clock in seconds.
    """
    opened = Retried()
    pace = Pace(rate, monotonic=monotonic)
    at_once = AT_ONCE if rate is None else max(1, min(AT_ONCE, int(rate / 20)))
    async for page in failed_pages(database, selection, reasons):
        for start in range(0, len(page), at_once):
            if stop.is_set():
                return opened
            some = page[start : start + at_once]

            async def work(tx: AsyncConnection, some: Sequence[InboxRow] = some) -> list[InboxRow]:
                return await _open(tx, some, now=await clock(tx), dependency_wait=dependency_wait)

            for row in await patiently(lambda work=work: database.run(work)):  # type: ignore[misc]
                opened.add(row)
            on_progress(opened.total)
            if (wait := pace.spend(len(some))) > 0:
                await wait_for_any(stop, timeout=wait)
    return opened


async def _open(
    tx: AsyncConnection, rows: Sequence[InboxRow], *, now: datetime, dependency_wait: timedelta
) -> list[InboxRow]:
    """Open these for another round; return those that had not been opened by somebody else."""
    states = await organizations.lock(tx, sorted({row.org_id for row in rows}))
    before = dict(states)
    opened: list[InboxRow] = []
    # What an organization's dependents wait for comes before they do.
    for row in sorted(rows, key=lambda row: (row.type is not EventType.ORG_CREATED, row.inbox_id)):
        state, reason, due_at = join_queue(
            states[row.org_id], row.type, now=now, dependency_wait=dependency_wait
        )
        if await inbox.reopen(tx, row, reason=reason, due_at=due_at) is not None:
            states[row.org_id] = state
            opened.append(row)
    begun = [
        org_id
        for org_id, state in states.items()
        if state.status is OrgStatus.PROVISIONING and before[org_id].status is not state.status
    ]
    await inbox.hold_dependents(tx, begun)
    await organizations.save(tx, [state for org_id, state in states.items() if state != before[org_id]])
    return opened
