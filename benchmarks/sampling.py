"""Where a process's time goes.

`python -m benchmarks.sampling FILE COMMAND ...` does as `quartermaster COMMAND ...` does.

Every few milliseconds of processor time the kernel interrupts the process, and the stack it is in is put to
what it was doing. SIGUSR1 begins, SIGUSR2 ends and writes FILE. What is not processor time was waiting: for
the database, the broker, or a core. C code counts for the Python function that called it.
"""

import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

EVERY_S = 0.002

#: What a stack is doing, by the innermost file that says so. The first match wins.
_WORK = (
    ("schemas/decode.py", "decode"),
    ("consumer/ingest/records.py", "decode"),
    ("consumer/ingest/client.py", "fetch"),
    ("consumer/ingest/expansion.py", "fetch"),
    ("consumer/ingest/header_names.py", "fetch"),
    ("consumer/ingest/judging.py", "decide"),
    ("consumer/decisions/", "decide"),
    ("consumer/ingest/batch.py", "decide"),
    ("consumer/ingest/loop.py", "decide"),
    ("producers/", "produce"),
    ("storage/", "SQL"),
    ("sqlalchemy/", "SQL"),
    ("asyncpg/", "SQL"),
    ("aiosqlite/", "SQL"),
    ("aiokafka/consumer/", "fetch"),
    ("aiokafka/coordinator/", "commit, group"),
    ("aiokafka/producer/", "produce"),
)


class Sampler:
    """Counts what this process's main thread was doing; other threads count by their processor time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._work: Counter[str] = Counter()
        self._functions: Counter[str] = Counter()
        self._began = 0.0
        self._main_cpu = 0.0
        self._cpu = 0.0

    def install(self) -> None:
        """Wait for the signals."""
        signal.signal(signal.SIGUSR1, self._begin)
        signal.signal(signal.SIGUSR2, self._end)
        signal.signal(signal.SIGPROF, self._sample)

    def _begin(self, _number: int, _frame: FrameType | None) -> None:
        self._began, self._main_cpu, self._cpu = time.perf_counter(), time.thread_time(), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        main_cpu = time.thread_time() - self._main_cpu
        found = {
            "seconds": time.perf_counter() - self._began,
            "main_cpu_s": main_cpu,
            "other_threads_cpu_s": time.process_time() - self._cpu - main_cpu,
            "samples": self._work.total(),
            "work": dict(self._work.most_common()),
            "functions": dict(self._functions.most_common(60)),
        }
        half_written = self._file.with_suffix(".part")
        half_written.write_text(json.dumps(found))
        half_written.rename(self._file)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        # Where another thread uses the processor, this one is only woken to be looked at.
        if frame is not None and not _waits(frame):
            self._work[work_of(frame)] += 1
            self._functions[_named(frame)] += 1


def work_of(frame: FrameType) -> str:
    """Say what a stack is doing."""
    inner: FrameType | None = frame
    while inner is not None:
        file = inner.f_code.co_filename
        if "/aiokafka/" in file:
            side = _side(inner)
            if side is not None:
                return side
        if file.endswith("asyncio/selector_events.py"):
            receiver = getattr(inner.f_locals.get("self"), "_protocol", None)
            if receiver is not None and type(receiver).__module__.startswith("asyncpg"):
                return "SQL"
        for part, work in _WORK:
            if part in file:
                return work
        inner = inner.f_back
    return "event loop" if _in_loop(frame) else "other"


def _side(frame: FrameType) -> str | None:
    """Tell the producer's connections from the consumer's."""
    owner = frame.f_locals.get("self")
    client = getattr(owner, "_client_id", None)
    if client is None:
        return None
    return "produce" if client == "quartermaster" else "fetch"


def _in_loop(frame: FrameType) -> bool:
    inner: FrameType | None = frame
    while inner is not None:
        if "/asyncio/" in inner.f_code.co_filename:
            return True
        inner = inner.f_back
    return False


def _waits(frame: FrameType) -> bool:
    return frame.f_code.co_filename.endswith("selectors.py") and frame.f_code.co_name == "select"


def _named(frame: FrameType) -> str:
    file = Path(frame.f_code.co_filename)
    return f"{'/'.join(file.parts[-3:])}:{frame.f_code.co_qualname}"


def main() -> Any:
    """Install the sampler, then do as `quartermaster` does."""
    Sampler(Path(sys.argv[1])).install()
    sys.argv[1:] = sys.argv[2:]
    from consumer.__main__ import main as quartermaster  # noqa: PLC0415 - after the sampler

    return quartermaster()


if __name__ == "__main__":
    sys.exit(main())
