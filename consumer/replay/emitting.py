"""Stored outcomes published once more, byte for byte, by the relays of running instances."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.pauses import wait_for_any
from consumer.replay.pace import Pace
from consumer.replay.running import patiently
from consumer.replay.stored import Name, StoredSelection, name_of
from schemas.event import identity_digest
from storage import organizations, outbox, outcomes, replays
from storage.database import Clock, Database, database_now
from storage.outcomes import StoredOutcome
from storage.replays import PartitionPlace

PAGE: Final = 1_000
AT_ONCE: Final = 500
"""Outcomes entered in one transaction: their organizations are locked meanwhile."""
_OUTCOMES: Final = " outcomes"
"""What stands for a topic where the place is noted: none has this name."""


@dataclass(slots=True)
class Emitted:
    """Outcomes entered in the outbox again, by type."""

    types: Counter[str] = field(default_factory=Counter)
    seen: int = 0

    @property
    def total(self) -> int:
        """How many there are."""
        return self.types.total()


def is_meant(outcome: StoredOutcome, selection: StoredSelection, our_source: str) -> bool:
    """Whether an outcome is asked for; one of an operator's command goes by the command's `--id`."""

    def name() -> Name:
        source, id_ = name_of(outcome.value, "causationsource", "causationid")
        if id_ is not None:
            return source, id_
        ids = (
            one for one in selection.event_ids if identity_digest(our_source, one) == outcome.cause_identity
        )
        return our_source, next(ids, None)

    return selection.takes(outcome.org_id, name)


async def meant_pages(
    database: Database, selection: StoredSelection, our_source: str, *, after: int, last: int
) -> AsyncIterator[tuple[int, list[StoredOutcome]]]:
    """Give the outcomes meant, numbered beyond `after` up to `last`, by pages with their last number."""

    async def read() -> list[StoredOutcome]:
        async with database.reading() as tx:
            return await outcomes.page(
                tx,
                org_id=selection.only_org,
                identities=selection.identities,
                decided_from=selection.begin,
                decided_to=selection.end,
                after=after,
                limit=PAGE,
            )

    while page := [one for one in await patiently(read) if one.outcome_seq <= last]:
        after = page[-1].outcome_seq
        yield after, [one for one in page if is_meant(one, selection, our_source)]


async def last_number(database: Database) -> int:
    """Give the number of the last outcome there is."""
    async with database.reading() as tx:
        return await outcomes.last_number(tx)


async def would_emit(database: Database, selection: StoredSelection, our_source: str) -> Emitted:
    """Say what `re_emit` would publish."""
    found = Emitted()
    last = await last_number(database)
    async for _, page in meant_pages(database, selection, our_source, after=0, last=last):
        found.types.update(one.type.value for one in page)
    return found


async def re_emit(
    database: Database,
    selection: StoredSelection,
    our_source: str,
    *,
    command_id: UUID,
    restart: bool,
    rate: float | None,
    stop: asyncio.Event,
    on_begun: Callable[[int, int], None],
    on_progress: Callable[[int], None],
    clock: Clock = database_now,
    monotonic: Callable[[], float] = time.monotonic,
) -> Emitted:
    """Enter stored outcomes in the outbox once more, in the order decided; those decided meanwhile are not.

    Interrupted, the same command goes on where it was: the place is noted with what was entered.

    Args:
        database: The books.
        selection: Which outcomes.
        our_source: Our `source`.
        command_id: Names the command: the same one has the same.
        restart: Begin anew where it was interrupted.
        rate: Outcomes a second at most; None: no limit.
        stop: Ends it early.
        on_begun: Told from which number on, up to which.
        on_progress: Told the number that was passed.
        clock: The database's time.
        monotonic: A clock in seconds.

    Raises:
        TakenOver: The same command was given once more.
    """
    token = uuid4()
    place = await database.run(lambda tx: _begin(tx, command_id, token, restart=restart, clock=clock))
    on_begun(place.next_offset, place.end_offset)
    emitted = Emitted()
    pace = Pace(rate, monotonic=monotonic)
    at_once = AT_ONCE if rate is None else max(1, min(AT_ONCE, int(rate / 20)))
    pages = meant_pages(database, selection, our_source, after=place.next_offset, last=place.end_offset)
    async for last, page in pages:
        for start in range(0, max(1, len(page)), at_once):
            some = page[start : start + at_once]
            passed = last if start + at_once >= len(page) else some[-1].outcome_seq

            async def work(
                tx: AsyncConnection, some: Sequence[StoredOutcome] = some, passed: int = passed
            ) -> None:
                if some:
                    await organizations.lock(tx, sorted({one.org_id for one in some}))
                    await outbox.append_again(tx, [one.outcome_seq for one in some])
                at = {(_OUTCOMES, 0): passed}
                await replays.save(tx, command_id, token, at, tally="{}", now=await clock(tx))

            await patiently(lambda work=work: database.run(work))  # type: ignore[misc]
            emitted.types.update(one.type.value for one in some)
            on_progress(passed)
            if stop.is_set():
                return emitted
            if (wait := pace.spend(len(some))) > 0:
                await wait_for_any(stop, timeout=wait)
    await patiently(lambda: database.run(lambda tx: replays.forget(tx, command_id, token)))
    return emitted


async def _begin(
    tx: AsyncConnection, command_id: UUID, token: UUID, *, restart: bool, clock: Clock
) -> PartitionPlace:
    state = None if restart else await replays.take_over(tx, command_id, token)
    if state is not None:
        return state.places[0]
    place = PartitionPlace(_OUTCOMES, 0, 0, 0, await outcomes.last_number(tx))
    await replays.begin(tx, command_id, token, [place], tally="{}", now=await clock(tx))
    return place
