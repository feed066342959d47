"""A Kafka broker, and topics that belong to one test."""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from consumer.demo.broker import EmbeddedBroker
from tests.parts.choice import KAFKA, Source
from tests.parts.images import image_of
from tests.parts.loops import held_apart
from tests.parts.ports import free_port


@contextlib.contextmanager
def kafka() -> Iterator[str]:
    """The address (HOST:PORT) of the chosen broker, started where it is ours to start."""
    match KAFKA.source:
        case Source.GIVEN:
            yield str(KAFKA.given)
        case Source.CONTAINER:
            with _container() as address:
                yield address
        case _:
            with held_apart(EmbeddedBroker()) as broker:
                yield broker.connection.bootstrap_servers


@contextlib.contextmanager
def _container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - only where Docker answers
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy  # noqa: PLC0415

    port = free_port()  # known beforehand, because the broker itself tells it to its clients
    container = (
        DockerContainer(image_of("kafka"))
        .with_bind_ports(9092, port)
        .with_envs(
            KAFKA_NODE_ID="1",
            KAFKA_PROCESS_ROLES="broker,controller",
            KAFKA_CONTROLLER_QUORUM_VOTERS="1@localhost:9093",
            KAFKA_CONTROLLER_LISTENER_NAMES="CONTROLLER",
            KAFKA_LISTENERS="PLAINTEXT://:9092,CONTROLLER://:9093",
            KAFKA_ADVERTISED_LISTENERS=f"PLAINTEXT://127.0.0.1:{port}",
            KAFKA_LISTENER_SECURITY_PROTOCOL_MAP="PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
            KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR="1",
            KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR="1",
            KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS="0",
            KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
        )
        .waiting_for(LogMessageWaitStrategy("Kafka Server started"))
    )
    with container:
        yield f"127.0.0.1:{port}"


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of the six topics, of one test alone."""

    org_created: str
    user_joined: str
    job_completed: str
    provisioning_outcomes: str
    credits_outcomes: str
    dead_letters: str

    def environment(self) -> Mapping[str, str]:
        """The settings that name them."""
        return {f"QM_TOPIC_{name.upper()}": getattr(self, name) for name in self.__dataclass_fields__}


async def create_topics(admin: AIOKafkaAdminClient, topics: Sequence[NewTopic]) -> None:
    """Create them, and wait until the broker shows them to everybody.

    A controller answers before its brokers know a topic: who asks one at once may hear it isn't there.
    """
    response = await admin.create_topics(list(topics), timeout_ms=30_000)
    for topic, code, *message in response.topic_errors:
        if code:
            raise RuntimeError(f"topic {topic} was not created: error {code} {message}")
    missing = {topic.name: topic.num_partitions for topic in topics}
    async with asyncio.timeout(30):
        while missing:
            for topic in await admin.describe_topics(list(missing)):
                led = [one for one in topic["partitions"] if not one["error_code"]]
                if not topic["error_code"] and len(led) == missing[topic["topic"]]:
                    del missing[topic["topic"]]
            if missing:
                await asyncio.sleep(0.02)  # the broker's own pace: it has nothing to wait on


class TopicFactory:
    """Creates topics nobody else uses, and deletes them at the end (async context manager)."""

    def __init__(self, address: str) -> None:
        self._admin = AIOKafkaAdminClient(bootstrap_servers=address)
        self._created: list[str] = []

    async def __aenter__(self) -> Self:
        await self._admin.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._created:
                await self._admin.delete_topics(self._created)
        finally:
            await self._admin.close()

    async def create(self, *names: str, partitions: int = 6) -> list[str]:
        """Topics with these names under a prefix of their own, one replica each; returns the full names."""
        prefix = f"qm-{uuid.uuid4().hex[:12]}"
        topics = [f"{prefix}.{name}" for name in names]
        self._created += topics
        await create_topics(self._admin, [NewTopic(topic, partitions, 1) for topic in topics])
        return topics

    async def create_all(self, *, partitions: int = 6) -> Topics:
        """The six topics of a Quartermaster."""
        names = ("org.created", "user.joined", "job.completed", "provisioning.outcomes", "credits.outcomes")
        return Topics(*await self.create(*names, "quartermaster.dead-letters", partitions=partitions))
