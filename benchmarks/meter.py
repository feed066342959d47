"""A meter of latency: sends events at their times, and notes when what answers them arrives."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

ARRIVES_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Timed:
    """An event, and when it is to be sent, in seconds from the beginning."""

    at: float
    id: str
    topic: str
    key: bytes
    value: bytes


@dataclass(slots=True)
class Meter:
    """Sends and listens. Make it with `Meter.connect`."""

    _producer: AIOKafkaProducer
    _consumer: AIOKafkaConsumer
    _sent: dict[str, float] = field(default_factory=dict)
    _arrived: dict[str, float] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, address: str, answers: Sequence[str]) -> AsyncIterator["Meter"]:
        """Listen to these topics from their ends.

        Whatever stands there is known by its `causationid`, else by its `id`.
        """
        producer = AIOKafkaProducer(bootstrap_servers=address, acks="all")
        consumer = AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
        async with producer, consumer:
            partitions = []
            for topic in answers:
                numbers = await producer.partitions_for(topic)
                partitions += [TopicPartition(topic, number) for number in numbers]
            consumer.assign(partitions)
            await consumer.seek_to_end(*partitions)
            for partition in partitions:
                await consumer.position(partition)
            meter = cls(producer, consumer)
            listening = asyncio.create_task(meter._listen())
            try:
                yield meter
            finally:
                listening.cancel()
                await asyncio.wait([listening])

    async def send(self, events: Iterable[Timed]) -> None:
        """Send these at once; nobody waits for their answers."""
        for event in events:
            await self._producer.send(event.topic, event.value, key=event.key)
        await self._producer.flush()

    async def latencies(self, events: Iterable[Timed]) -> dict[str, float]:
        """Send these, each at its time, wait for their answers, and return how long each took, in seconds.

        A late sender does not shorten anything: the time counts from the sending itself.
        """
        began = time.perf_counter()
        wanted = []
        for event in sorted(events, key=lambda event: event.at):
            pause = began + event.at - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            wanted.append(event.id)
            self._sent[event.id] = time.perf_counter()
            await self._producer.send(event.topic, event.value, key=event.key)
        try:
            async with asyncio.timeout(ARRIVES_WITHIN_S):
                while missing := [id_ for id_ in wanted if id_ not in self._arrived]:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"no answer to {len(missing)}, such as {missing[:3]}") from None
        return {id_: self._arrived[id_] - self._sent[id_] for id_ in wanted}

    async def _listen(self) -> None:
        while True:
            fetched = await self._consumer.getmany(timeout_ms=1000)
            now = time.perf_counter()
            for records in fetched.values():
                for record in records:
                    event = orjson.loads(record.value)
                    self._arrived.setdefault(event.get("causationid") or event["id"], now)
            self._news.set()
