"""Waiting for Kafka at the start: a broker that answers and every topic of the settings."""

import asyncio
import random
from collections.abc import Iterable

import structlog

from consumer.ingest.status import IngestStatus
from consumer.pauses import growing_pauses, wait_for_any
from producers.kafka_client import KafkaConnection, KafkaUnreachable, missing_topics

log = structlog.get_logger(__name__)

ANSWER_WITHIN_S = 10.0
LONGEST_PAUSE_S = 5.0


async def wait_for_topics(
    kafka: KafkaConnection, wanted: Iterable[str], *, status: IngestStatus, stop: asyncio.Event
) -> bool:
    """Wait until a broker answers and all topics exist; False where we are stopped before.

    `run` creates no topic. What is waited for stands in `status`, and in the log once, not once a try.
    """
    names = frozenset(wanted)
    pauses = growing_pauses(random.random, most=LONGEST_PAUSE_S)
    said: object = None
    while not stop.is_set():
        try:
            missing = tuple(sorted(await missing_topics(kafka, names, timeout_s=ANSWER_WITHIN_S)))
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
