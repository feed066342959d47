"""Decoding: the whole path from bytes to a checked event, against parsing the JSON alone."""

import json
import time

from benchmarks.report import Measured
from benchmarks.samples import job_record
from schemas.decode import decode
from schemas.event import InboundEvent


async def measure(events: int) -> list[Measured]:
    """Compare `json.loads` with `decode` on the same records."""
    records = [job_record(n) for n in range(min(events, 5_000))]
    rounds = max(1, events // len(records))

    start = time.perf_counter()
    for _ in range(rounds):
        for record in records:
            json.loads(record.value or b"")
    parsed = time.perf_counter() - start

    start = time.perf_counter()
    for _ in range(rounds):
        for record in records:
            assert isinstance(decode(record, max_bytes=524_288), InboundEvent)
    decoded = time.perf_counter() - start
    count = rounds * len(records)
    return [
        Measured("json.loads alone", count, parsed),
        Measured("decode: all checks and the fingerprint", count, decoded),
    ]
