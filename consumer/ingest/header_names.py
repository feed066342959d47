"""Records whose headers have names that are not UTF-8, which not every producer prevents.

aiokafka decodes names while it reads a fetch and ends in `UnicodeDecodeError` at such a record, for ever: the
record can neither be taken nor passed. Here those names become readable; everything else stays as it came.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.record.util import decode_varint

from consumer.ingest.expansion import UnreadBatch, expands_too_far, without_excess


def accept_any_header_name() -> None:
    """Have every consumer of this process read on over such records."""
    fetcher.MemoryRecords = RecordsWithAnyNames


class RecordsWithAnyNames(_MemoryRecordsPy):  # type: ignore[misc]  # aiokafka is not typed
    """The batches of one fetch; aiokafka's fast ones, unless a name can't be read."""

    def next_batch(self) -> Any:
        """Return the next batch."""
        raw = self._next_slice
        batch = super().next_batch()
        if batch is None or batch.magic < 2:  # noqa: PLR2004
            return batch
        codec = batch.compression_type
        if codec and expands_too_far(raw, codec):
            return UnreadBatch(batch)
        return _Batch(batch, raw)


class _Batch:
    """A batch that begins as aiokafka's own and goes on with a slower one behind an unreadable name."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        records = self._records()
        return map(without_excess, records) if self._batch.compression_type else records

    def _records(self) -> Iterator[Any]:
        taken = 0
        try:
            for record in self._batch:
                taken += 1
                yield record
        except UnicodeDecodeError:
            yield from islice(_TolerantBatch(self._raw), taken, None)


class _TolerantBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    def _read_msg(self) -> Any:
        self._mend_names()
        return super()._read_msg()

    def _mend_names(self) -> None:
        """Put `?` for what is not ASCII in the names of the next record that are not UTF-8."""
        buffer, at = self._buffer, self._pos
        for _ in ("length", "attributes", "timestamp", "offset"):
            _, at = decode_varint(buffer, at)
        for _ in ("key", "value"):
            at = _behind(buffer, at)
        headers, at = decode_varint(buffer, at)
        for _ in range(headers):
            end = _behind(buffer, at)
            _, start = decode_varint(buffer, at)
            buffer[start:end] = _readable(buffer[start:end])
            at = _behind(buffer, end)


def _behind(buffer: bytearray, at: int) -> int:
    """Return where the bytes end whose length stands here; null has none."""
    length, start = decode_varint(buffer, at)
    return int(start + max(length, 0))


def _readable(name: bytearray) -> bytearray:
    try:
        name.decode()
    except UnicodeDecodeError:
        return bytearray(byte if byte < 0x80 else ord("?") for byte in name)  # noqa: PLR2004 - ASCII's end
    return name
