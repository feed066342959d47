"""Runs spread over processes, which end without finalizing what dead simulated processes left."""

import atexit
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import structlog

Job = TypeVar("Job")
Result = TypeVar("Result")

RUNS_PER_PROCESS = 40
"""What a dead simulated process left can't be freed without running its code; so it ends with the process."""
RUN_TIME_S = 120

_work: Callable[[Any, Path], Any]
_folder: Path


def spread(
    jobs: Sequence[Job], work: Callable[[Job, Path], Result], *, workers: int, until: float | None = None
) -> Iterator[tuple[Job, Result | str]]:
    """Do every job in a folder of its worker's own; give what came of each, in the order they end.

    A job that raises gives the error as text. After the moment `until` (of `time.monotonic`) no job begins.
    """
    global _work  # noqa: PLW0603 - what a forked process finds
    _work = work
    context = multiprocessing.get_context("fork")
    with context.Pool(workers, _prepare, (scratch(),), maxtasksperchild=RUNS_PER_PROCESS) as pool:
        for number, result in pool.imap_unordered(_do, ((n, job) for n, job in enumerate(jobs))):
            yield jobs[number], result
            if until is not None and time.monotonic() > until:
                pool.terminate()
                return


@cache
def scratch() -> Path:
    """A folder that goes with this process, in memory where the machine has such a place."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _prepare(folder: Path) -> None:
    global _folder  # noqa: PLW0603
    _folder = folder / str(os.getpid())
    quiet()
    gc.disable()


def quiet() -> None:
    """Say nothing of what the simulated processes log, nor of what is left behind by those killed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _unraisable: None


def _do(numbered: tuple[int, Any]) -> tuple[int, Any]:
    number, job = numbered
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(RUN_TIME_S)
    _folder.mkdir(exist_ok=True)
    try:
        return number, _work(job, _folder)
    except (Exception, _TooLong) as error:  # noqa: BLE001 - a finding, whatever it is
        return number, f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        shutil.rmtree(_folder, ignore_errors=True)


class _TooLong(BaseException):
    """Nothing that runs may take it for an error of its own."""


def _too_long(_number: int, _frame: object) -> None:
    raise _TooLong(f"not done within {RUN_TIME_S} s")
