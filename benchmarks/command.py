"""`quartermaster replay`, as the command that an operator gives, in a process looked at from outside."""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.running import ProgramFailed, Running, launched

LOOK_EVERY_S = 0.02
INTERRUPTED = 1
"""What it ends with where it was asked to stop before its end."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What one run of the command came to.

    Attributes:
        said: What it printed.
        seconds: From its start to its end, the interpreter's start too.
        peak_mb: The most memory it had resident.
    """

    said: dict[str, Any]
    seconds: float
    peak_mb: float


@dataclass(slots=True)
class Replaying:
    """The command while it runs."""

    running: Running
    _began: float = field(default_factory=time.perf_counter)

    async def ended(self) -> Ended:
        """Wait for its end.

        Raises:
            ProgramFailed: It ended with an error.
        """
        return await self._ended(0)

    async def interrupted(self) -> Ended:
        """Ask it to stop where it is, and wait until it has.

        Raises:
            ProgramFailed: It had ended before, or ended with an error.
        """
        self.running.check()
        self.running.process.send_signal(signal.SIGTERM)
        return await self._ended(INTERRUPTED)

    async def _ended(self, wanted: int) -> Ended:
        peak_mb = 0.0
        # Not what the kernel says at the end: a process begins with the peak of the one it was forked from.
        while (status := self.running.process.returncode) is None:
            with contextlib.suppress(OSError, ProgramFailed):  # it has ended since
                peak_mb = self.running.peak_mb()
            await asyncio.sleep(LOOK_EVERY_S)
        seconds = time.perf_counter() - self._began
        if status != wanted:
            raise ProgramFailed(f"replay ended with {status} instead of {wanted}: {self.running.tail()}")
        return Ended(json.loads(self.running.output()), seconds, peak_mb)


@contextlib.asynccontextmanager
async def replaying(environment: Mapping[str, str], topic: str, *more: str) -> AsyncIterator[Replaying]:
    """Have a replay run beside the block, which ends it or waits for its end."""
    command = ["-m", "consumer", "replay", "--topic", topic, "--json", *more]
    async with launched(command, environment, apart=True) as running:
        yield Replaying(running)


async def replayed(environment: Mapping[str, str], topic: str, *more: str) -> Ended:
    """Run a replay to its end."""
    async with replaying(environment, topic, *more) as one:
        return await one.ended()
