"""Defects to plant, as real consumers have had them: a harness that finds none proves nothing."""

from collections.abc import Callable
from typing import Any

from consumer.ingest.loop import Ingest
from producers.relay import Relay
from storage import inbox, leases, resources


def offsets_before_effects() -> None:
    """Offsets are committed before the transaction that holds what their events caused."""
    apply_and_commit = Ingest._apply_and_commit

    async def planted(self: Ingest, batch: Any) -> bool:
        self._offsets.decided({one.partition: one.record.offset + 1 for one in batch})
        await self._commit()
        return await apply_and_commit(self, batch)

    Ingest._apply_and_commit = planted  # type: ignore[method-assign]


def acknowledged_before_sent() -> None:
    """The relay deletes what it is about to send."""
    begin = Relay._begin

    async def planted(self: Relay, rows: Any, held: Any) -> Any:
        self._finish(row.outbox_id for row in rows)
        await self._acknowledge()
        return await begin(self, rows, held)

    Relay._begin = planted  # type: ignore[method-assign]


def leases_not_held() -> None:
    """Results are written whether or not the lease is still ours.

    No run has shown harm of it: keys and constraints behind the lease refuse what a zombie writes.
    """

    async def planted(*_: Any) -> None:
        return None

    leases.hold = planted  # type: ignore[assignment]


def waiting_jobs_reversed() -> None:
    """What waited longest is charged last."""
    waiting_jobs = inbox.waiting_jobs

    async def planted(*arguments: Any) -> Any:
        return list(reversed(await waiting_jobs(*arguments)))

    inbox.waiting_jobs = planted  # type: ignore[assignment]


def nothing_written_down() -> None:
    """Calls that make something are not written down before they are made."""

    async def planted(*_: Any) -> None:
        return None

    resources.save = planted  # type: ignore[assignment]


PLANTED: dict[str, Callable[[], None]] = {
    plant.__name__.replace("_", "-"): plant
    for plant in (
        offsets_before_effects,
        acknowledged_before_sent,
        leases_not_held,
        waiting_jobs_reversed,
        nothing_written_down,
    )
}
