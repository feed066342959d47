"""LiteLLM's stand-in, in which calls about one organization take 5 s (`--slow ORG_ID`)."""

import argparse
import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from benchmarks.programs.ending import until_told
from consumer.standin.routing import Route
from consumer.standin.server import StandIn

SLOW_S = 5.0


class SlowStandIn(StandIn):
    """A stand-in that is slow for one organization alone."""

    def __init__(self, slow: str | None) -> None:
        super().__init__()
        self._slow = slow
        self._its_keys: set[str] = set()

    def _handler(self, route: Route) -> Callable[[web.Request], Any]:
        handle = super()._handler(route)

        async def slowed(request: web.Request) -> web.StreamResponse:
            if self._is_slow(await request.read(), dict(request.query)):
                await asyncio.sleep(SLOW_S)
            answered: web.StreamResponse = await handle(request)
            self.log.clear()  # for a test's eyes; here it would only grow
            return answered

        return slowed

    def _is_slow(self, body: bytes, query: dict[str, str]) -> bool:
        if self._slow is None:
            return False
        asked = json.loads(body) if body else query
        if self._slow in {asked.get("team_id"), asked.get("team_alias")}:
            if "key" in asked:
                self._its_keys.add(hashlib.sha256(asked["key"].encode()).hexdigest())
            return True
        return asked.get("key") in self._its_keys


async def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slow", metavar="ORG_ID")
    async with SlowStandIn(parser.parse_args().slow) as standin:
        print(standin.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    until_told(main())
