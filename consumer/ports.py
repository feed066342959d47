"""What the running service reaches outside itself and may have to wait for, in one place.

`run` hands in the real ones. Whoever hands in others runs the same service over another world.
"""

import random
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from uuid import UUID, uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener

from consumer.ingest.client import make_consumer
from consumer.settings import Settings
from producers.kafka_client import make_producer, missing_topics
from storage.database import Clock, database_now

_ANSWER_WITHIN_S = 10.0


class Kafka(Protocol):
    """The cluster, as the service uses it."""

    async def missing_topics(self, names: Collection[str]) -> Collection[str]:
        """Say which of these topics are not there; raises KafkaUnreachable where no broker answers."""

    def consumer(self, *, listener: ConsumerRebalanceListener) -> AIOKafkaConsumer:
        """Make the member of the consumer group, not started; the listener is told of rebalances."""

    def producer(self) -> AIOKafkaProducer:
        """Make a producer, not started."""


class KafkaCluster:
    """A real cluster, reached as the settings say."""

    def __init__(self, settings: Settings, *, client_id: str) -> None:
        """Connect to nothing yet; `client_id` is what the brokers' logs call our consumer."""
        connection = settings.kafka
        self._connection = connection
        self.producer = partial(make_producer, connection, idempotent=settings.kafka_idempotence)
        self.consumer = partial(
            make_consumer,
            settings.inbound_topics,
            connection,
            group_id=settings.kafka_group_id,
            client_id=client_id,
            session_timeout_s=settings.kafka_session_timeout,
        )

    async def missing_topics(self, names: Collection[str]) -> Collection[str]:
        """Say which of these topics are not there; raises KafkaUnreachable where no broker answers."""
        return await missing_topics(self._connection, names, timeout_s=_ANSWER_WITHIN_S)


@dataclass(frozen=True, slots=True)
class Ports:
    """Kafka, the clocks, and chance.

    Attributes:
        kafka: The cluster.
        clock: The database's time, which all instances share.
        monotonic: This process's clock, in seconds.
        random: A number from 0 up to 1, for jitter.
        token_bytes: So many bytes that nobody can guess, for virtual keys.
        new_token: Names a lease's holder among all.
    """

    kafka: Kafka
    clock: Clock = database_now
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    token_bytes: Callable[[int], bytes] = secrets.token_bytes
    new_token: Callable[[], UUID] = uuid4
