"""How far behind the consumer is, asked of the broker: one that stopped silently shows up nowhere else."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from consumer.ingest.status import IngestStatus
from consumer.metrics import Metrics

log = structlog.get_logger(__name__)

CHECK_EVERY_S = 5.0
BROKER_TIMEOUT_S = 10.0
POSITION_TIMEOUT_S = 2.0


class LagWatch:
    """Writes into the status what the broker says: that it answers, the lag, and whether we are in the group.

    The client can leave its group and never return, or stop fetching, without an error: its users have met
    both. So membership is looked at, and a partition whose place nobody knows counts as lagging.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        *,
        metrics: Metrics,
        status: IngestStatus,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch a started consumer."""
        self._consumer = consumer
        self._metrics = metrics
        self._status = status
        self._monotonic = monotonic

    async def run(self) -> None:
        """Look every few seconds until cancelled."""
        while True:
            try:
                async with asyncio.timeout(BROKER_TIMEOUT_S):
                    await self.look()
            except (KafkaError, TimeoutError) as error:
                log.debug("lag_unknown", error=str(error) or type(error).__name__)
            await asyncio.sleep(CHECK_EVERY_S)

    async def look(self) -> None:
        """Ask once.

        Raises:
            KafkaError: the broker refuses the question.
        """
        consumer, status = self._consumer, self._status
        assigned = consumer.assignment()
        self._metrics.assigned(len(assigned))
        if self._in_group():
            status.member_at = self._monotonic()
        partitions = sorted(assigned - consumer.paused())
        ends = await consumer.end_offsets(partitions) if partitions else {}
        if not partitions:
            await consumer.topics()
        status.broker_seen_at = self._monotonic()

        lag: dict[str, int] = defaultdict(int)
        behind = await asyncio.gather(*(self._behind(one, ends[one]) for one in partitions))
        for partition, records in zip(partitions, behind, strict=True):
            lag[partition.topic] += records
        status.lag = sum(lag.values())
        self._metrics.lag(lag)
        if status.lag == 0 and not status.database_away:
            status.progress_at = self._monotonic()

    async def _behind(self, partition: TopicPartition, end: int) -> int:
        if partition not in self._consumer.assignment():
            return 0
        try:
            async with asyncio.timeout(POSITION_TIMEOUT_S):
                position: int = await self._consumer.position(partition)
        except TimeoutError:
            return 1  # nobody knows where we are: at least that is behind
        return max(0, end - position)

    def _in_group(self) -> bool:
        # There is no public way to ask; without a generation the broker knows no member of ours.
        return bool(self._consumer._coordinator.generation >= 0)  # noqa: SLF001
