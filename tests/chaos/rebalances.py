"""How often a consumer group was really rebalanced, from the brokers' own record of it.

Each completed rebalance writes the group's new generation to `__consumer_offsets`; what is not written there
did not happen.
"""

import struct
from collections.abc import Iterable
from typing import Final

from tests.checker.collect import read_topics

_TOPIC: Final = "__consumer_offsets"
_GROUP_METADATA: Final = 2


async def generations(kafka: str, group: str) -> int:
    """How many generations of the group there were that had members."""
    records = await read_topics(kafka, [_TOPIC])
    return len(set(_generations_in(((one.key, one.value) for one in records), group)))


def _generations_in(records: Iterable[tuple[bytes | None, bytes | None]], group: str) -> Iterable[int]:
    for key, value in records:
        if not key or not value or _short(key, 0) != _GROUP_METADATA or _text(key, 2)[0] != group:
            continue
        _, at = _text(value, 2)
        generation: int = struct.unpack_from(">i", value, at)[0]
        _, at = _text(value, at + 4)  # the assignment's protocol: null where the group is empty
        leader, _ = _text(value, at)
        if leader is not None:
            yield generation


def _short(data: bytes, at: int) -> int:
    number: int = struct.unpack_from(">h", data, at)[0]
    return number


def _text(data: bytes, at: int) -> tuple[str | None, int]:
    length = _short(data, at)
    if length < 0:
        return None, at + 2
    return data[at + 2 : at + 2 + length].decode(), at + 2 + length
