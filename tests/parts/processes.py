"""Processes of servers that are nobody's children of ours: hung, woken, ended; and ended with the test run.

Standard library only, and Linux (`/proc`): it is also a program, ``python processes.py FOLDER...``. That
waits until its standard input ends, as it does when whoever started it is gone, however that came about.
Then it ends the servers whose process ids stand in these folders, and removes the folders.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

_LOOK_EVERY_S: Final = 0.02
_GONE_WITHIN_S: Final = 60.0
_REAPED_WITHIN_S: Final = 5.0

PID_FILES: Final = ("broker-*/pid", "data/postmaster.pid")
"""Where in a server's folder its process ids stand: Kafka's brokers, PostgreSQL's first process."""


def is_alive(pid: int) -> bool:
    """Whether the process runs or hangs; one that nobody has asked for its end yet is gone."""
    state = _stat(pid)
    return state is not None and state[0] not in {"Z", "X"}


def read_pid(file: Path) -> int | None:
    """The process id on a file's first line, of a process that lives."""
    try:
        pid = int(file.read_text(encoding="ascii").split(maxsplit=1)[0])
    except (OSError, ValueError, IndexError):
        return None
    return pid if is_alive(pid) else None


def hang(pid: int) -> None:
    """Stop a process and all below it in mid-air: connections stay open, and nobody answers on them."""
    # From the top: whoever is stopped brings no more children into the world.
    stopped: set[int] = set()
    while new := [one for one in family(pid) if one not in stopped]:
        _signal(new, signal.SIGSTOP)
        stopped.update(new)


def wake(pid: int) -> None:
    """Let a process that hangs, and all below it, go on."""
    _signal(family(pid), signal.SIGCONT)


def kill(pid: int) -> None:
    """End a process and all below it at once, as the kernel would; return when they are gone."""
    hang(pid)
    doomed = family(pid)
    _signal(doomed, signal.SIGKILL)
    await_end(doomed)


def stop(pid: int, how: signal.Signals) -> None:
    """Ask a process to end, and wait until it has."""
    wake(pid)
    _signal([pid], how)
    await_end([pid])


def await_end(pids: Sequence[int]) -> None:
    """Return when all of these are gone, also from the kernel's list: a server's own start looks there.

    Raises:
        TimeoutError: They stay.
    """
    begun = time.monotonic()
    while listed := [pid for pid in pids if _stat(pid) is not None]:
        waited = time.monotonic() - begun
        if waited > _GONE_WITHIN_S:
            raise TimeoutError(f"still alive: {listed}")
        if waited > _REAPED_WITHIN_S and not any(map(is_alive, listed)):
            return  # their parent does not care, and may be ourselves
        time.sleep(_LOOK_EVERY_S)  # between two looks: the end of another's child is told to nobody else


def family(pid: int) -> list[int]:
    """The process and all below it, parents first."""
    found, children = [pid], _children()
    for one in found:
        found.extend(children.get(one, ()))
    return [one for one in found if is_alive(one)]


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (state := _stat(int(entry.name))) is not None:
            children.setdefault(int(state[1]), []).append(int(entry.name))
    return children


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold anything.
    return text.rpartition(")")[2].split()


def _signal(pids: Iterable[int], how: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)


def main(folders: Sequence[Path]) -> None:
    """Wait for the end of standard input, then leave no process and no folder behind."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()
    for folder in folders:
        for pattern in PID_FILES:
            for file in folder.glob(pattern):
                if (pid := read_pid(file)) is not None:
                    kill(pid)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
