"""Decoding leaves the event loop room to breathe, whatever the records weigh."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from consumer.ingest import records
from consumer.ingest.records import LARGE, decode_all
from schemas.decode import IncomingRecord, Rejected

PARTITION = TopicPartition("in", 0)


def consumed(value: bytes | None, offset: int = 0) -> ConsumerRecord:
    return ConsumerRecord("in", 0, offset, 1000, 0, b"key", value, None, 3, 0, ())


async def turns_during(values: Sequence[bytes]) -> int:
    """How often another task has its turn while these are decoded."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await asyncio.sleep(0)
    before = turns
    await decode_all(PARTITION, [consumed(value) for value in values], max_bytes=10 * LARGE)
    counting.cancel()
    return turns - before


async def test_others_have_a_turn_every_twenty_events_or_fewer_large_ones() -> None:
    assert await turns_during([b"{}"] * 19) == 0
    assert await turns_during([b"{}"] * 40) == 2
    assert await turns_during([b" " * (LARGE - 1)] * 6) >= 3


async def test_a_large_value_is_decoded_on_a_thread_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []
    decode = records.decode

    def noting(record: IncomingRecord, *, max_bytes: int) -> object:
        threads.append(threading.current_thread() is threading.main_thread())
        return decode(record, max_bytes=max_bytes)

    monkeypatch.setattr(records, "decode", noting)
    values = [b"{", b" " * LARGE, b"]", b" " * (4 * LARGE + 1)]
    decoded = await decode_all(
        PARTITION, [consumed(value, offset) for offset, value in enumerate(values)], max_bytes=4 * LARGE
    )
    # What is too large is not looked into.
    assert threads == [True, False, True, True]
    assert [one.record.offset for one in decoded] == [0, 1, 2, 3]
    reasons = [one.meaning.reason.value for one in decoded if isinstance(one.meaning, Rejected)]
    assert reasons == ["invalid_json", "invalid_json", "invalid_json", "too_large"]


async def test_a_record_without_a_time_is_read_like_any_other() -> None:
    # So are all of Kafka's first format.
    [one] = await decode_all(PARTITION, [replace(consumed(b"{"), timestamp=None)], max_bytes=10)
    assert one.record.timestamp_ms == -1
    assert isinstance(one.meaning, Rejected)
