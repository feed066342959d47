"""The service with clocks that step: ``-m tests.faults.stepped run`` is ``-m consumer run``.

By how many seconds the process's clock and the database's are off stands in the file that `QM_TEST_CLOCK`
names. SQLite's own clock is the process's. What counts monotonically goes on as it is.
"""

import os
import time
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from storage import database

_FILE = Path(os.environ["QM_TEST_CLOCK"])
_time, _time_ns, _database_now = time.time, time.time_ns, database.database_now


def off_by_s() -> int:
    return int(_FILE.read_text(encoding="ascii"))


async def _stepped_now(tx: AsyncConnection) -> datetime:
    return await _database_now(tx) + timedelta(seconds=off_by_s())


# Before anything else is imported: whoever takes a clock by default takes these.
time.time = lambda: _time() + off_by_s()
time.time_ns = lambda: _time_ns() + off_by_s() * 10**9
database.database_now = _stepped_now

if __name__ == "__main__":
    from consumer.__main__ import main

    main()
