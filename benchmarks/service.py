"""`quartermaster run` as a process that is talked to: whether it is ready, what it counts."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp

from benchmarks.cluster import eventually
from benchmarks.contestants import run_arguments
from benchmarks.running import Running, program

READY_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Service:
    """One process of ours.

    Attributes:
        running: The process.
        http: A client, of whoever started it.
    """

    running: Running
    http: aiohttp.ClientSession

    @property
    def url(self) -> str | None:
        """Where its endpoints are; None: it does not listen yet."""
        for line in self.running.output().splitlines():
            if '"http_listening"' in line:
                return str(json.loads(line)["url"])
        return None

    async def is_ready(self) -> bool:
        """Whether it says that it is ready."""
        self.running.check()
        url = self.url
        if url is None:
            return False
        async with self.http.get(f"{url}/readyz") as response:
            return response.status == 200

    async def ready(self) -> None:
        """Return once it is ready."""
        await eventually(self.is_ready, within_s=READY_WITHIN_S, every_s=0.02, what="the service is ready")

    async def counted(self, metric: str) -> float:
        """Return a metric, summed over its labels."""
        async with self.http.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        counts = [line for line in lines if line.startswith((f"{metric}{{", f"{metric} "))]
        return sum(float(line.rpartition(" ")[2]) for line in counts)


@contextlib.asynccontextmanager
async def service(environment: Mapping[str, str], *, ready: bool = True) -> AsyncIterator[Service]:
    """Run one process; where `ready`, the block begins once it is."""
    async with aiohttp.ClientSession() as http, program(run_arguments(), environment) as running:
        found = Service(running, http)
        if ready:
            await found.ready()
        yield found


async def settled(seconds: float = 1.0) -> None:
    """Let what was just started come to rest."""
    await asyncio.sleep(seconds)
