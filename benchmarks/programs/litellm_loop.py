"""The bare client loop: the calls that provisioning takes, and nothing else.

It keeps nothing and checks little.

`--concurrency` workers take organizations from a list, then users. Prints one line of JSON: seconds, calls.
"""

import argparse
import asyncio
import json
import os
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp


class Proxy:
    """LiteLLM's management API."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.calls = 0

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        self.calls += 1
        async with self._session.post(path, json=body) as response:
            response.raise_for_status()
            return await response.json()

    async def get(self, path: str, query: dict[str, str]) -> Any:
        self.calls += 1
        async with self._session.get(path, params=query) as response:
            response.raise_for_status()
            return await response.json()

    async def organization(self, org: str) -> None:
        """Make a team with its owner and the owner's key, and read it back."""
        owner = f"owner-of-{org}"
        members = [{"role": "user", "user_id": owner}]
        await self.post(
            "/team/new", {"team_id": org, "team_alias": org, "models": [], "members_with_roles": members}
        )
        await self.key(org, owner)
        team = await self.get("/team/info", {"team_id": org})
        assert team["team_id"] == org

    async def user(self, org: str, user: str) -> None:
        """Make a user a member, with a key, and read that back."""
        member = {"role": "user", "user_id": user}
        await self.post("/team/member_add", {"team_id": org, "member": member})
        token = await self.key(org, user)
        key = await self.get("/key/info", {"key": token})
        assert key["info"]["user_id"] == user

    async def key(self, org: str, user: str) -> str:
        """Make a key for model calls only."""
        body = {
            "key": f"sk-{secrets.token_urlsafe(32)}",
            "key_alias": f"loop-{org}-{user}",
            "team_id": org,
            "user_id": user,
            "key_type": "llm_api",
        }
        made = await self.post("/key/generate", body)
        return str(made["token"])


async def work(jobs: list[Callable[[], Awaitable[None]]], concurrency: int) -> None:
    """Do all, so many at a time."""
    left = deque(jobs)

    async def worker() -> None:
        while left:
            await left.popleft()()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())


async def main() -> None:
    """Do as the arguments say, and tell how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--name", required=True, help="what the organizations' names begin with")
    parser.add_argument("--organizations", type=int, required=True)
    parser.add_argument("--users", type=int, required=True, help="of each organization")
    parser.add_argument("--concurrency", type=int, required=True)
    arguments = parser.parse_args()
    headers = {"Authorization": f"Bearer {os.environ['MASTER_KEY']}"}
    connector = aiohttp.TCPConnector(limit=arguments.concurrency, keepalive_timeout=3)
    async with aiohttp.ClientSession(arguments.url, headers=headers, connector=connector) as session:
        proxy = Proxy(session)
        orgs = [f"{arguments.name}-{number}" for number in range(arguments.organizations)]
        began = time.perf_counter()
        await work([lambda org=org: proxy.organization(org) for org in orgs], arguments.concurrency)  # type: ignore[misc]
        users = [(org, f"{org}-user-{number}") for number in range(arguments.users) for org in orgs]
        await work(
            [lambda org=org, user=user: proxy.user(org, user) for org, user in users],  # type: ignore[misc]
            arguments.concurrency,
        )
        print(json.dumps({"seconds": time.perf_counter() - began, "calls": proxy.calls}))


if __name__ == "__main__":
    asyncio.run(main())
