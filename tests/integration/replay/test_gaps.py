"""Offsets that no record stands at: markers, aborted transactions, what was compacted or deleted."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from consumer.replay.running import ReplayLimits
from tests.integration.consumer.ingest.events import activate, outcomes_of
from tests.integration.replay.conftest import Replays, job

pytestmark = pytest.mark.real("kafka")


async def transaction(replays: Replays, values: Sequence[bytes], *, name: str, commit: bool = True) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=replays.connection.bootstrap_servers, transactional_id=f"{replays.topic}-{name}"
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for one in values:
            await producer.send_and_wait(replays.topic, one, partition=0)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()


async def test_aborted_records_are_passed_over_and_markers_end_a_topic(replays: Replays) -> None:
    await activate(replays.database, credits_=100)
    await transaction(replays, [job(1)], name="a")
    await transaction(replays, [job(2)], name="b", commit=False)
    await transaction(replays, [job(3)], name="c")
    await transaction(replays, [job(4)], name="d", commit=False)
    async with asyncio.timeout(20):
        ran = await replays.run()
    assert ran.finished
    assert ran.opened.total == 8
    assert [one["data"]["job_id"] for one in await outcomes_of(replays.database)] == ["job-1", "job-3"]


async def test_an_open_transaction_is_not_waited_for(replays: Replays) -> None:
    await activate(replays.database, credits_=100)
    await replays.produce([job(1)])
    producer = AIOKafkaProducer(
        bootstrap_servers=replays.connection.bootstrap_servers, transactional_id=f"{replays.topic}-open"
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(replays.topic, job(2), partition=0)
        await replays.produce([job(3)])
        async with asyncio.timeout(20):
            ran = await replays.run()
        assert (ran.finished, ran.tally.new.total()) == (True, 1)
        await producer.commit_transaction()
    finally:
        await producer.stop()
    assert (await replays.run()).tally.new.total() == 2


async def test_what_was_deleted_at_the_beginning_is_not_waited_for(replays: Replays) -> None:
    await activate(replays.database, credits_=100)
    await replays.produce([job(n) for n in range(20)])
    stopped = await replays.run(
        limits=ReplayLimits(max_event_bytes=10_000, records_per_transaction=5), stop_after=1
    )
    assert stopped.tally.new.total() == 5
    admin = AIOKafkaAdminClient(bootstrap_servers=replays.connection.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(replays.topic, 0): RecordsToDelete(before_offset=12)})
    finally:
        await admin.close()
    async with asyncio.timeout(30):
        ran = await replays.run()
    assert ran.opened.begun_at is not None
    assert (ran.finished, ran.tally.new.total()) == (True, 5 + 8)


async def test_a_topic_made_anew_is_read_from_its_beginning(replays: Replays) -> None:
    await activate(replays.database, credits_=100)
    await replays.produce([job(n) for n in range(20)])
    await replays.run(limits=ReplayLimits(max_event_bytes=10_000, records_per_transaction=5), stop_after=1)
    admin = AIOKafkaAdminClient(bootstrap_servers=replays.connection.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([replays.topic])
        async with asyncio.timeout(20):
            while replays.topic in await admin.list_topics():  # noqa: ASYNC110 - the broker's own pace
                await asyncio.sleep(0.1)
            while (await admin.create_topics([NewTopic(replays.topic, 3, 1)])).topic_errors[0][1]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    finally:
        await admin.close()
    await replays.produce([job(n) for n in range(100, 103)])
    ran = await replays.run()
    assert ran.opened.begun_at is None
    assert (ran.finished, ran.tally.new.total()) == (True, 3)
