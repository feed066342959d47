import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError

from producers.kafka_client import KafkaConnection, make_producer, partition_of
from producers.relay import Relay
from schemas.outcomes import Stream
from storage import outbox
from storage.database import Database
from tests.integration.producers.relaying import (
    Bench,
    decide,
    emptied,
    letter,
    numbers,
    outcome,
    pending,
    running,
    until,
)
from tests.parts.kafka import TopicFactory, create_topics
from tests.parts.ports import free_port

Fault = Literal["before", "after", "never"] | None


def flaky(bench: Bench, fault: Callable[[int], Fault]) -> Callable[[], AIOKafkaProducer]:
    """Producers whose sends to a partition fail as told: not written, written but not told, or no answer."""

    def make() -> AIOKafkaProducer:
        producer = make_producer(bench.connection, idempotent=bench.idempotent)
        send_batch = producer.send_batch

        async def send(builder: Any, topic: str, *, partition: int) -> "asyncio.Future[Any]":
            match fault(partition):
                case "before":
                    raise KafkaConnectionError("injected")
                case "never":
                    return asyncio.get_running_loop().create_future()
                case "after":
                    await (await send_batch(builder, topic, partition=partition))
                    raise KafkaConnectionError("injected")
            sent: asyncio.Future[Any] = await send_batch(builder, topic, partition=partition)
            return sent

        producer.send_batch = send
        return producer

    return make


def relay_with(
    bench: Bench, fault: Callable[[int], Fault], database: Database, topic: str, **options: Any
) -> Relay:
    options = {"jitter": lambda: 0.0, "poll_s": 0.02, **options}
    return Relay(database, flaky(bench, fault), dict.fromkeys(Stream, topic), **options)


async def test_outcomes_are_published_in_order_and_leave_the_outbox(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    (topic,) = await topic_factory.create("out", partitions=3)
    decided = [outcome(f"org-{n % 7}", n) for n in range(300)]
    await decide(database, decided)
    published: list[tuple[Stream, int]] = []

    relay = bench.relay(
        database, topic, page_rows=50, on_published=lambda stream, count: published.append((stream, count))
    )
    async with running(relay):
        await emptied(database)

    records = await bench.read(topic, partitions=3, count=300)
    assert {record.value for record in records} == {each.value for each in decided}
    assert numbers(records) == {f"org-{k}": list(range(k, 300, 7)) for k in range(7)}
    for record in records:
        assert record.partition == partition_of(record.key, 3)
        assert record.headers == (("content-type", b"application/cloudevents+json"),)
    assert sum(count for _, count in published) == relay.status().published == 300
    assert {stream for stream, _ in published} == {Stream.CREDITS}


async def test_dead_letters_keep_their_key_value_and_headers(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    (topic,) = await topic_factory.create("dead", partitions=3)
    letters = [letter(1), letter(2, key=None), letter(3, value=b""), letter(4, value=b"\xff\x00")]
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, letters)

    async with running(bench.relay(database, topic)):
        await emptied(database)

    records = await bench.read(topic, partitions=3, count=4)
    found = {record.value: record for record in records}
    assert {(each.key, each.value) for each in letters} == {(each.key, each.value) for each in records}
    assert found[b"{"].headers[:5] == (
        ("a", b"1"),
        ("a", None),
        ("b", b""),
        ("qm-reason", b"invalid_json"),
        ("qm-error", b"EOF"),
    )


@pytest.mark.parametrize("seed", range(3))
async def test_guarantee_3_order_holds_while_sends_fail_and_relays_take_over(
    bench: Bench, database: Database, topic_factory: TopicFactory, seed: int
) -> None:
    (topic,) = await topic_factory.create("out", partitions=3)
    chance = random.Random(seed)
    orgs = [f"org-{n}" for n in range(8)]

    def fault(_partition: int) -> Fault:
        return chance.choice(["before", "after", None, None, None])

    async def keep_deciding() -> None:
        for n in range(60):
            await decide(database, [outcome(org_id, n) for org_id in chance.sample(orgs, 5)])
            await asyncio.sleep(0)

    async def come_and_go() -> None:
        for _ in range(4):
            relay = relay_with(bench, fault, database, topic, page_rows=7, lease_s=0.2)
            task = asyncio.ensure_future(relay.run(asyncio.Event()))
            await asyncio.sleep(chance.random() / 2)
            task.cancel()  # gives up what is in flight
            await asyncio.wait([task])

    await asyncio.gather(keep_deciding(), come_and_go(), come_and_go())
    async with running(relay_with(bench, lambda _partition: None, database, topic, lease_s=0.2)):
        await emptied(database)

    found = numbers(await bench.read(topic, partitions=3, count=300))
    assert sum(map(len, found.values())) == 300
    assert all(of_org == sorted(of_org) for of_org in found.values())


async def test_guarantee_3_no_page_overtakes_the_one_before_it_however_soon_its_lane_is_open_again(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    (topic,) = await topic_factory.create("out", partitions=1)
    await decide(database, [outcome("acme", n) for n in range(3)])
    sends = 0

    def fault(_partition: int) -> Fault:
        nonlocal sends
        sends += 1
        return "before" if sends <= 2 else None

    # Reading a page may take longer than a lane is closed: here every look at the clock is a minute later.
    minutes = itertools.count(60.0, 60.0)
    relay = relay_with(
        bench, fault, database, topic, page_rows=1, lease_s=1e6, monotonic=lambda: next(minutes)
    )
    async with running(relay):
        await emptied(database)

    assert numbers(await bench.read(topic, partitions=1, count=3)) == {"acme": [0, 1, 2]}


async def test_a_repeat_is_byte_identical(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    (topic,) = await topic_factory.create("out", partitions=1)
    await decide(database, [outcome("acme", n) for n in range(3)])
    faults: list[Fault] = ["after"]

    relay = relay_with(bench, lambda _partition: faults.pop() if faults else None, database, topic)
    async with running(relay):
        await emptied(database)

    records = [
        (each.key, each.value, each.headers) for each in await bench.read(topic, partitions=1, count=6)
    ]
    assert records[:3] == records[3:]


@pytest.mark.parametrize("fault", ["before", "never"])
async def test_a_partition_that_takes_nothing_holds_back_no_other(
    bench: Bench, database: Database, topic_factory: TopicFactory, fault: Fault
) -> None:
    (topic,) = await topic_factory.create("out", partitions=3)
    orgs = [f"org-{n}" for n in range(9)]
    stuck = partition_of(b"org-0", 3)
    free = [org_id for org_id in orgs if partition_of(org_id.encode(), 3) != stuck]
    failed: list[int] = []
    broken = True
    await decide(database, [outcome("org-0", n) for n in range(40)])
    await decide(database, [outcome(org_id, n) for n in range(5) for org_id in free])

    relay = relay_with(
        bench,
        lambda partition: fault if broken and partition == stuck else None,
        database,
        topic,
        page_rows=10,
        patience_s=0.05,
        ack_timeout_s=1.0,
        on_failed=lambda _stream, count: failed.append(count),
    )
    async with running(relay):
        records = await bench.read(topic, partitions=3, count=5 * len(free))
        assert numbers(records) == {org_id: list(range(5)) for org_id in free}
        await until(lambda: failed)
        status = relay.status()
        assert status.stalled_s > 0
        assert [trouble.startswith(f"topic {topic}: ") for trouble in status.troubles] == [True]
        broken = False
        await emptied(database)
        await until(lambda: not (relay.status().troubles))

    records = await bench.read(topic, partitions=3, count=40 + 5 * len(free))
    assert numbers(records)["org-0"] == list(range(40))


async def small_topic(bench: Bench, topic_factory: TopicFactory, **configs: str) -> str:
    (name,) = await topic_factory.create("unused", partitions=1)
    topic = f"{name}-small"
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.address)
    await admin.start()
    await create_topics(admin, [NewTopic(topic, 1, 1, topic_configs=configs)])
    await admin.close()
    topic_factory._created.append(topic)
    return topic


@pytest.mark.real("kafka")
async def test_a_record_refused_for_good_holds_back_none_behind_it(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    topic = await small_topic(bench, topic_factory, **{"max.message.bytes": "3000"})
    await decide(database, [outcome("acme", n, pad=4000 if n in {7, 20} else 0) for n in range(40)])
    refused: list[Stream] = []

    async with running(bench.relay(database, topic, on_refused=refused.append)) as _:
        await emptied(database)

    records = await bench.read(topic, partitions=1, count=38)
    assert numbers(records) == {"acme": [n for n in range(40) if n not in {7, 20}]}
    assert refused == [Stream.CREDITS, Stream.CREDITS]


@pytest.mark.real("kafka")
async def test_a_dead_letter_the_topic_cannot_take_goes_without_its_value(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    topic = await small_topic(bench, topic_factory, **{"max.message.bytes": "3000"})
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [letter(1), letter(2, value=b"x" * 4000), letter(3, value=b"[")])

    async with running(bench.relay(database, topic)):
        await emptied(database)

    records = await bench.read(topic, partitions=1, count=3)
    assert sorted((record.value or b"") for record in records) == [b"", b"[", b"{"]
    (omitted,) = [record for record in records if record.value is None]
    assert omitted.key == b"k"
    assert omitted.headers[-1] == ("qm-value-omitted", b"true")
    assert ("qm-original-offset", b"2") in omitted.headers


@pytest.mark.real("kafka")
async def test_a_dead_letter_goes_without_headers_and_key_that_the_topic_cannot_take(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    topic = await small_topic(bench, topic_factory, **{"max.message.bytes": "3000"})
    flooded = replace(letter(1), headers=(("x", b"x" * 4000), ("qm-forged", b"x")))
    keyed = replace(letter(2), key=b"k" * 4000)
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [flooded, keyed, letter(3)])

    refused: list[Stream] = []
    async with running(bench.relay(database, topic, on_refused=refused.append)):
        await emptied(database)

    records = await bench.read(topic, partitions=1, count=3)
    by_offset = {dict(record.headers)["qm-original-offset"]: record for record in records}
    for offset, key in ((b"1", b"k"), (b"2", None)):
        bare = by_offset[offset]
        assert (bare.key, bare.value) == (key, None)
        assert all(name.startswith("qm-") for name, _ in bare.headers)
        assert [name for name, _ in bare.headers][-2:] == ["qm-value-omitted", "qm-headers-omitted"]
    assert by_offset[b"3"].value == b"{"
    assert not refused


@pytest.mark.real("kafka")
async def test_a_missing_topic_is_waited_for_while_the_others_go_on(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    (there,) = await topic_factory.create("out", partitions=1)
    absent = f"{there}-later"
    await decide(database, [outcome("acme", n) for n in range(3)])
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [letter(1)])

    topics = {Stream.PROVISIONING: there, Stream.CREDITS: absent, Stream.DEAD_LETTER: there}
    relay = bench.relay(database, topics)
    async with running(relay):
        assert len(await bench.read(there, partitions=1, count=1)) == 1
        assert relay.status().troubles == (f"topic {absent} is not there, or may not be seen",)
        admin = AIOKafkaAdminClient(bootstrap_servers=bench.address)
        await admin.start()
        await create_topics(admin, [NewTopic(absent, 1, 1)])
        await admin.close()
        topic_factory._created.append(absent)
        await emptied(database)

    assert numbers(await bench.read(absent, partitions=1, count=3)) == {"acme": [0, 1, 2]}


async def test_a_writer_wakes_the_relay(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    (topic,) = await topic_factory.create("out", partitions=1)
    relay = bench.relay(database, topic, poll_s=3600)
    async with running(relay):
        await until(lambda: not (relay.status().standing_by))
        await decide(database, [outcome("acme", 1)])
        relay.wake()
        await emptied(database)


async def test_what_a_writer_hands_over_is_sent_without_being_read(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    (topic,) = await topic_factory.create("out", partitions=1)
    async with database.transaction() as tx:
        known, _ = await outbox.append_outcomes(tx, [outcome("acme", 0), outcome("acme", 1)])
    handed_over = outcome("acme", 0, pad=10).value
    async with database.reading(), database.reading(), database.reading():
        pass  # as many connections as are needed below: a new one would have it forgotten
    relay = bench.relay(database, topic)
    relay.wake({known: handed_over})
    async with running(relay):
        await emptied(database)
    records = await bench.read(topic, partitions=1, count=2)
    assert [record.value for record in records] == [handed_over, outcome("acme", 1).value]


async def test_what_was_handed_over_is_not_believed_of_a_server_that_took_over(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    (topic,) = await topic_factory.create("out", partitions=1)
    relay = bench.relay(database, topic)
    relay.wake(dict.fromkeys(range(1, 100), b"of a commit that the standby lacks"))
    # As after a fail-over: every connection is a new one, and the numbers of lost outcomes are given again.
    await database._writer.dispose()
    await decide(database, [outcome("acme", 0)])
    async with running(relay):
        await emptied(database)
    [record] = await bench.read(topic, partitions=1, count=1)
    assert record.value == outcome("acme", 0).value


async def test_a_relay_that_stops_publishes_what_is_left_and_hands_over_at_once(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    (topic,) = await topic_factory.create("out", partitions=1)
    await decide(database, [outcome("acme", n) for n in range(100)])
    stop = asyncio.Event()
    stop.set()
    first = bench.relay(database, topic, lease_s=3600, page_rows=10)
    await first.run(stop)
    assert await pending(database) == 0

    await decide(database, [outcome("acme", 100)])
    async with running(bench.relay(database, topic)):
        await emptied(database)
    assert numbers(await bench.read(topic, partitions=1, count=101)) == {"acme": list(range(101))}


async def test_a_relay_stands_by_while_another_has_the_leases(
    bench: Bench, database: Database, topic_factory: TopicFactory
) -> None:
    (topic,) = await topic_factory.create("out", partitions=1)
    first, second = bench.relay(database, topic), bench.relay(database, topic, lease_s=0.3)
    async with running(second):
        async with running(first):
            await until(lambda: not (first.status().standing_by and second.status().standing_by))
            assert first.status().standing_by != second.status().standing_by
            await decide(database, [outcome("acme", 1)])
            await emptied(database)
        await decide(database, [outcome("acme", 2)])
        await emptied(database)
    assert first.status().published + second.status().published == 2


async def test_no_broker_stops_nothing_but_the_publishing(database: Database, bench: Bench) -> None:
    nowhere = KafkaConnection(bootstrap_servers=f"127.0.0.1:{free_port()}")
    relay = Relay(database, lambda: make_producer(nowhere), dict.fromkeys(Stream, "out"))
    await decide(database, [outcome("acme", 1)])
    async with running(relay):
        await until(lambda: relay.status().troubles)
        assert relay.status().troubles[0].startswith("no Kafka broker answers")
    assert await pending(database) == 1
