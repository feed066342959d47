"""Batches that would grow beyond all bounds when they are decompressed.

A broker bounds a batch as it is sent; a few kilobytes of it may stand for gigabytes. Read by every instance,
after every restart, such a batch would take one after the other down. So what a batch expands to is measured
first, and one that goes too far is not read: it is shown as a single record without a value.
"""

import mmap
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Self

import cramjam
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy

MAX_EXPANDED: Final = 128 * 1024 * 1024
"""Bytes a batch may expand to: far more than any that was put together for a limit of a megabyte."""

MAX_KEPT: Final = 16 * 1024 * 1024
"""Bytes of a compressed record's value beyond which it is not kept: no setting takes an event so large.

The same holds for its key and headers together.
"""

_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
#: What the codecs can make of a byte at most; Zstandard knows no bound.
_MOST_OF_A_BYTE: Final = {_GZIP: 1032, _SNAPPY: 64, _LZ4: 255}
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEAD: Final = 16
_FULL: Final = "failed to write whole buffer"


class Unread(bytes):
    """Stands for a value that was not read; `why` says so in words fit for a header."""

    why: str

    def __new__(cls, why: str) -> Self:
        """Make one: as bytes it is empty."""
        unread = super().__new__(cls)
        unread.why = why
        return unread


class UnreadBatch:
    """A batch too large to be read, as one record at its last offset, so that reading goes on behind it."""

    def __init__(self, batch: Any) -> None:
        """Take the batch, of which nothing but its head is looked at."""
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        batch = self._batch
        last = batch.next_offset - 1
        why = (
            f"the batch of offsets {batch.base_offset} to {last} expands to more than {MAX_EXPANDED} bytes:"
            " none of its records was read"
        )
        yield _DefaultRecordPy(last, batch.max_timestamp, batch.timestamp_type, None, Unread(why), [])


def expands_too_far(raw: memoryview, codec: int, *, limit: int = MAX_EXPANDED) -> bool:
    """Tell whether a batch as it was received would expand beyond `limit`, in bounded memory.

    One that is broken does not: what is wrong with it shows when it is read.
    """
    payload = raw[_DefaultRecordBatchPy.HEADER_STRUCT.size :]
    if len(payload) * _MOST_OF_A_BYTE.get(codec, limit) <= limit:
        return False
    exceeds = _EXCEEDS.get(codec)
    try:
        return exceeds is not None and exceeds(payload, limit)
    except (zlib.error, struct.error, cramjam.DecompressionError):
        return False


def without_excess(record: Any) -> Any:
    """Return a record of a compressed batch as it is, unless it is beyond all use."""
    key, value, headers = record.key, record.value, record.headers
    if value is not None and len(value) > MAX_KEPT:
        value = Unread(_why("the value has", len(value)))
    beside = weight_beside_value(record)
    if beside > MAX_KEPT:
        key, value, headers = None, Unread(_why("key and headers have", beside)), []
    if value is record.value:
        return record
    return _DefaultRecordPy(record.offset, record.timestamp, record.timestamp_type, key, value, headers)


def weight_beside_value(record: Any) -> int:
    """Count the bytes of a record's key and headers."""
    weight = len(record.key or b"")
    for name, content in record.headers:
        weight += len(name) + len(content or b"")
    return weight


def _why(what: str, count: int) -> str:
    return f"{what} {count} bytes, more than the {MAX_KEPT} that are kept of a compressed record"


def _gzip_exceeds(payload: memoryview, limit: int) -> bool:
    step = 1 << 20
    total = 0
    rest = bytes(payload)
    while rest:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            piece = member.decompress(rest, step)
            total += len(piece)
            if total > limit:
                return True
            rest = member.unconsumed_tail
            if not piece and not rest:
                return False
        rest = member.unused_data
    return False


def _snappy_exceeds(payload: memoryview, limit: int) -> bool:
    if bytes(payload[: len(_XERIAL)]) != _XERIAL:
        return int(cramjam.snappy.decompress_raw_len(bytes(payload))) > limit
    total, at = 0, _XERIAL_HEAD
    while at < len(payload):
        (length,) = struct.unpack_from("!I", payload, at)
        at += 4
        total += int(cramjam.snappy.decompress_raw_len(bytes(payload[at : at + length])))
        at += length
    return total > limit


def _lz4_exceeds(payload: memoryview, limit: int) -> bool:
    return _exceeds(cramjam.lz4, payload, limit)


def _zstd_exceeds(payload: memoryview, limit: int) -> bool:
    return _exceeds(cramjam.zstd, payload, limit)


def _exceeds(codec: Any, payload: memoryview, limit: int) -> bool:
    # Pages of an anonymous map cost memory only as far as they are written.
    with mmap.mmap(-1, limit) as room:
        try:
            codec.decompress_into(bytes(payload), room)
        except cramjam.DecompressionError as error:
            return _FULL in str(error)
    return False


_EXCEEDS: Final[Mapping[int, Callable[[memoryview, int], bool]]] = {
    _GZIP: _gzip_exceeds,
    _SNAPPY: _snappy_exceeds,
    _LZ4: _lz4_exceeds,
    _ZSTD: _zstd_exceeds,
}
