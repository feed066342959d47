"""Records whose headers have names that are not UTF-8 are read like all others."""

from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchBuilderPy

from consumer.ingest import client
from consumer.ingest.header_names import RecordsWithAnyNames
from producers.kafka_client import KafkaConnection

VALUE = '{"é": 1}'.encode()


class Name(str):
    """A name that is written as the bytes it was made of."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return super().encode("latin-1")


def batch(*headers: list[tuple[str, bytes | None]], codec: int = 0) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 1_000_000)
    for offset, some in enumerate(headers):
        builder.append(offset, 1000 + offset, b"k\xff" if offset % 2 else None, VALUE * 20, some)
    return bytes(builder.build())


def read(raw: bytes) -> list[Any]:
    memory = RecordsWithAnyNames(raw)
    found = []
    while memory.has_next():
        one = memory.next_batch()
        assert one.validate_crc()
        found += list(one)
    return found


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4], ids=["plain", "gzip", "snappy", "lz4", "zstd"])
def test_a_name_that_is_not_utf8_stops_no_record(codec: int) -> None:
    raw = batch(
        [("first", b"\xff")],
        [("é", None), (Name("a\xff\xfe"), b"\xfe"), ("z", b"")],
        [],
        [(Name("\xff"), None)],
        codec=codec,
    )

    found = read(raw + batch([("other", b"1")]))

    assert [record.offset for record in found] == [0, 1, 2, 3, 0]
    assert [record.headers for record in found] == [
        [("first", b"\xff")],
        [("é", None), ("a??", b"\xfe"), ("z", b"")],
        [],
        [("?", None)],
        [("other", b"1")],
    ]
    assert [record.key for record in found] == [None, b"k\xff", None, b"k\xff", None]
    assert {record.value for record in found} == {VALUE * 20}
    assert [record.timestamp for record in found] == [1000, 1001, 1002, 1003, 1000]


def test_readable_names_are_read_as_aiokafka_reads_them() -> None:
    raw = batch([("a", b"1"), ("é", None)], [])

    found = read(raw)

    expected = list(DefaultRecordBatch(raw))
    assert [(r.offset, r.headers, r.value) for r in found] == [
        (r.offset, r.headers, r.value) for r in expected
    ]


def test_ingest_reads_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "AIOKafkaConsumer", lambda *topics, **_: topics)
    client.make_consumer([], KafkaConnection(bootstrap_servers="127.0.0.1:9"), group_id="group")
    assert fetcher.MemoryRecords is RecordsWithAnyNames
