"""One instance on one SQLite file.

Guarantee: of the processes that hold a `SqliteFileLock` on a file there is one at most, and the lock goes
with the process, however it ends. It keeps a second `run` away; commands beside it share the file as SQLite
lets them.
"""

import fcntl
import os
from pathlib import Path
from typing import Self


class SqliteFileLock:
    """The right to be the one instance that uses a database file.

    Args:
        path: The database file; the lock is a file beside it, which stays.
    """

    def __init__(self, path: Path) -> None:
        # Not the database file itself: closing any descriptor of it would drop SQLite's own locks.
        self.path = path.with_name(path.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False where another process has it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give it back; nothing happens where it isn't held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        if not self.acquire():
            raise BlockingIOError(f"another process holds {self.path}")
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
