"""Producers made from the description of a cluster, and what is asked of a cluster through them."""

import asyncio
import contextlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, ProducerClosed
from aiokafka.partitioner import murmur2

from producers.completion import look_at, to_its_end
from producers.connection import KafkaConnection, KafkaUnreachable, describe_error

__all__ = [
    "CLIENT_ID",
    "MAX_BATCH_BYTES",
    "MAX_REQUEST_BYTES",
    "REQUEST_TIMEOUT_S",
    "KafkaConnection",
    "KafkaUnreachable",
    "describe_error",
    "discard",
    "look_up",
    "make_producer",
    "missing_topics",
    "partition_of",
    "start_producer",
]

CLIENT_ID: Final = "quartermaster"
"""What the brokers' logs and quotas call our producers."""

REQUEST_TIMEOUT_S: Final = 10.0
"""How long a broker may take over one request of a producer."""

MAX_BATCH_BYTES: Final = 512 * 1024
"""What one record batch may hold: half of what a topic takes by default, so that a batch always fits."""

MAX_REQUEST_BYTES: Final = 64 * 1024 * 1024
"""What one request may hold, so that no accident sends without end."""

_GIVE_UP_S: Final = 1.0


def make_producer(connection: KafkaConnection, *, idempotent: bool = True) -> AIOKafkaProducer:
    """Make a producer, not started, whose sends are acknowledged by all replicas in sync.

    Args:
        connection: The cluster.
        idempotent: Whether the broker removes the repeats of a request that was sent again. The broker
            embedded in the demo cannot.
    """
    return AIOKafkaProducer(
        **connection.client_options(),
        client_id=CLIENT_ID,
        acks="all",
        enable_idempotence=idempotent,
        # A batch has a head of its own, beside what the relay counts.
        max_batch_size=MAX_BATCH_BYTES + 1024,
        # What a topic takes is the topic's to say.
        max_request_size=MAX_REQUEST_BYTES,
        request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
        metadata_max_age_ms=60_000,
    )


async def start_producer(producer: AIOKafkaProducer) -> None:
    """Start a producer, or leave nothing of it behind.

    Raises:
        KafkaUnreachable: No broker answered within `REQUEST_TIMEOUT_S`, or the log-in was refused.
    """
    try:
        # An idempotent producer asks for its id without a limit of its own.
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            await producer.start()
    except (KafkaError, OSError, TimeoutError) as error:
        await discard(producer)
        raise KafkaUnreachable(f"no Kafka broker answers: {describe_error(error)}") from error
    except BaseException:
        await discard(producer)
        raise


async def look_up(producer: AIOKafkaProducer, topic: str) -> int:
    """Say how many partitions a topic has; the broker is asked where that is not known. 0: it is not there.

    The producer itself would ask ten times a second for a topic that is missing, and log each time.
    """
    client = producer.client
    for _ in range(2):
        if not client.cluster.partitions_for_topic(topic):
            client.add_topic(topic)
            # The first answer may be to a question that was asked before we added the topic to it.
            await client.force_metadata_update()
    return len(client.cluster.partitions_for_topic(topic) or ())


async def discard(producer: AIOKafkaProducer) -> None:
    """Close a producer at once, giving up what it has not delivered.

    `stop` waits for every batch, and an idempotent producer tries a batch for ever: with a broker that is
    away it would not return. What is given up may still have been written.
    """
    await to_its_end(_discard(producer), within_s=3 * _GIVE_UP_S)


async def _discard(producer: AIOKafkaProducer) -> None:
    # There is no public way to give up. What follows leaves neither a task, a connection nor a message in the
    # log behind, which merely cancelling would.
    sender, waiting = producer._sender, producer._message_accumulator  # noqa: SLF001
    sending = sender.sender_task
    if sending is not None and not sending.done():
        # Without this a batch of an idempotent producer never expires but is queued again.
        sender._txn_manager = None  # noqa: SLF001
        queued = [batch for batches in waiting._batches.values() for batch in batches]  # noqa: SLF001
        for batch in [*queued, *waiting._pending_batches]:  # noqa: SLF001
            batch._ttl = -1  # noqa: SLF001
            batch.future.add_done_callback(look_at)
        for _ in range(2):
            # The first time it ends what it has begun, the second time at once.
            sending.cancel()
            # Requests in flight fail with their connections, and with them what the sender waits for.
            await _close_client(producer)
            await asyncio.wait([sending], timeout=_GIVE_UP_S)
            if sending.done():
                break
    # A batch that was queued again is taken from here as it fails, which raises where it does not stand.
    waiting._pending_batches.update(batch for queued in waiting._batches.values() for batch in queued)  # noqa: SLF001
    waiting.fail_all(ProducerClosed())
    with contextlib.suppress(KafkaError, OSError):
        await producer.stop()


async def _close_client(producer: AIOKafkaProducer) -> None:
    client = producer.client
    with contextlib.suppress(KafkaError, OSError):
        await client.close()
    # Nobody updates the metadata any more, and a sender about to try again may be waiting for that.
    if client._md_update_fut is not None and not client._md_update_fut.done():  # noqa: SLF001
        client._md_update_fut.set_result(False)  # noqa: SLF001


async def missing_topics(connection: KafkaConnection, topics: Iterable[str], *, timeout_s: float) -> set[str]:
    """Say which topics are not there, without making them on a broker that creates what it is asked about.

    Args:
        connection: The cluster.
        topics: Names to look for; one we may not see counts as missing.
        timeout_s: When to give up, in seconds.

    Raises:
        KafkaUnreachable: No broker answered in time, or the log-in was refused.
    """
    admin = AIOKafkaAdminClient(
        **connection.client_options(), request_timeout_ms=max(1, int(timeout_s * 1000))
    )
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            # Asking for all topics creates none, unlike asking for one by name.
            return set(topics).difference(await admin.list_topics())
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaUnreachable(f"no Kafka broker answers: {describe_error(error)}") from error
    finally:
        await admin.close()


@lru_cache(maxsize=65536)
def partition_of(key: bytes, partitions: int) -> int:
    """Choose a key's partition as every Kafka client does by default.

    Remembered, because the hash is plain Python and an organization's records come in great numbers.
    """
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
