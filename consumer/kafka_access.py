"""What our log-in may do with topics, asked of the broker without reading or writing a record.

The brokers tell it beside a topic's metadata, from version 8 of that request on, which aiokafka doesn't have.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from producers.kafka_client import KafkaConnection, KafkaUnreachable, describe_error

_METADATA: Final = 3
_VERSION: Final = 8
_READ: Final = 1 << 3
_WRITE: Final = 1 << 4
_NOT_TOLD: Final = -(2**31)


@dataclass(frozen=True, slots=True)
class TopicAccess:
    """What can be said of one topic.

    Attributes:
        exists: it is there, and we may know it.
        readable: we may read it; None: the broker doesn't tell.
        writable: we may write to it; None: the broker doesn't tell.
        trouble: why it can't be used now although it is there, such as a partition without a leader.
    """

    exists: bool
    readable: bool | None = None
    writable: bool | None = None
    trouble: str | None = None


async def topic_access(
    connection: KafkaConnection, topics: Iterable[str], *, timeout_s: float
) -> Mapping[str, TopicAccess]:
    """Ask what we may do with each topic; none is created by being asked about.

    Raises:
        KafkaUnreachable: no broker answered in time, or the log-in was refused.
    """
    wanted = list(topics)
    admin = AIOKafkaAdminClient(
        **connection.client_options(), request_timeout_ms=max(1, int(timeout_s * 1000))
    )
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            return await _described(admin, wanted)
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaUnreachable(f"no Kafka broker answers: {describe_error(error)}") from error
    finally:
        await admin.close()


async def _described(admin: AIOKafkaAdminClient, topics: list[str]) -> dict[str, TopicAccess]:
    try:
        response = await admin._send_request(_MetadataRequest(topics))  # noqa: SLF001 - no public way to send it
    except (IncompatibleBrokerVersion, NotImplementedError):
        # A broker before 2.3, or one that is only compatible: what is there is all it can say.
        there = set(await admin.list_topics())
        return {topic: TopicAccess(exists=topic in there) for topic in topics}
    found = {topic["topic"]: topic for topic in response.to_object()["topics"]}
    return {topic: _access(found.get(topic)) for topic in topics}


def _access(topic: Mapping[str, object] | None) -> TopicAccess:
    if topic is None:
        return TopicAccess(exists=False)
    code = topic["error_code"]
    if code == TopicAuthorizationFailedError.errno:
        return TopicAccess(exists=True, readable=False, writable=False)
    partitions = topic["partitions"]
    assert isinstance(partitions, list)
    if code or not partitions:
        return TopicAccess(exists=False)
    broken = [one for one in partitions if one["error_code"]]
    trouble = None
    if broken:
        trouble = f"partition {broken[0]['partition']}: {for_code(broken[0]['error_code']).__name__}"
    operations = topic["authorized_operations"]
    assert isinstance(operations, int)
    if operations == _NOT_TOLD:
        return TopicAccess(exists=True, trouble=trouble)
    return TopicAccess(
        exists=True, readable=bool(operations & _READ), writable=bool(operations & _WRITE), trouble=trouble
    )


class _MetadataResponseV8(Response):  # type: ignore[misc]  # aiokafka is not typed
    API_KEY = _METADATA
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8"))),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("authorized_operations", Int32),
    )


class _MetadataRequestV8(RequestStruct):  # type: ignore[misc]
    API_KEY = _METADATA
    API_VERSION = _VERSION
    RESPONSE_TYPE = _MetadataResponseV8
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _MetadataRequest(Request[_MetadataRequestV8]):  # type: ignore[misc]
    API_KEY: ClassVar[int] = _METADATA

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequestV8]) -> _MetadataRequestV8:
        return request_struct_class(self._topics, False, False, True)
