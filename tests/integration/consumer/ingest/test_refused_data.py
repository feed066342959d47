"""A batch that the database refuses for one event: that one becomes a dead letter, the others count."""

from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest import loop
from consumer.ingest.batch import Applied, Received, apply_batch
from consumer.ingest.loop import Ingest, IngestLimits
from consumer.ingest.status import IngestStatus
from consumer.metrics import Metrics
from storage.database import Database, DataRefused
from tests.integration.consumer.ingest.events import POLICY, activate, job, outcomes_of, state_of


async def test_guarantee_8_one_event_the_database_refuses_poisons_no_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await activate(database)

    async def picky(tx: AsyncConnection, received: Sequence[Received], *rest: Any, **more: Any) -> Applied:
        if any(one.event.subject == "guilty" for one in received):
            raise DataRefused("out of range")
        return await apply_batch(tx, received, *rest, **more)

    monkeypatch.setattr(loop, "apply_batch", picky)
    no_consumer: Any = None
    ingest = Ingest(
        no_consumer,
        database,
        POLICY,
        IngestLimits(max_event_bytes=100_000),
        metrics=Metrics(CollectorRegistry()),
        status=IngestStatus(),
        on_applied=lambda _: None,
    )
    applied = await ingest._apply([job("a"), job("guilty"), job("b"), job("c")], [])
    assert applied.dead_letters == {"unprocessable": 1}
    assert applied.outcomes == {"credits.deducted": 3}
    assert [one["data"]["job_id"] for one in await outcomes_of(database)] == ["a", "b", "c"]
    assert (await state_of(database)).charges == 3
