import json

import pytest

from producers.envelope import InvalidEvent
from producers.kafka_client import KafkaConnection, KafkaUnreachable, partition_of
from producers.publisher import NotPublished, Publisher
from schemas.events import EventType
from tests.integration.producers.relaying import Bench
from tests.parts.kafka import TopicFactory, Topics
from tests.parts.ports import free_port


def publisher(bench: Bench, topics: Topics) -> Publisher:
    names = {
        EventType.ORG_CREATED: topics.org_created,
        EventType.USER_JOINED: topics.user_joined,
        EventType.JOB_COMPLETED: topics.job_completed,
    }
    return Publisher(bench.connection, names, source="/crm", idempotent=bench.idempotent)


def job(number: int, org_id: str = "acme") -> dict[str, object]:
    data = {"job_id": f"j{number}", "org_id": org_id, "status": "completed"}
    return {"type": "job.completed", "data": data}


async def test_an_event_stands_on_its_types_topic_under_its_organization(
    bench: Bench, topics: Topics
) -> None:
    async with publisher(bench, topics) as publish:
        receipt = await publish.publish(
            {"type": "user.joined", "id": "mine", "data": {"org_id": "acme", "user_id": "ann"}}
        )

    assert (receipt.id, receipt.source, receipt.topic) == ("mine", "/crm", topics.user_joined)
    assert (receipt.partition, receipt.offset) == (partition_of(b"acme", 6), 0)
    (record,) = await bench.read(topics.user_joined, partitions=6, count=1)
    assert record.key == b"acme"
    assert record.headers == (("content-type", b"application/cloudevents+json"),)
    event = json.loads(record.value)
    assert (event["specversion"], event["source"], event["id"]) == ("1.0", "/crm", "mine")


async def test_nothing_is_written_where_one_event_is_bad(bench: Bench, topics: Topics) -> None:
    async with publisher(bench, topics) as publish:
        with pytest.raises(InvalidEvent, match=r"invalid_data: data\.status: must be one of"):
            await publish.publish_all(
                [job(1), {**job(2), "data": {"job_id": "j2", "org_id": "acme", "status": "?"}}]
            )
        await publish.publish(job(3))

    (record,) = await bench.read(topics.job_completed, partitions=6, count=1)
    assert json.loads(record.value)["data"]["job_id"] == "j3"


async def test_many_events_keep_their_order_and_tell_of_their_progress(bench: Bench, topics: Topics) -> None:
    told: list[int] = []
    async with publisher(bench, topics) as publish:
        assert await publish.publish_all((job(n) for n in range(2500)), on_progress=told.append) == 2500

    records = await bench.read(topics.job_completed, partitions=6, count=2500)
    assert [json.loads(record.value)["data"]["job_id"] for record in records] == [
        f"j{n}" for n in range(2500)
    ]
    assert told == [1000, 2000, 2500]


@pytest.mark.real("kafka")
async def test_a_missing_topic_is_told_and_the_publisher_stays_usable(
    bench: Bench, topic_factory: TopicFactory
) -> None:
    (there,) = await topic_factory.create("jobs", partitions=1)
    names = {EventType.JOB_COMPLETED: there, EventType.USER_JOINED: f"{there}-absent"}
    async with Publisher(bench.connection, names) as publish:
        with pytest.raises(NotPublished, match="absent is not there"):
            await publish.publish({"type": "user.joined", "data": {"org_id": "a", "user_id": "u"}})
        assert (await publish.publish(job(1))).offset == 0


@pytest.mark.real("kafka")
async def test_a_refusal_of_the_broker_is_told_and_the_publisher_stays_usable(
    bench: Bench, topic_factory: TopicFactory
) -> None:
    (there,) = await topic_factory.create("jobs", partitions=1)
    names = {EventType.JOB_COMPLETED: there}
    async with Publisher(bench.connection, names, max_bytes=4_000_000) as publish:
        with pytest.raises(NotPublished, match="MessageSizeTooLarge"):
            await publish.publish({**job(1), "padding": "x" * 2_000_000})
        assert (await publish.publish(job(2))).topic == there


async def test_a_broken_record_can_be_written_on_purpose(bench: Bench, topics: Topics) -> None:
    async with publisher(bench, topics) as publish:
        await publish.publish_unchecked(EventType.ORG_CREATED, key=None, value=b"{")

    (record,) = await bench.read(topics.org_created, partitions=6, count=1)
    assert (record.key, record.value) == (None, b"{")


async def test_no_broker_is_told_at_the_start() -> None:
    nowhere = KafkaConnection(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(KafkaUnreachable):
        async with Publisher(nowhere):
            pass
