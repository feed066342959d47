"""Waiting for Kafka at the start: a broker that answers and every topic of the settings."""

import asyncio
import random
from collections.abc import Iterable

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from consumer.ingest.drain import wait_for_any
from consumer.ingest.loop import growing_pauses
from consumer.ingest.status import IngestStatus
from producers.kafka_client import KafkaConnection

log = structlog.get_logger(__name__)

ANSWER_WITHIN_S = 10.0
LONGEST_PAUSE_S = 5.0


async def existing_topics(kafka: KafkaConnection) -> frozenset[str]:
    """Return the topics that exist.

    Raises:
        KafkaError: no broker answers, or it refuses us.
        TimeoutError: none answered within ten seconds.
        OSError: no connection can be made.
    """
    async with asyncio.timeout(ANSWER_WITHIN_S):
        admin = AIOKafkaAdminClient(**kafka.client_arguments())
        try:
            await admin.start()
            return frozenset(await admin.list_topics())
        finally:
            await admin.close()


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
            missing = tuple(sorted(names - await existing_topics(kafka)))
        except (KafkaError, TimeoutError, OSError) as error:
            status.broker_error = f"no answer from {kafka.bootstrap_servers}"
            if said != status.broker_error:
                log.warning("broker_unavailable", error=str(error) or type(error).__name__, action="waiting for it")
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
