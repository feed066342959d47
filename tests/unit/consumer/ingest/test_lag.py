"""What the lag watch and the observer make of a consumer that misbehaves silently."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from consumer.ingest import lag
from consumer.ingest.lag import LagWatch
from consumer.ingest.status import IngestStatus
from consumer.metrics import Metrics
from consumer.observer import Observer

P0, P1 = TopicPartition("in", 0), TopicPartition("in", 1)


class FakeConsumer:
    """As much of a consumer as the watch looks at; a position of None never comes."""

    def __init__(self, positions: dict[TopicPartition, int | None], ends: dict[TopicPartition, int]) -> None:
        self.positions = positions
        self.ends = ends
        self.pausing: set[TopicPartition] = set()
        self._coordinator = SimpleNamespace(generation=1)

    def assignment(self) -> set[TopicPartition]:
        return set(self.positions)

    def paused(self) -> set[TopicPartition]:
        return self.pausing

    async def topics(self) -> set[str]:
        return {"in"}

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {one: self.ends[one] for one in partitions}

    async def position(self, partition: TopicPartition) -> int:
        position = self.positions[partition]
        if position is None:
            await asyncio.Event().wait()
        assert position is not None
        return position


class Bench:
    """A watch and an observer over a fake consumer, and a clock that the test moves."""

    def __init__(self, consumer: FakeConsumer) -> None:
        self.now = 1000.0
        self.status = IngestStatus(progress_at=self.now, member_at=self.now)
        metrics = Metrics(CollectorRegistry())
        fake: Any = consumer
        self.watch = LagWatch(fake, metrics=metrics, status=self.status, monotonic=lambda: self.now)
        self.observer = Observer(self.status, metrics, stopping=lambda: False, monotonic=lambda: self.now)
        self.observer.database_error = None


async def test_lag_without_progress_for_a_minute_is_a_reason() -> None:
    bench = Bench(FakeConsumer({P0: 5, P1: 9}, {P0: 8, P1: 9}))
    await bench.watch.look()
    assert bench.status.lag == 3
    assert bench.observer.reasons() == []
    bench.now += 61
    await bench.watch.look()
    assert any("none read for 61 s" in reason for reason in bench.observer.reasons())


async def test_no_lag_is_progress() -> None:
    bench = Bench(FakeConsumer({P0: 8}, {P0: 8}))
    bench.now += 3600
    await bench.watch.look()
    assert bench.observer.reasons() == []


async def test_a_place_that_nobody_knows_counts_as_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "POSITION_TIMEOUT_S", 0)
    bench = Bench(FakeConsumer({P0: None}, {P0: 8}))
    await bench.watch.look()
    assert bench.status.lag == 1


async def test_standing_by_without_partitions_is_ready() -> None:
    bench = Bench(FakeConsumer({}, {}))
    bench.now += 3600
    await bench.watch.look()
    assert bench.observer.reasons() == []


async def test_out_of_the_group_for_long_is_a_reason() -> None:
    consumer = FakeConsumer({}, {})
    bench = Bench(consumer)
    consumer._coordinator.generation = -1
    bench.now += 31
    await bench.watch.look()
    assert bench.observer.reasons() == ["not in the consumer group"]


async def test_a_broker_that_went_silent_is_a_reason() -> None:
    bench = Bench(FakeConsumer({}, {}))
    await bench.watch.look()
    bench.now += 31
    bench.status.member_at = bench.now
    assert bench.observer.reasons() == ["broker: no answer for 31 s"]


async def test_a_stopped_topic_is_not_measured_but_named() -> None:
    consumer = FakeConsumer({P0: 1}, {P0: 100})
    consumer.pausing = {P0}
    bench = Bench(consumer)
    bench.status.open_breakers.add("in")
    await bench.watch.look()
    assert bench.status.lag == 0
    assert bench.observer.reasons() == ["breaker open: in"]
