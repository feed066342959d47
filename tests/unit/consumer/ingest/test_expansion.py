"""A batch that expands beyond all bounds is never unpacked, and is in nobody's way."""

import resource
from typing import Any

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.structs import ConsumerRecord, TopicPartition

from consumer.ingest import expansion
from consumer.ingest.expansion import MAX_KEPT, Unread, expands_too_far
from consumer.ingest.header_names import RecordsWithAnyNames
from consumer.ingest.records import decode_all
from schemas.dead_letters import DeadLetterReason
from schemas.decode import PassedOver, Rejected

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
CODECS = pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD], ids=["gzip", "snappy", "lz4", "zstd"])
LIMIT = 1_000_000


def batch(codec: int, *values: bytes | None) -> memoryview:
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 2**31 - 1)
    for offset, value in enumerate(values):
        builder.append(offset, 1000 + offset, b"key", value, [])
    return memoryview(bytes(builder.build()))


def read(raw: memoryview) -> list[Any]:
    memory = RecordsWithAnyNames(bytes(raw))
    found = []
    while memory.has_next():
        one = memory.next_batch()
        assert one.validate_crc()
        found += list(one)
    return found


@CODECS
def test_what_a_batch_expands_to_is_measured(codec: int) -> None:
    within = batch(codec, b" " * (LIMIT - 200))
    beyond = batch(codec, b" " * (LIMIT // 2), b" " * (LIMIT // 2 + 1))
    assert not expands_too_far(within, codec, limit=LIMIT)
    assert expands_too_far(beyond, codec, limit=LIMIT)


@CODECS
def test_a_broken_batch_is_left_to_the_client(codec: int) -> None:
    raw = bytearray(batch(codec, b" " * LIMIT))
    raw[70:] = b"\xff" * (len(raw) - 70)
    assert not expands_too_far(memoryview(raw), codec, limit=LIMIT)
    assert not expands_too_far(memoryview(raw[:61]), codec, limit=0)


@CODECS
def test_a_batch_beyond_the_limit_is_one_record_at_its_last_offset(
    codec: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion.expands_too_far, "__kwdefaults__", {"limit": LIMIT})
    raw = batch(codec, b"a", b" " * LIMIT, b"b")
    [record] = read(raw)
    assert (record.offset, record.value) == (2, b"")
    assert isinstance(record.value, Unread)
    [before], [behind] = read(batch(codec, b"a")), read(batch(codec, b"b"))
    assert (before.value, behind.value) == (b"a", b"b")


@CODECS
def test_a_value_beyond_all_use_is_not_kept(codec: int) -> None:
    fits, huge, last = read(batch(codec, b" " * MAX_KEPT, b" " * (MAX_KEPT + 1), None))
    assert len(fits.value) == MAX_KEPT
    assert isinstance(huge.value, Unread)
    assert (huge.offset, huge.key, last.offset, last.value) == (1, b"key", 2, None)


@pytest.mark.parametrize("where", ["key", "header"])
def test_a_key_or_headers_beyond_all_use_are_not_kept(where: str) -> None:
    huge = b" " * (MAX_KEPT + 1)
    builder = _DefaultRecordBatchBuilderPy(2, ZSTD, 0, -1, -1, -1, 2**31 - 1)
    builder.append(
        0, 1000, huge if where == "key" else b"k", b"v", [("x", huge)] if where == "header" else []
    )
    builder.append(1, 1000, b"k", b"v", [("x", b"y")])
    bare, whole = read(memoryview(bytes(builder.build())))
    assert (bare.offset, bare.key, bare.headers) == (0, None, [])
    assert isinstance(bare.value, Unread)
    assert (whole.key, whole.value, list(whole.headers)) == (b"k", b"v", [("x", b"y")])


def test_measuring_takes_little_memory() -> None:
    raw = batch(ZSTD, b" " * 100_000_000)
    assert len(raw) < 10_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert expands_too_far(raw, ZSTD, limit=LIMIT)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


async def test_guarantee_8_what_was_not_read_becomes_a_dead_letter_that_says_so() -> None:
    def consumed(offset: int, value: bytes | None) -> ConsumerRecord:
        return ConsumerRecord("in", 0, offset, 1000, 0, b"key", value, None, 3, 0, ())

    unread = Unread("the batch expands")
    partition = TopicPartition("in", 0)
    first, second = await decode_all(partition, [consumed(7, unread), consumed(8, None)], max_bytes=1000)
    assert first.meaning == Rejected(DeadLetterReason.TOO_LARGE, "the batch expands")
    assert (first.record.offset, first.record.key, first.record.value) == (7, b"key", None)
    assert second.meaning == PassedOver("null", None)
