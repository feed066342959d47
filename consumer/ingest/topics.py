"""Waiting for Kafka at the start: a broker that answers and every topic of the settings."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterable

import structlog

from consumer.ingest.status import IngestStatus
from consumer.pauses import growing_pauses, wait_for_any
from producers.kafka_client import KafkaUnreachable

log = structlog.get_logger(__name__)

LONGEST_PAUSE_S = 5.0


async def wait_for_topics(
    missing_topics: Callable[[Collection[str]], Awaitable[Collection[str]]],
    wanted: Iterable[str],
    *,
    status: IngestStatus,
    stop: asyncio.Event,
    jitter: Callable[[], float] = random.random,
) -> bool:
    """Wait until a broker answers and all topics exist; False where we are stopped before.

    `run` creates no topic. What is waited for stands in `status`, and in the log once, not once a try.
    """
    names = frozenset(wanted)
    pauses = growing_pauses(jitter, most=LONGEST_PAUSE_S)
    said: object = None
    while not stop.is_set():
        try:
            missing = tuple(sorted(await missing_topics(names)))
        except KafkaUnreachable as error:
            status.broker_error = str(error)
            if said != status.broker_error:
                log.warning("broker_unavailable", error=str(error), action="waiting for it")
                said = status.broker_error
        else:
            status.broker_error = None
            status.missing_topics = missing
            if not missing:
                return True
            if said != missing:
                log.warning("topics_missing", topics=missing, action="waiting for them")
                said = missing
        await wait_for_any(stop, timeout=next(pauses))
    return False
