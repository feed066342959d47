"""A program in a process of its own, started, measured from outside and ended."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")
_ENDS_WITHIN_S = 30.0


class ProgramFailed(Exception):  # noqa: N818 - says what happened
    """A program ended by itself, or badly; the message has the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process that runs."""

    process: asyncio.subprocess.Process
    printed: Path
    complained: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def cpu_s(self) -> float:
        """Return the processor time it has used so far, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_mb(self) -> float:
        """Return the most memory it has had resident so far, in MB."""
        return self._memory("VmHWM")

    def resident_mb(self) -> float:
        """Return the memory it has resident now, in MB."""
        return self._memory("VmRSS")

    def _memory(self, name: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) / 1024
        raise ProgramFailed(f"the process has no {name} any more: {self.tail()}")

    def output(self) -> str:
        """Return what it has printed so far."""
        return self.printed.read_text(errors="replace")

    def tail(self) -> str:
        """Return the end of what it has printed, and of what it has complained of apart from that."""
        return (self.output() + self.complained.read_text(errors="replace"))[-3000:]

    def check(self) -> None:
        """Raise ProgramFailed if it has ended."""
        if self.process.returncode is not None:
            raise ProgramFailed(f"ended with {self.process.returncode}: {self.tail()}")


@contextlib.asynccontextmanager
async def program(arguments: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Running]:
    """Run `python ARGUMENTS` in an empty folder; at the end it is asked to stop, and must do so well.

    Raises:
        ProgramFailed: It ended with an error, or did not end when asked.
    """
    async with launched(arguments, environment) as running:
        yield running
        await _end(running)


@contextlib.asynccontextmanager
async def launched(
    arguments: Sequence[str], environment: Mapping[str, str], *, apart: bool = False
) -> AsyncIterator[Running]:
    """Run `python ARGUMENTS` in an empty folder; whoever still runs at the end is killed.

    Args:
        arguments: Behind `python`.
        environment: Beside the inherited one, of which nothing of ours is left.
        apart: Keep what it complains of out of what it prints.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
    with tempfile.TemporaryDirectory(prefix="qm-bench-") as folder:
        printed, complained = Path(folder) / "printed", Path(folder) / "complained"
        with printed.open("wb") as out, complained.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                cwd=folder,
                env={**inherited, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors if apart else subprocess.STDOUT,
            )
        try:
            yield Running(process, printed, complained)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _end(running: Running) -> None:
    running.check()
    running.process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_ENDS_WITHIN_S):
            status = await running.process.wait()
    except TimeoutError:
        raise ProgramFailed(f"does not end when asked: {running.tail()}") from None
    if status not in {0, -signal.SIGTERM}:
        raise ProgramFailed(f"ended with {status}: {running.tail()}")


def machine_cpu_s() -> float:
    """Return the processor time that everything on this machine has used so far, in seconds."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / _TICKS
