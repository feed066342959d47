"""The LiteLLM that provisioning is measured on: the given proxy, or the stand-in in a process of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import aiohttp

from benchmarks.options import Options
from benchmarks.running import program

_LISTENS_WITHIN_S = 20.0
STANDIN_KEY = "sk-standin-master-key"


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where LiteLLM answers, and its master key."""

    url: str
    key: str


@contextlib.asynccontextmanager
async def litellm(options: Options) -> AsyncIterator[Proxy]:
    """Give the proxy that is named, else a stand-in."""
    if options.litellm is not None:
        yield Proxy(options.litellm, options.litellm_key)
    else:
        async with standin() as proxy:
            yield proxy


@contextlib.asynccontextmanager
async def standin(*, slow: str | None = None) -> AsyncIterator[Proxy]:
    """Run a stand-in; calls that name the organization `slow` take 5 s."""
    arguments = ["-m", "benchmarks.programs.slow_standin", *([] if slow is None else ["--slow", slow])]
    async with program(arguments, {}) as running:
        async with asyncio.timeout(_LISTENS_WITHIN_S):
            while "http://" not in (printed := running.output()):
                running.check()
                await asyncio.sleep(0.05)
        yield Proxy(printed.split()[0], STANDIN_KEY)


async def remove(proxy: Proxy, orgs: Iterable[str], users: Iterable[str]) -> None:
    """Delete teams with their keys, and users: what was made to be measured."""
    headers = {"Authorization": f"Bearer {proxy.key}"}
    async with aiohttp.ClientSession(proxy.url, headers=headers) as session:
        for path, name, ids in (
            ("/team/delete", "team_ids", list(orgs)),
            ("/user/delete", "user_ids", list(users)),
        ):
            for start in range(0, len(ids), 50):
                async with session.post(path, json={name: ids[start : start + 50]}) as response:
                    await response.read()
