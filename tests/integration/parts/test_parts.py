"""The parts behave as the tests that stand on them believe."""

from typing import TYPE_CHECKING

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from sqlalchemy import text
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from storage.database import Database
    from tests.parts.kafka import TopicFactory, Topics


async def test_a_record_goes_through_a_topic_of_ones_own(
    kafka_address: str, topic_factory: "TopicFactory"
) -> None:
    [topic] = await topic_factory.create("parts", partitions=2)
    async with AIOKafkaProducer(bootstrap_servers=kafka_address) as producer:
        await producer.send_and_wait(topic, b"value", key=b"key", partition=1)
    async with AIOKafkaConsumer(bootstrap_servers=kafka_address, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 1)])
        record = await consumer.getone()
    assert (record.key, record.value) == (b"key", b"value")


async def test_the_six_topics_are_named_by_the_settings(topics: "Topics") -> None:
    environment = topics.environment()
    assert environment["QM_TOPIC_ORG_CREATED"].endswith(".org.created")
    assert environment["QM_TOPIC_DEAD_LETTERS"].endswith(".quartermaster.dead-letters")
    assert len(set(environment.values())) == 6


@pytest.mark.parametrize("turn", ["first", "second"])
async def test_a_database_is_migrated_and_of_one_test_alone(database: "Database", turn: str) -> None:
    async with database.transaction() as tx:
        # Without a name of its own the second turn would meet the first one's table.
        await tx.execute(text("create table left_behind (turn varchar(10))"))
        await tx.execute(text("insert into left_behind values (:turn)"), {"turn": turn})
    async with database.reading() as tx:
        assert (await tx.execute(text("select turn from left_behind"))).scalar_one() == turn
        assert (await tx.execute(text("select count(*) from organizations"))).scalar_one() == 0


async def test_an_empty_database_has_no_table(empty_database_url: str, dialect: str) -> None:
    url = make_url(empty_database_url)
    if dialect == "sqlite":
        assert url.database
        return
    connection = await asyncpg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False), timeout=10
    )
    try:
        tables = await connection.fetchval(
            "select count(*) from information_schema.tables where table_schema = 'public'"
        )
    finally:
        await connection.close()
    assert tables == 0
