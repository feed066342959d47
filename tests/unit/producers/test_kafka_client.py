import asyncio
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import ProducerClosed
from aiokafka.partitioner import DefaultPartitioner

from producers.kafka_client import (
    KafkaConnection,
    KafkaUnreachable,
    describe_error,
    discard,
    make_producer,
    missing_topics,
    partition_of,
    start_producer,
)
from tests.parts.ports import free_port


def test_a_password_is_never_shown() -> None:
    connection = KafkaConnection(
        bootstrap_servers="a:1", security_protocol="SASL_PLAINTEXT", sasl_username="u", sasl_password="s3cret"
    )

    assert "s3cret" not in repr(connection)
    assert connection.client_options() == {
        "bootstrap_servers": ["a:1"],
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "u",
        "sasl_plain_password": "s3cret",
    }


def test_several_servers_may_be_given() -> None:
    assert KafkaConnection(bootstrap_servers="a:1, b:2,").client_options()["bootstrap_servers"] == [
        "a:1",
        "b:2",
    ]


def test_tls_trusts_the_systems_certificates_unless_told() -> None:
    options = KafkaConnection(bootstrap_servers="a:1", security_protocol="SSL").client_options()

    assert options["ssl_context"].check_hostname


@pytest.mark.parametrize("key", [b"acme", b"", "ünïcode".encode(), b"x" * 300])
def test_partitions_are_chosen_as_other_clients_choose_them(key: bytes) -> None:
    for count in (1, 3, 6, 100):
        partitions = list(range(count))
        assert partition_of(key, count) == DefaultPartitioner()(key, partitions, partitions)


async def test_nobody_listening_is_told_at_once() -> None:
    connection = KafkaConnection(bootstrap_servers=f"127.0.0.1:{free_port()}")

    with pytest.raises(KafkaUnreachable, match="no Kafka broker answers"):
        await missing_topics(connection, ["t"], timeout_s=5)
    with pytest.raises(KafkaUnreachable, match="no Kafka broker answers"):
        await start_producer(make_producer(connection))


async def test_a_server_that_says_nothing_is_given_up() -> None:
    silent = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    address = "{}:{}".format(*server.sockets[0].getsockname())
    begun = time.monotonic()
    try:
        with pytest.raises(KafkaUnreachable):
            await missing_topics(KafkaConnection(bootstrap_servers=address), ["t"], timeout_s=0.3)
        assert time.monotonic() - begun < 5
    finally:
        silent.set()
        server.close()
        await server.wait_closed()


def test_an_error_without_words_is_told_by_its_name() -> None:
    assert describe_error(TimeoutError()) == "TimeoutError"
    assert describe_error(OSError("no route")) == "OSError: no route"


async def test_a_batch_that_was_queued_again_is_given_up_without_a_word() -> None:
    producer = make_producer(KafkaConnection(bootstrap_servers=f"127.0.0.1:{free_port()}"), idempotent=False)
    queued = producer._message_accumulator
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))
    builder = producer.create_batch()
    builder.append(timestamp=None, key=None, value=b"v")
    builder.close()
    place = TopicPartition("t", 0)
    given_up = await queued.add_batch(builder, place, 1)
    queued.reenqueue(queued._pop_batch(place))
    await discard(producer)
    with pytest.raises(ProducerClosed):
        await given_up
    await asyncio.sleep(0)
    assert said == []
