"""Upstream's side: events into the topics that Quartermaster reads.

async with Publisher(KafkaConnection(bootstrap_servers="localhost:9092")) as publisher:
await publisher.publish({"type": "user.joined", "data": {"org_id": "acme", "user_id": "ann"}})
"""

import asyncio
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from producers.envelope import HEADERS, MAX_EVENT_BYTES, SOURCE, ReadyEvent, check, complete, encode
from producers.kafka_client import (
    KafkaConnection,
    describe_error,
    discard,
    look_up,
    make_producer,
    start_producer,
)
from schemas.events import EventType

DEFAULT_TOPICS: Final[Mapping[EventType, str]] = {each: each.value for each in EventType}
"""Each type on the topic of its name."""

WINDOW: Final = 1000
"""How many events `publish_all` has on the way at most."""


LOOK_UP_S: Final = 5.0
"""How long a topic may take to be seen: one just created is not known to every broker at once."""

_LOOK_AGAIN_S: Final = 0.25


class NotPublished(Exception):  # noqa: N818 - named for the event's state
    """The broker did not acknowledge an event, which may stand on the topic all the same.

    Published again as it was, with the same `id`, it takes effect once.
    """


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where an acknowledged event stands, and the identity under which it takes effect once.

    Attributes:
        id: The event's `id`.
        source: The event's `source`.
        topic: The topic.
        partition: The partition.
        offset: The offset.
    """

    id: str
    source: str
    topic: str
    partition: int
    offset: int


def _uuid() -> str:
    return str(uuid.uuid4())


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Publisher:
    """Publishes checked events, each acknowledged by all replicas in sync (async context manager).

    An event that the consumer would refuse is refused here, before anything is written. Events of one
    organization and type stand on their topic in the order published.

    Args:
        connection: The cluster.
        topics: Each type's topic.
        source: The `source` of events that give none: the name of your service.
        max_bytes: How many bytes an event may have; the consumer's `QM_MAX_EVENT_BYTES`.
        ack_timeout_s: How long the broker may take, in seconds.
        idempotent: Whether the broker removes the repeats of a request sent again; the demo's cannot.
        new_id: Makes the `id` of an event that gives none.
        now: Gives the `time` of an event that gives none.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topics: Mapping[EventType, str] = DEFAULT_TOPICS,
        *,
        source: str = SOURCE,
        max_bytes: int = MAX_EVENT_BYTES,
        ack_timeout_s: float = 30.0,
        idempotent: bool = True,
        new_id: Callable[[], str] = _uuid,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._connection = connection
        self._topics = dict(topics)
        self._source = source
        self._max_bytes = max_bytes
        self._ack_timeout_s = ack_timeout_s
        self._idempotent = idempotent
        self._new_id = new_id
        self._now = now
        self._producer: AIOKafkaProducer | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            KafkaUnreachable: No broker answers.
        """
        await self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            # Whatever was published is acknowledged; nothing is left to wait for.
            await discard(producer)

    def ready(self, event: Mapping[str, object]) -> ReadyEvent:
        """Complete and check an event, as `publish` does.

        Raises:
            InvalidEvent: The consumer would not take it.
        """
        completed = complete(event, source=self._source, new_id=self._new_id, now=self._now)
        return check(encode(completed), max_bytes=self._max_bytes)

    async def publish(self, event: Mapping[str, object] | ReadyEvent) -> Receipt:
        """Publish one event and wait for its acknowledgement.

        Args:
            event: A CloudEvent as a mapping (structured mode), or `{"type": ..., "data": ...}` with `id`,
                `source` and `time` filled in. Give your own `id` where you may have to publish it again.

        Raises:
            InvalidEvent: The consumer would not take it; nothing was written.
            KafkaUnreachable: No broker answers; nothing was written.
            NotPublished: The broker did not acknowledge it.
        """
        ready = event if isinstance(event, ReadyEvent) else self.ready(event)
        producer, sent = await self._send(ready.type, ready.key, ready.value)
        metadata = await self._acknowledged(sent, producer)
        return Receipt(
            ready.event.id, ready.event.source, metadata.topic, metadata.partition, metadata.offset
        )

    async def publish_all(
        self,
        events: Iterable[Mapping[str, object] | ReadyEvent],
        *,
        on_progress: Callable[[int], None] = lambda _published: None,
    ) -> int:
        """Publish many events, all checked before the first is written; give how many there were.

        Args:
            events: As for `publish`.
            on_progress: Told now and then how many have been acknowledged.

        Raises:
            InvalidEvent: The consumer would not take one of them; nothing was written.
            KafkaUnreachable: No broker answers.
            NotPublished: The broker did not acknowledge one of them; earlier ones may stand on their topics.
        """
        checked = [event if isinstance(event, ReadyEvent) else self.ready(event) for event in events]
        for start in range(0, len(checked), WINDOW):
            window = checked[start : start + WINDOW]
            await self._publish_window(window)
            on_progress(start + len(window))
        return len(checked)

    async def _publish_window(self, window: Iterable[ReadyEvent]) -> None:
        on_the_way: list[asyncio.Future[Any]] = []
        producers: set[AIOKafkaProducer] = set()
        try:
            for ready in window:
                producer, sent = await self._send(ready.type, ready.key, ready.value)
                producers.add(producer)
                on_the_way.append(sent)
        except BaseException:
            # Their errors follow from this one; gathered, nobody misses them.
            asyncio.gather(*on_the_way, return_exceptions=True)
            raise
        await self._acknowledged(asyncio.gather(*on_the_way), *producers)

    async def publish_unchecked(self, topic_of: EventType, *, key: bytes | None, value: bytes) -> None:
        """Publish a record as it is, however broken: to show what becomes of it.

        Raises:
            KafkaUnreachable: No broker answers.
            NotPublished: The broker did not acknowledge it.
        """
        producer, sent = await self._send(topic_of, key, value)
        await self._acknowledged(sent, producer)

    async def _send(
        self, type_: EventType, key: bytes | None, value: bytes
    ) -> tuple[AIOKafkaProducer, asyncio.Future[Any]]:
        """Hand a record to the producer, in order; give the producer too."""
        topic = self._topics[type_]
        producer = await self._started()
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                await _wait_for(producer, topic)
                sent: asyncio.Future[Any] = await producer.send(topic, value, key=key, headers=list(HEADERS))
        except (KafkaError, OSError, TimeoutError) as error:
            await self._give_up(producer)
            raise NotPublished(f"topic {topic}: {describe_error(error)}") from error
        return producer, sent

    async def _acknowledged(self, sent: asyncio.Future[Any], *producers: AIOKafkaProducer) -> Any:
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                return await sent
        except (KafkaError, OSError, TimeoutError) as error:
            for producer in producers:
                await self._give_up(producer)
            raise NotPublished(f"not acknowledged: {describe_error(error)}") from error

    async def _started(self) -> AIOKafkaProducer:
        async with self._turn:
            if self._producer is None:
                producer = make_producer(self._connection, idempotent=self._idempotent)
                await start_producer(producer)
                self._producer = producer
            return self._producer

    async def _give_up(self, producer: AIOKafkaProducer) -> None:
        """Throw a producer away: after a failure an idempotent one is refused by the broker.

        One that has been replaced was thrown away with its first failure, and its successor did not fail.
        """
        if self._producer is producer:
            self._producer = None
            await discard(producer)


async def _wait_for(producer: AIOKafkaProducer, topic: str) -> None:
    for _ in range(int(LOOK_UP_S / _LOOK_AGAIN_S)):
        if await look_up(producer, topic):
            return
        await asyncio.sleep(_LOOK_AGAIN_S)
    raise NotPublished(f"topic {topic} is not there, or may not be seen")
