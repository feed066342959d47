"""`quartermaster run` as processes that can be killed, stopped, hung and woken."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_PATIENCE_S: Final = 60.0


class Instance:
    """One process. `held` is true while it hangs."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, log: Path) -> None:
        self.number = number
        self.log = log
        self.started_at = time.monotonic()
        self.held = False
        self._process = process

    @property
    def lives(self) -> bool:
        return self._process.returncode is None

    async def kill(self) -> bool:
        """End it as the kernel would; say whether it was alive until then."""
        alive = self.lives
        if alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
        code = await self._process.wait()
        return alive and code == -signal.SIGKILL

    async def stop(self) -> int | None:
        """End it as an operator would, and give its exit code; None where it did not end in time."""
        code = await self._stop()
        # An interpreter that is still starting knows of no signals yet.
        if code == -signal.SIGTERM and not self.log.read_bytes():
            return 0
        return code

    async def _stop(self) -> int | None:
        if self.lives:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            return None

    def hold(self) -> None:
        """Have it hang: its sockets stay open, and nothing answers."""
        if self.lives:
            self._process.send_signal(signal.SIGSTOP)
            self.held = True

    def go_on(self) -> None:
        """Let it go on as if nothing had been: a zombie, where its place was given away meanwhile."""
        self.held = False
        if self.lives:
            self._process.send_signal(signal.SIGCONT)


class Fleet:
    """All instances of one database that run, and the logs of all that ever did."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._settings = dict(settings)
        self.started = 0
        self.running: list[Instance] = []
        self.unexpected: list[str] = []
        """Ends that nobody brought about."""

    async def start(self) -> Instance:
        """Start one more; it comes up by itself."""
        self.started += 1
        log = self._folder / f"run-{self.started:04}.log"
        migrate = [] if self._settings["QM_DATABASE_URL"].startswith("sqlite") else ["--migrate"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "consumer", "run", *migrate],
                env=inherited | self._settings,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        instance = Instance(self.started, process, log)
        self.running.append(instance)
        return instance

    def gone(self, instance: Instance) -> None:
        """Forget one that was ended."""
        self.running.remove(instance)

    async def replace_the_fallen(self) -> None:
        """Start anew whatever ended by itself, and remember that it did."""
        for instance in [one for one in self.running if not one.lives]:
            self.unexpected.append(f"instance {instance.number} ended by itself, see {instance.log.name}")
            self.gone(instance)
            await self.start()

    async def stop_all(self) -> None:
        """End all as an operator would; each exit code but 0 is unexpected."""
        for instance in self.running:
            if instance.held:
                instance.go_on()
        codes = await asyncio.gather(*(instance.stop() for instance in self.running))
        for instance, code in zip(self.running, codes, strict=True):
            if code != 0:
                self.unexpected.append(
                    f"instance {instance.number} ended with {code}, see {instance.log.name}"
                )
        self.running.clear()

    async def kill_all(self) -> None:
        """Leave nothing behind."""
        for instance in self.running:
            await instance.kill()
        self.running.clear()

    def logged(self) -> dict[str, int]:
        """How often each warning or error stands in the logs of all that ever ran."""
        found: Counter[str] = Counter()
        for log in sorted(self._folder.glob("run-*.log")):
            for line in log.read_text(errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # cut short by a kill, or not from our log at all
                    found["not a line of the log"] += 1
                    continue
                if entry["level"] not in {"debug", "info"}:
                    found[f"{entry['level']}: {entry['event'][:70]}"] += 1
        return dict(found.most_common())

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run another command of the program to its end; its exit code, and what it printed."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "consumer", *arguments],
            env=inherited | self._settings,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(_PATIENCE_S):
            out, errors = await process.communicate()
        return process.returncode or 0, (out or errors).decode()
