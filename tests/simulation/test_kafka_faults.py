"""What the simulated Kafka can be made to suffer, and what its clients then do, as aiokafka's would."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    RequestTimedOutError,
)

from producers.delivery import Delivery
from producers.kafka_client import KafkaUnreachable, discard, look_up, start_producer
from producers.relay_plan import Batch, Lane
from schemas.outcomes import Stream
from storage.outbox import PendingRecord
from tests.simulation.edges import Edge
from tests.simulation.kafka import MAX_BATCH_BYTES, Request, SimBroker, SimConsumer, SimProducer, at_once

T = TypeVar("T")

TOPIC = "credits.outcomes"
PLACE = TopicPartition(TOPIC, 0)
SESSION_S = 0.2


@pytest.fixture
async def broker() -> SimBroker:
    return SimBroker(
        {TOPIC: 2}, clock_ms=lambda: 1_767_322_445_000, loop_time=asyncio.get_running_loop().time
    )


@pytest.fixture
async def member(broker: SimBroker) -> AsyncIterator[Callable[[str], SimConsumer]]:
    made: list[SimConsumer] = []

    def make(name: str, edge: Edge = at_once) -> SimConsumer:
        consumer = SimConsumer(
            broker, group_id="group", topics=[TOPIC], member=name, edge=edge, session_timeout_s=SESSION_S
        )
        made.append(consumer)
        return consumer

    yield make
    broker.mend()
    for consumer in made:
        await consumer.stop()


async def send(producer: SimProducer, *values: bytes, partition: int = 0) -> "asyncio.Future[Any]":
    batch = producer.create_batch()
    for value in values:
        batch.append(timestamp=None, key=b"key", value=value, headers=[])
    batch.close()
    return await producer.send_batch(batch, TOPIC, partition=partition)


async def ready(broker: SimBroker, **options: Any) -> SimProducer:
    producer = SimProducer(broker, **({"edge": at_once} | options))
    await start_producer(producer)
    assert await look_up(producer, TOPIC) == 2
    return producer


def written(broker: SimBroker) -> list[bytes]:
    return [record.value for record in broker.log(TOPIC)]


class Recorder:
    """An edge that keeps note, and holds back what it is told to."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.held: dict[str, asyncio.Event] = {}
        self.arrived = asyncio.Event()

    def hold(self, name: str) -> asyncio.Event:
        self.held[name] = asyncio.Event()
        return self.held[name]

    async def __call__(self, name: str, effect: Callable[[], T]) -> T:
        self.names.append(name)
        if name in self.held:
            self.arrived.set()
            await self.held[name].wait()
        return effect()


# -- producing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True])
async def test_an_idempotent_producer_tries_again_and_the_batch_stands_once(
    broker: SimBroker, *, after: bool
) -> None:
    producer = await ready(broker)
    broker.fail_produce(after=after)

    metadata = await (await send(producer, b"a", b"b"))

    assert metadata.offset == 0
    assert written(broker) == [b"a", b"b"]
    assert (await (await send(producer, b"c"))).offset == 2
    await discard(producer)


async def test_without_idempotence_a_lost_answer_makes_a_second_copy(broker: SimBroker) -> None:
    producer = await ready(broker, idempotent=False)
    broker.fail_produce(after=True)

    await (await send(producer, b"a"))

    assert written(broker) == [b"a", b"a"]
    await discard(producer)


async def test_an_answer_that_never_comes_ends_with_the_producers_patience(broker: SimBroker) -> None:
    producer = await ready(broker, request_timeout_s=0.05)
    broker.fail(Request.PRODUCE, after=True, error=None)

    await (await send(producer, b"a"))  # tried again, and known to the broker

    assert written(broker) == [b"a"]
    await discard(producer)


async def test_what_a_producer_sent_before_it_was_given_up_may_still_be_written(broker: SimBroker) -> None:
    recorder = Recorder()
    go_on = recorder.hold(Request.PRODUCE)
    producer = await ready(broker, edge=recorder)
    sent = await send(producer, b"given up")
    await recorder.arrived.wait()

    await discard(producer)
    with pytest.raises(KafkaError):
        await sent
    another = await ready(broker)
    await (await send(another, b"by another"))
    go_on.set()
    await asyncio.sleep(0)

    assert written(broker) == [b"by another", b"given up"]
    await discard(another)


async def test_an_append_and_its_answer_are_two_moments(broker: SimBroker) -> None:
    recorder = Recorder()
    answer = recorder.hold("kafka.produce.answer")
    producer = await ready(broker, edge=recorder)
    sent = await send(producer, b"a")
    await recorder.arrived.wait()

    assert written(broker) == [b"a"]
    assert not sent.done()

    answer.set()
    await sent
    assert recorder.names == [Request.PRODUCE, "kafka.produce.answer"]
    await discard(producer)


async def test_with_the_broker_down_no_producer_starts_and_batches_wait_until_it_is_back(
    broker: SimBroker,
) -> None:
    producer = await ready(broker)
    broker.down()
    with pytest.raises(KafkaUnreachable):
        await start_producer(SimProducer(broker, edge=at_once))
    sent = await send(producer, b"a")
    await asyncio.wait([sent], timeout=0.15)
    assert not sent.done()

    broker.up()

    await sent
    assert written(broker) == [b"a"]
    await discard(producer)


async def test_where_a_partition_has_no_leader_the_others_go_on(broker: SimBroker) -> None:
    producer = await ready(broker, request_timeout_s=0.15)
    broker.lead(TOPIC, 0, has_leader=False)

    waiting = await send(producer, b"waits")
    await (await send(producer, b"goes on", partition=1))
    await asyncio.wait([waiting], timeout=0.05)
    assert producer.client.cluster.leader_for_partition(PLACE) == -1
    broker.lead(TOPIC, 0, has_leader=True)
    await waiting
    assert written(broker) == [b"waits", b"goes on"]

    broker.lead(TOPIC, 0, has_leader=False)
    with pytest.raises(LeaderNotAvailableError):
        await (await send(producer, b"too long"))
    await discard(producer)


async def test_delivery_replaces_a_producer_whose_batch_the_topic_does_not_take(broker: SimBroker) -> None:
    broker.create_topic(TOPIC, partitions=2, max_batch_bytes=500)
    delivery = Delivery(lambda: SimProducer(broker, edge=at_once), ack_timeout_s=1)
    lane = Lane(Stream.CREDITS, TOPIC, 0)

    def batch(value: bytes) -> Batch:
        return Batch(lane, (PendingRecord(1, Stream.CREDITS, "acme", b"acme", value, ()),))

    await delivery.ready()
    assert await delivery.look_up(TOPIC) == 2
    refused = await delivery.send([batch(b"x" * 1000)])
    assert refused.failed is not None
    assert delivery.spent

    await delivery.renew()
    await delivery.ready()
    await delivery.look_up(TOPIC)
    assert (await delivery.send([batch(b"small")])).failed is None
    assert written(broker) == [b"small"]
    await delivery.close()


# -- the group --------------------------------------------------------------------------------------------


async def test_a_commit_whose_answer_is_lost_is_repeated_and_stands(
    broker: SimBroker, member: Callable[[str], SimConsumer]
) -> None:
    ann = member("ann")
    await ann.start()
    for after in (True, False):
        broker.fail_commit(after=after)
    changes = broker.changes

    await ann.commit({PLACE: 3})

    assert broker.committed("group") == {PLACE: 3}
    assert broker.changes == changes + 2


async def test_a_commit_that_was_sent_takes_effect_though_nobody_waits_for_it(broker: SimBroker) -> None:
    recorder = Recorder()
    ann = SimConsumer(broker, group_id="group", topics=[TOPIC], member="ann", edge=recorder)
    await ann.start()
    go_on = recorder.hold(Request.COMMIT)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await ann.commit({PLACE: 3})
    go_on.set()
    await asyncio.sleep(0)

    assert broker.committed("group") == {PLACE: 3}
    await ann.stop()


async def test_an_expired_member_reads_on_until_it_finds_out(
    broker: SimBroker, member: Callable[[str], SimConsumer]
) -> None:
    broker.produce(TOPIC, b"a", partition=0)
    ann = member("ann")
    await ann.start()
    await ann.seek_to_beginning()

    broker.expire("ann")

    assert list(await ann.getmany(timeout_ms=10)) == [PLACE]
    generation = ann._coordinator.generation
    bob = member("bob")
    await bob.start()
    with pytest.raises(CommitFailedError):
        await ann.commit({PLACE: 1})
    async with asyncio.timeout(5):
        while len(ann.assignment()) != 1 or len(bob.assignment()) != 1:
            await ann._bell.wait(0.01)
    assert ann._coordinator.generation > generation
    assert broker.committed("group") == {}


async def test_what_an_abandoned_member_held_goes_to_another_when_its_session_is_over(
    broker: SimBroker, member: Callable[[str], SimConsumer]
) -> None:
    loop = asyncio.get_running_loop()
    ann = member("ann")
    await ann.start()
    broker.abandon("ann")
    began = loop.time()

    again = member("ann")  # the process that was started in its place
    await again.start()

    assert len(again.assignment()) == 2
    assert SESSION_S / 2 < loop.time() - began < 3 * SESSION_S
    assert [one.name for one in broker.group("group").members.values()] == ["ann"]
    ann._coordinator._closing = True  # nothing of it runs any more


async def test_while_the_broker_is_away_reading_gives_nothing_and_goes_on_afterwards(
    broker: SimBroker, member: Callable[[str], SimConsumer]
) -> None:
    ann = member("ann")
    await ann.start()
    await ann.seek_to_beginning()
    for silent in (False, True):
        broker.down(silent=silent)
        broker.produce(TOPIC, b"a", partition=0)
        assert await ann.getmany(timeout_ms=20) == {}
        broker.up()
        assert list(await ann.getmany(timeout_ms=1000)) == [PLACE]


async def test_with_the_broker_down_a_consumer_does_not_start_and_does_not_tell_topics(
    broker: SimBroker, member: Callable[[str], SimConsumer]
) -> None:
    ann = member("ann")
    await ann.start()
    broker.down()

    with pytest.raises(KafkaConnectionError):
        await member("bob").start()
    with pytest.raises(KafkaConnectionError):
        await ann.topics()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15):
            await ann.end_offsets([PLACE])


async def test_what_the_group_refuses_for_good_is_told_by_the_next_read_once(
    broker: SimBroker, member: Callable[[str], SimConsumer]
) -> None:
    ann = member("ann")
    await ann.start()
    await ann.seek_to_beginning()
    broker.fail(Request.HEARTBEAT, error=GroupAuthorizationFailedError("group"))

    async def read_on() -> None:
        for _ in range(50):
            await ann.getmany(timeout_ms=20)

    with pytest.raises(GroupAuthorizationFailedError):
        await read_on()

    assert await ann.getmany(timeout_ms=20) == {}


async def test_a_failed_fetch_says_nothing_and_is_tried_again(
    broker: SimBroker, member: Callable[[str], SimConsumer]
) -> None:
    broker.produce(TOPIC, b"a", partition=0)
    ann = member("ann")
    await ann.start()
    await ann.seek_to_beginning()
    broker.fail(Request.FETCH, error=RequestTimedOutError())

    assert await ann.getmany(timeout_ms=50) == {}
    assert list(await ann.getmany(timeout_ms=1000)) == [PLACE]


async def test_a_fetch_is_an_edge_only_where_it_brings_records(broker: SimBroker) -> None:
    recorder = Recorder()
    ann = SimConsumer(broker, group_id="group", topics=[TOPIC], member="ann", edge=recorder)
    await ann.start()
    await ann.seek_to_beginning()
    await ann.getmany(timeout_ms=5)
    broker.produce(TOPIC, b"a", partition=0)
    await ann.getmany(timeout_ms=5)
    await ann.getmany(timeout_ms=5)
    await ann.commit({PLACE: 1})
    await ann.stop()

    assert recorder.names == [Request.JOIN, Request.FETCH, Request.COMMIT, Request.LEAVE]


async def test_a_read_that_is_cancelled_loses_nothing(broker: SimBroker) -> None:
    recorder = Recorder()
    ann = SimConsumer(broker, group_id="group", topics=[TOPIC], member="ann", edge=recorder)
    await ann.start()
    await ann.seek_to_beginning()
    broker.produce(TOPIC, b"a", partition=0)
    recorder.hold(Request.FETCH)
    reading = asyncio.ensure_future(ann.getmany(timeout_ms=1000))
    await recorder.arrived.wait()
    reading.cancel()
    await asyncio.wait([reading])
    del recorder.held[Request.FETCH]

    assert await ann.position(PLACE) == 0
    ((record,),) = (await ann.getmany(timeout_ms=1000)).values()
    assert record.value == b"a"
    await ann.stop()


async def test_a_deleted_topic_is_missed_and_a_record_without_key_is_refused_by_a_compacted_one(
    broker: SimBroker,
) -> None:
    broker.create_topic("compacted", partitions=1, compacted=True, max_batch_bytes=MAX_BATCH_BYTES)
    broker.delete_topic(TOPIC)
    producer = SimProducer(broker, edge=at_once)
    await start_producer(producer)
    assert await look_up(producer, TOPIC) == 0
    assert await look_up(producer, "compacted") == 1
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"a", headers=[])

    with pytest.raises(KafkaError, match="Error -1"):
        await (await producer.send_batch(batch, "compacted", partition=0))
    await discard(producer)
