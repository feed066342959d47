"""How far each replay has come, so that the same command goes on where it was interrupted.

Guarantee: a place is saved in the transaction that holds what the records before it came to, so whoever goes
on from there misses none; of two runs of one replay only the one that came last saves anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.bulk import insert_rows
from storage.tables import replay_partitions, replays


class TakenOver(Exception):  # noqa: N818 (says what is so)
    """Another run of the same replay has it in hand."""


@dataclass(frozen=True, slots=True)
class PartitionPlace:
    """What is read of one partition, and how far: from `first_offset` up to, not including, `end_offset`."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class ReplayState:
    """A replay that was begun and has not ended; `tally` (JSON text) says what its records came to so far."""

    begun_at: datetime
    tally: str
    places: list[PartitionPlace]


_PLACE = tuple(field.name for field in fields(PartitionPlace))


async def begin(
    tx: AsyncConnection,
    replay_id: UUID,
    token: UUID,
    places: Sequence[PartitionPlace],
    *,
    tally: str,
    now: datetime,
) -> None:
    """Begin a replay anew; what was known of it before is forgotten."""
    await forget(tx, replay_id)
    columns = ("replay_id", "token", "begun_at", "saved_at", "tally")
    await insert_rows(tx, replays, columns, [(replay_id, token, now, now, tally)])
    await insert_rows(
        tx, replay_partitions, ("replay_id", *_PLACE), [(replay_id, *astuple(place)) for place in places]
    )


async def take_over(tx: AsyncConnection, replay_id: UUID, token: UUID) -> ReplayState | None:
    """Go on with a replay: any other run of it saves nothing from now on. None: there is none in hand."""
    taken = (
        update(replays)
        .where(replays.c.replay_id == replay_id)
        .values(token=token)
        .returning(replays.c.begun_at, replays.c.tally)
    )
    row = (await tx.execute(taken)).one_or_none()
    if row is None:
        return None
    columns = [replay_partitions.c[name] for name in _PLACE]
    found = await tx.execute(
        select(*columns)
        .where(replay_partitions.c.replay_id == replay_id)
        .order_by(replay_partitions.c.topic, replay_partitions.c.partition)
    )
    return ReplayState(row.begun_at, row.tally, [PartitionPlace(*place) for place in found])


async def save(
    tx: AsyncConnection,
    replay_id: UUID,
    token: UUID,
    next_offsets: Mapping[tuple[str, int], int],
    *,
    tally: str,
    now: datetime,
) -> None:
    """Note the place in these partitions, and what all records so far came to.

    Raises:
        TakenOver: Another run has the replay in hand, or it has ended.
    """
    noted = (
        update(replays)
        .where(replays.c.replay_id == replay_id, replays.c.token == token)
        .values(tally=tally, saved_at=now)
        .returning(replays.c.replay_id)
    )
    if await tx.scalar(noted) is None:
        raise TakenOver
    columns = replay_partitions.c
    for (topic, partition), offset in sorted(next_offsets.items()):
        await tx.execute(
            update(replay_partitions)
            .where(columns.replay_id == replay_id, columns.topic == topic, columns.partition == partition)
            .values(next_offset=offset)
        )


async def forget(tx: AsyncConnection, replay_id: UUID, token: UUID | None = None) -> None:
    """End a replay: the same command begins anew. With a token only where it still has it in hand."""
    ended = delete(replays).where(replays.c.replay_id == replay_id)
    await tx.execute(ended if token is None else ended.where(replays.c.token == token))
