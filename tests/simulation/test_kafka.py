"""What the simulated Kafka has in common with aiokafka before a broker: each test runs over both.

Where the tests have no real broker, the simulated one is held to the same by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Any

import pytest
from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    MessageSizeTooLargeError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
)

from producers.kafka_client import discard, look_up, start_producer
from tests.simulation.kafka_sides import RealSide, Side, SimSide, silence


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.real("kafka"))])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "simulated":
        opened: Side = SimSide()
    else:
        opened = RealSide(request.getfixturevalue("kafka_address"))
    yield opened
    await opened.close()


async def fill(side: Side, topic: str, partition: int, values: Iterable[bytes]) -> TopicPartition:
    for value in values:
        await side.produce(topic, value, partition=partition)
    return TopicPartition(topic, partition)


def numbered(count: int) -> list[bytes]:
    return [b"%03d" % number for number in range(count)]


async def started(side: Side, topic: str, **options: Any) -> Any:
    """A member that reads each of its partitions from the oldest record on."""
    consumer = side.consumer(topic, **options)
    await consumer.start()
    await consumer.seek_to_beginning(*consumer.assignment())
    return consumer


async def read(consumer: Any, count: int, **limits: Any) -> list[ConsumerRecord]:
    """The next records, so many at least."""
    found: list[ConsumerRecord] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            for records in (await consumer.getmany(timeout_ms=100, **limits)).values():
                found += records
    return found


def values(records: Sequence[ConsumerRecord], partition: int = 0) -> list[bytes]:
    return [record.value for record in records if record.partition == partition]


async def holds(consumer: Any, count: int) -> set[TopicPartition]:
    """What a member holds once it holds so many partitions; it polls meanwhile, as members have to."""
    async with asyncio.timeout(30):
        while len(consumer.assignment()) != count:
            await poll(consumer)
    return set(consumer.assignment())


async def poll(consumer: Any) -> dict[TopicPartition, list[ConsumerRecord]]:
    try:
        found: dict[TopicPartition, list[ConsumerRecord]] = await consumer.getmany(timeout_ms=50)
    except NoOffsetForPartitionError:
        return {}
    return found


# -- reading ----------------------------------------------------------------------------------------------


async def test_a_partition_is_read_in_order(side: Side) -> None:
    topic = await side.topic(partitions=2)
    await fill(side, topic, 0, numbered(30))
    await fill(side, topic, 1, numbered(20))

    found = await read(await started(side, topic), 50)

    assert values(found, 0) == numbered(30)
    assert values(found, 1) == numbered(20)
    assert [one.offset for one in found if one.partition == 0] == list(range(30))


async def test_one_fetch_gives_no_more_than_asked_for_and_the_next_goes_on(side: Side) -> None:
    topic = await side.topic(partitions=1)
    place = await fill(side, topic, 0, numbered(25))
    consumer = await started(side, topic)

    first = await read(consumer, 1, max_records=10)
    assert values(first) == numbered(10)
    assert await consumer.position(place) == 10

    assert values(first + await read(consumer, 15, max_records=10)) == numbered(25)
    assert await consumer.position(place) == 25


async def test_an_empty_topic_gives_nothing_and_takes_its_time(side: Side) -> None:
    consumer = await started(side, await side.topic(partitions=1))
    loop = asyncio.get_running_loop()
    began = loop.time()

    assert await consumer.getmany(timeout_ms=100) == {}
    assert 0.09 <= loop.time() - began < 2


async def test_a_reader_that_waits_is_woken_by_the_first_record(side: Side) -> None:
    topic = await side.topic(partitions=1)
    consumer = await started(side, topic)
    waiting = asyncio.ensure_future(consumer.getmany(timeout_ms=20_000))

    await fill(side, topic, 0, [b"news"])

    async with asyncio.timeout(10):
        (records,) = (await waiting).values()
    assert values(records) == [b"news"]


async def test_a_fetch_of_some_partitions_leaves_the_others_their_records(side: Side) -> None:
    topic = await side.topic(partitions=2)
    left = await fill(side, topic, 0, numbered(3))
    right = await fill(side, topic, 1, numbered(3))
    consumer = await started(side, topic)

    async with asyncio.timeout(30):
        while not (found := await consumer.getmany(right, timeout_ms=100)):
            pass

    assert set(found) == {right}
    assert await consumer.position(left) == 0
    assert values(await read(consumer, 3), 0) == numbered(3)


async def test_a_stopped_consumer_gives_nothing_more(side: Side) -> None:
    consumer = await started(side, await side.topic(partitions=1))
    await consumer.stop()

    with pytest.raises(ConsumerStoppedError):
        await consumer.getmany(timeout_ms=10)
    await consumer.stop()
    assert consumer._coordinator.generation == -1


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"key", b"value", (("a", b"1"), ("a", None), ("b", b""))),
        (None, b"value", ()),
        (b"key", None, ()),
        (None, None, (("only", b"header"),)),
        (b"", b"", (("", b""),)),
    ],
)
async def test_records_come_as_they_were_written(
    side: Side, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes | None], ...]
) -> None:
    topic = await side.topic(partitions=1)
    await side.produce(topic, value, partition=0, key=key, headers=headers)

    (found,) = await read(await started(side, topic), 1)

    assert (found.topic, found.partition, found.offset) == (topic, 0, 0)
    assert (found.key, found.value, found.headers) == (key, value, headers)
    assert (found.timestamp_type, found.timestamp > 0) == (0, True)
    assert found.serialized_key_size == (-1 if key is None else len(key))
    assert found.serialized_value_size == (-1 if value is None else len(value))


# -- positions --------------------------------------------------------------------------------------------


async def test_reading_goes_on_where_a_seek_puts_it(side: Side) -> None:
    topic = await side.topic(partitions=1)
    place = await fill(side, topic, 0, numbered(10))
    consumer = await started(side, topic)
    await read(consumer, 4, max_records=4)

    consumer.seek(place, 2)
    assert await consumer.position(place) == 2
    assert values(await read(consumer, 8)) == numbered(10)[2:]

    consumer.seek(place, 9)
    assert values(await read(consumer, 1)) == [b"009"]


async def test_seeking_to_the_beginning_starts_over_at_the_oldest_record(side: Side) -> None:
    topic = await side.topic(partitions=1)
    place = await fill(side, topic, 0, numbered(10))
    consumer = await started(side, topic)
    await read(consumer, 10)

    await consumer.seek_to_beginning(place)
    assert await consumer.position(place) == 0
    assert values(await read(consumer, 10)) == numbered(10)

    await side.delete_before(topic, 0, 6)
    await consumer.seek_to_beginning(place)
    assert await consumer.position(place) == 6
    assert values(await read(consumer, 4)) == numbered(10)[6:]


async def test_where_nothing_is_committed_reading_fails_until_it_is_told_where_to_begin(side: Side) -> None:
    topic = await side.topic(partitions=1)
    place = await fill(side, topic, 0, numbered(2))
    consumer = side.consumer(topic)
    await consumer.start()

    for _ in range(2):
        with pytest.raises(NoOffsetForPartitionError) as refused:
            await read(consumer, 1)
        assert refused.value.args[0] == place

    await consumer.seek_to_beginning(place)
    assert values(await read(consumer, 2)) == numbered(2)


async def test_a_position_that_nobody_knows_is_waited_for(side: Side) -> None:
    topic = await side.topic(partitions=1)
    consumer = side.consumer(topic)
    await consumer.start()
    (place,) = consumer.assignment()

    asked = asyncio.ensure_future(consumer.position(place))
    await asyncio.wait([asked], timeout=0.2)
    assert not asked.done()

    await consumer.seek_to_beginning(place)
    assert await asked == 0


@pytest.mark.parametrize("beyond", ["end", "beginning"])
async def test_a_position_out_of_range_is_told_with_its_offset(side: Side, beyond: str) -> None:
    topic = await side.topic(partitions=1)
    place = await fill(side, topic, 0, numbered(10))
    consumer = await started(side, topic)
    if beyond == "end":
        position = 1000
    else:
        position = 3
        await side.delete_before(topic, 0, 6)
    consumer.seek(place, position)

    with pytest.raises(OffsetOutOfRangeError) as refused:
        await read(consumer, 1)

    assert refused.value.args[0] == {place: position}


async def test_the_end_is_the_offset_behind_the_last_record(side: Side) -> None:
    topic = await side.topic(partitions=2)
    place = await fill(side, topic, 1, numbered(7))
    consumer = await started(side, topic)

    assert await consumer.end_offsets(consumer.assignment()) == {
        TopicPartition(topic, 0): 0,
        place: 7,
    }
    assert topic in await consumer.topics()


async def test_what_is_not_ours_can_be_neither_moved_nor_asked_for(side: Side) -> None:
    topic = await side.topic(partitions=1)
    consumer = await started(side, topic)
    foreign = TopicPartition(topic, 5)

    with pytest.raises(IllegalStateError):
        consumer.pause(foreign)
    with pytest.raises(IllegalStateError):
        consumer.resume(foreign)
    with pytest.raises(IllegalStateError):
        consumer.seek(foreign, 0)
    with pytest.raises(IllegalStateError):
        await consumer.seek_to_beginning(foreign)
    with pytest.raises(IllegalStateError):
        await consumer.position(foreign)
    with pytest.raises(IllegalStateError):
        await consumer.commit({foreign: 1})


async def test_a_paused_partition_gives_nothing_and_loses_nothing(side: Side) -> None:
    topic = await side.topic(partitions=2)
    left = await fill(side, topic, 0, numbered(20))
    await fill(side, topic, 1, numbered(5))
    consumer = await started(side, topic)

    taken = values(await read(consumer, 1, max_records=1), 0)
    consumer.pause(left)
    assert set(consumer.paused()) == {left}
    found = await read(consumer, 4)
    found += [one for records in (await poll(consumer)).values() for one in records]
    assert values(found, 0) == []

    consumer.resume(left)
    assert set(consumer.paused()) == set()
    taken += values(await read(consumer, 20 - len(taken)), 0)
    assert taken == numbered(20)


# -- commits and the group --------------------------------------------------------------------------------


async def test_the_next_member_goes_on_behind_what_was_committed(side: Side) -> None:
    topic = await side.topic(partitions=1)
    place = await fill(side, topic, 0, numbered(10))
    first = await started(side, topic)
    await read(first, 10)
    await first.commit({place: 4})
    await first.stop()

    assert await side.committed() == {place: 4}
    second = side.consumer(topic, member="bob")
    await second.start()
    assert await second.position(place) == 4
    assert values(await read(second, 6)) == numbered(10)[4:]


async def test_a_commit_may_go_back(side: Side) -> None:
    topic = await side.topic(partitions=1)
    place = await fill(side, topic, 0, numbered(10))
    consumer = await started(side, topic)

    await consumer.commit({place: 7})
    await consumer.commit({place: 3})

    assert await side.committed() == {place: 3}


async def test_two_members_share_the_partitions_and_one_takes_over_what_the_other_leaves(
    side: Side,
) -> None:
    topic = await side.topic(partitions=4)
    places = [await fill(side, topic, number, numbered(5)) for number in range(4)]
    ann = await started(side, topic)
    assert set(ann.assignment()) == set(places)
    await read(ann, 20)
    await ann.commit(dict.fromkeys(places, 5))
    ann.pause(*places)
    generation = ann._coordinator.generation

    bob = side.consumer(topic, member="bob")
    joining = asyncio.ensure_future(bob.start())
    ann_holds = await holds(ann, 2)
    await joining
    bob_holds = await holds(bob, 2)

    assert ann_holds | bob_holds == set(places)
    assert ann._coordinator.generation == bob._coordinator.generation > generation
    assert set(ann.paused()) == set()  # a pause does not outlive an assignment
    for place in sorted(bob_holds):
        assert await bob.position(place) == 5

    await ann.stop()
    assert await holds(bob, 4) == set(places)


class Told(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    """What a listener is told, in order."""

    def __init__(self) -> None:
        self.of: list[tuple[str, int]] = []

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self.of.append(("revoked", len(revoked)))

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self.of.append(("assigned", len(assigned)))


async def test_a_listener_is_told_of_what_goes_before_it_is_told_of_what_comes(side: Side) -> None:
    topic = await side.topic(partitions=4)
    told = Told()
    ann = side.consumer(topic, listener=told)
    await ann.start()
    await ann.commit({TopicPartition(topic, number): 0 for number in range(4)})
    bob = side.consumer(topic, member="bob")

    joining = asyncio.ensure_future(bob.start())
    await holds(ann, 2)
    await joining

    assert told.of == [("revoked", 0), ("assigned", 4), ("revoked", 4), ("assigned", 2)]


async def test_a_member_out_of_the_group_still_reads_but_its_commit_is_refused_and_it_comes_back(
    side: Side,
) -> None:
    topic = await side.topic(partitions=2)
    places = [await fill(side, topic, number, numbered(5)) for number in range(2)]
    ann = await started(side, topic)
    await read(ann, 10)
    await ann.commit(dict.fromkeys(places, 2))

    silence(ann)
    bob = side.consumer(topic, member="bob")
    await bob.start()
    assert set(bob.assignment()) == set(places)  # ann's session ran out

    await fill(side, topic, 0, [b"later"])
    assert set(ann.assignment()) == set(places)
    assert values(await read(ann, 1)) == [b"later"]
    with pytest.raises(CommitFailedError):
        await ann.commit(dict.fromkeys(places, 5))
    assert await side.committed() == dict.fromkeys(places, 2)

    await asyncio.gather(holds(ann, 1), holds(bob, 1))
    assert set(ann.assignment()) | set(bob.assignment()) == set(places)
    (place,) = ann.assignment()
    assert await ann.position(place) in {2, 6 if place.partition == 0 else 5}


async def test_a_commit_while_the_group_waits_for_its_members_is_taken(side: Side) -> None:
    topic = await side.topic(partitions=1)
    place = await fill(side, topic, 0, numbered(5))
    ann = await started(side, topic)
    silence(ann)
    bob = side.consumer(topic, member="bob")
    joining = asyncio.ensure_future(bob.start())
    async with asyncio.timeout(10):
        while not await side.is_rebalancing():
            await asyncio.wait([joining], timeout=0.01)

    await ann.commit({place: 3})

    await joining
    assert await side.committed() == {place: 3}
    assert await bob.position(place) == 3


# -- producing --------------------------------------------------------------------------------------------


def batch_of(producer: Any, contents: Iterable[bytes]) -> Any:
    batch = producer.create_batch()
    for one in contents:
        assert batch.append(timestamp=None, key=b"key", value=one, headers=[("h", b"1"), ("h", None)])
    batch.close()
    return batch


async def test_batches_are_appended_in_order_and_acknowledged_with_their_offset(side: Side) -> None:
    topic = await side.topic(partitions=2)
    producer = side.producer()
    await start_producer(producer)
    assert await look_up(producer, topic) == 2
    assert producer.client.cluster.leader_for_partition(TopicPartition(topic, 1)) not in {None, -1}

    first = await producer.send_batch(batch_of(producer, numbered(3)), topic, partition=1)
    second = await producer.send_batch(batch_of(producer, numbered(2)), topic, partition=1)

    assert [(await one).offset for one in (first, second)] == [0, 3]
    found = await read(await started(side, topic), 5)
    assert values(found, 1) == [*numbered(3), *numbered(2)]
    assert found[0].headers == (("h", b"1"), ("h", None))


async def test_a_topic_that_is_not_there_has_no_partitions(side: Side) -> None:
    producer = side.producer()
    await start_producer(producer)

    assert await look_up(producer, "nobody-made-this-one") == 0
    assert producer.client.cluster.leader_for_partition(TopicPartition("nobody-made-this-one", 0)) is None


async def test_a_batch_holds_only_so_much(side: Side) -> None:
    producer = side.producer()
    await start_producer(producer)
    batch = producer.create_batch()
    record: dict[str, Any] = {"timestamp": None, "key": None, "value": b"x" * 300_000, "headers": []}

    assert batch.append(**record)
    assert batch.append(**record) is None
    assert batch.record_count() == 1


async def test_a_refused_batch_leaves_a_gap_that_the_broker_does_not_forgive(side: Side) -> None:
    topic = await side.topic(partitions=1, max_batch_bytes=2000)
    producer = side.producer()
    await start_producer(producer)

    async def send(value: bytes) -> int:
        sent = await producer.send_batch(batch_of(producer, [value]), topic, partition=0)
        return int((await sent).offset)

    with pytest.raises(MessageSizeTooLargeError):
        await send(b"x" * 3000)
    assert await send(b"the first that arrives") == 0
    with pytest.raises(MessageSizeTooLargeError):
        await send(b"x" * 3000)
    with pytest.raises(OutOfOrderSequenceNumber):
        await send(b"behind a gap")
    await discard(producer)

    another = side.producer()
    await start_producer(another)
    sent = await another.send_batch(batch_of(another, [b"by another"]), topic, partition=0)
    assert (await sent).offset == 1


async def test_a_discarded_producer_sends_nothing_more(side: Side) -> None:
    topic = await side.topic(partitions=1)
    producer = side.producer()
    await start_producer(producer)
    await look_up(producer, topic)
    batch = batch_of(producer, numbered(1))
    await discard(producer)

    with pytest.raises(ProducerClosed):
        await producer.send_batch(batch, topic, partition=0)
    await discard(producer)
