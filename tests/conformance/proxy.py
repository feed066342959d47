"""A proxy to ask, and what it answers, before any client of ours has made something of it."""

import asyncio
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Answer:
    status: int
    body: Any

    @property
    def text(self) -> str:
        """The message, whichever of the three shapes it comes in."""
        match self.body:
            case {"error": {"message": message}} | {"detail": {"error": message}}:
                return str(message)
            case {"detail": str(message)}:
                return message
            case {"detail": [{"msg": message}, *_]}:
                return str(message)
            case _:
                return ""

    @property
    def shape(self) -> str:
        """E, D or V for an error, an empty string otherwise."""
        match self.body:
            case {"error": {"message": str()}}:
                return "E"
            case {"detail": list()}:
                return "V"
            case {"detail": _}:
                return "D"
            case _:
                return ""


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass
class Proxy:
    """A proxy to ask, with ids that no other test uses."""

    url: str
    master_key: str
    looks: int = 1
    """How often to look for spend, which the real proxy shows up to ten seconds later."""
    name: str = field(default_factory=lambda: f"qm-{secrets.token_hex(5)}")

    @property
    def team(self) -> str:
        return f"{self.name}-team"

    @property
    def user(self) -> str:
        return f"{self.name}-user"

    @property
    def alias(self) -> str:
        return f"{self.name}-alias"

    @property
    def email(self) -> str:
        return f"{self.name}@Example.org"

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        params: Any = None,
        key: str | None = None,
    ) -> Answer:
        # A connection each: the proxy closes one on which it crashed, without saying so.
        async with httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False) as http:
            answer = await http.request(
                method,
                path,
                json=json,
                content=content,
                params=params,
                headers={"Authorization": f"Bearer {key or self.master_key}"},
            )
        return Answer(answer.status_code, answer.json())

    async def post(self, path: str, body: Any = None, *, key: str | None = None) -> Answer:
        return await self.call("POST", path, json=body, key=key)

    async def get(self, path: str, *, key: str | None = None, **params: Any) -> Answer:
        return await self.call("GET", path, params=params, key=key)

    async def ok(self, method: str, path: str, **arguments: Any) -> Any:
        answer = await self.call(method, path, **arguments)
        assert answer.status == 200, answer
        return answer.body

    async def make_team(self, **fields: Any) -> Any:
        return await self.ok("POST", "/team/new", json={"team_id": self.team, **fields})

    async def make_member(self, **fields: Any) -> Any:
        body = {"team_id": self.team, "member": {"role": "user", "user_id": self.user}, **fields}
        return await self.ok("POST", "/team/member_add", json=body)

    async def make_key(self, **fields: Any) -> str:
        key = fields.pop("key", f"sk-{secrets.token_hex(16)}")
        body = {
            "key": key,
            "key_alias": self.alias,
            "team_id": self.team,
            "user_id": self.user,
            "key_type": "llm_api",
            **fields,
        }
        await self.ok("POST", "/key/generate", json=body)
        return str(key)

    async def team_info(self) -> Any:
        return await self.ok("GET", "/team/info", params={"team_id": self.team})

    async def key_info(self, key: str) -> Any:
        return (await self.ok("GET", "/key/info", params={"key": hash_of(key)}))["info"]

    async def user_info(self, user_id: str | None = None) -> Any:
        return await self.ok("GET", "/v2/user/info", params={"user_id": user_id or self.user})

    async def chat(self, key: str, model: str = "fake") -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        return await self.post("/chat/completions", body, key=key)

    async def spend_of(self, key: str) -> float:
        """Wait until a key's spend shows."""
        for _ in range(self.looks):
            spend = float((await self.key_info(key))["spend"])
            if spend > 0:
                return spend
            await asyncio.sleep(0.5)
        raise AssertionError("no spend shows")
