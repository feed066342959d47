"""The Kafka consumer that ingest reads with: only committed records, and no offset moves but by us."""

from collections.abc import Collection
from typing import Literal

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener

from consumer.ingest.header_names import accept_any_header_name
from producers.kafka_client import KafkaConnection

FETCH_WAIT_MS = 500
"""How long a broker holds a request for records while there are none; the first one that comes ends it."""
FETCH_BYTES = 16 * 1024 * 1024


def make_consumer(
    topics: Collection[str],
    connection: KafkaConnection,
    *,
    group_id: str | None,
    client_id: str = "quartermaster",
    session_timeout_s: float = 10.0,
    auto_offset_reset: Literal["none", "earliest"] = "none",
    listener: ConsumerRebalanceListener | None = None,
) -> AIOKafkaConsumer:
    """Make a consumer, not started, that commits nothing by itself.

    Args:
        topics: What to read.
        connection: The cluster.
        group_id: The consumer group; None: none is joined, and nothing can be committed.
        client_id: What the brokers' logs call us.
        session_timeout_s: Seconds without a sign of life until the group gives our partitions away.
        auto_offset_reset: "none": ingest resets by itself, to count what was lost.
        listener: Is told when our partitions may be another's.
    """
    accept_any_header_name()
    consumer = AIOKafkaConsumer(
        **connection.client_options() | {"client_id": client_id},
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset=auto_offset_reset,
        isolation_level="read_committed",
        session_timeout_ms=int(session_timeout_s * 1000),
        heartbeat_interval_ms=int(session_timeout_s * 1000 / 3),
        fetch_max_wait_ms=FETCH_WAIT_MS,
        fetch_max_bytes=FETCH_BYTES,
    )
    if topics:
        consumer.subscribe(topics, listener=listener)
    return consumer
