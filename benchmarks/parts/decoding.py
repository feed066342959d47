"""Decoding: the whole path from bytes to a checked event, against parsing the JSON alone."""

import json
import time
from collections.abc import Callable

from benchmarks.figures import Table, median
from benchmarks.options import Options
from benchmarks.samples import job_record
from schemas.decode import IncomingRecord, decode
from schemas.event import InboundEvent

RECORDS = 20_000


async def measure(options: Options) -> Table:
    """Compare `json.loads` with `decode` on the same records."""
    records = [job_record(number) for number in range(RECORDS)]
    ways: dict[str, Callable[[IncomingRecord], object]] = {
        "`json.loads` alone": lambda record: json.loads(record.value or b""),
        "`decode`: all checks and the fingerprint": _decode,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            for record in records:
                way(record)
            taken[name].append((time.perf_counter() - began) / RECORDS * 1e6)
    each = {name: median(of_way) for name, of_way in taken.items()}
    return Table(
        title="Decoding one event",
        columns=["", "us", "records/s"],
        rows=[(name, us, 1e6 / us) for name, us in each.items()],
        data={"us": each},
    )


def _decode(record: IncomingRecord) -> None:
    assert isinstance(decode(record, max_bytes=524_288), InboundEvent)
