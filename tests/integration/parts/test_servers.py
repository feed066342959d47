"""Servers of a test's own break as told, come back on the data they had, and end with the run."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.parts import processes
from tests.parts.databases import plain

if TYPE_CHECKING:
    from tests.parts.servers import OwnKafka, OwnPostgres


@pytest.mark.timeout(300)
async def test_a_topic_outlives_a_broker_that_is_killed_and_one_that_hangs(own_kafka: "OwnKafka") -> None:
    topic = "outlives"
    admin = AIOKafkaAdminClient(bootstrap_servers=own_kafka.address)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 3, own_kafka.replicas)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=own_kafka.address, acks="all") as producer:
        for partition in range(3):
            await producer.send_and_wait(topic, b"before", partition=partition)
        await asyncio.to_thread(own_kafka.kill, 1)
        for partition in range(3):
            await producer.send_and_wait(topic, b"one is killed", partition=partition)
    await asyncio.to_thread(own_kafka.start_again)
    await asyncio.to_thread(own_kafka.pause, 2)
    async with AIOKafkaProducer(
        # It tries until another leads what the hanging one led.
        bootstrap_servers=own_kafka.address,
        acks="all",
        enable_idempotence=True,
        request_timeout_ms=5000,
    ) as producer:
        for partition in range(3):
            await producer.send_and_wait(topic, b"one hangs", partition=partition)
    await asyncio.to_thread(own_kafka.resume, 2)
    await asyncio.to_thread(own_kafka.kill_all)
    await asyncio.to_thread(own_kafka.start_again)
    async with AIOKafkaConsumer(
        bootstrap_servers=own_kafka.address, auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        consumer.assign([TopicPartition(topic, partition) for partition in range(3)])
        values = [(await consumer.getone()).value for _ in range(9)]
    assert sorted(set(values)) == [b"before", b"one hangs", b"one is killed"]


async def test_a_database_is_stopped_killed_and_hung_and_keeps_what_was_committed(
    own_postgres: "OwnPostgres",
) -> None:
    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(plain(own_postgres.url), timeout=2)

    connection = await connect()
    await connection.execute("create table if not exists kept (what text)")
    await connection.execute("insert into kept values ('kept')")
    for end in (own_postgres.stop, own_postgres.kill):
        await asyncio.to_thread(end)
        with pytest.raises(ConnectionRefusedError):
            await connect()
        await asyncio.to_thread(own_postgres.start_again)
        connection = await connect()
        assert await connection.fetchval("select what from kept limit 1") == "kept"
    await asyncio.to_thread(own_postgres.hang)
    with pytest.raises(TimeoutError):
        await connect()
    await asyncio.to_thread(own_postgres.resume)
    assert await connection.fetchval("select what from kept limit 1") == "kept"
    await connection.close()


def test_what_a_killed_run_leaves_behind_is_ended_and_removed(tmp_path: Path) -> None:
    server = subprocess.Popen(["sleep", "600"])
    folder = tmp_path / "server"
    (folder / "broker-0").mkdir(parents=True)
    (folder / "broker-0" / "pid").write_text(f"{server.pid}\n")
    processes.hang(server.pid)
    guardian = subprocess.Popen(
        [sys.executable, "-I", processes.__file__, str(folder)], stdin=subprocess.PIPE
    )
    assert processes.is_alive(server.pid)
    begun = time.monotonic()
    guardian.communicate()
    assert server.wait() == -9
    assert time.monotonic() - begun < 30
    assert not folder.exists()
