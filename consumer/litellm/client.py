"""LiteLLM's management API: one method a call, each ending in a typed answer or in one of `errors`.

The client neither retries nor reads back: what a doubt about a write asks for depends on the write, and is
the caller's.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypedDict, TypeVar, Unpack

import aiohttp
import httpx
import jiter
import orjson
from pydantic import ValidationError

from consumer.litellm.errors import Doubtful, NotFound, NotSent, classify, upstream_message
from consumer.litellm.models import (
    Answer,
    DeletedKeys,
    DeletedTeams,
    Key,
    KeyInfo,
    MemberAdded,
    Team,
    TeamInfo,
    UpdatedMember,
    UpdatedTeam,
    User,
)
from consumer.litellm.transport import is_timeout, open_http, surely_not_sent

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""More than `/team/info` of ten thousand members with their keys."""

OnRequest = Callable[[str, str], None]
"""Called once a request with its endpoint and its status.

The HTTP status, else `not_sent`, `timeout`, `disconnected`.
"""

_AnswerT = TypeVar("_AnswerT", bound=Answer)
_ValueT = TypeVar("_ValueT")
_OK: Final = 200
_KEY_NOT_FOUND: Final = "Key not found"


class TeamChanges(TypedDict, total=False):
    """Fields of `/team/update`.

    Omitted ones stay, and null clears a budget or its duration. `metadata` is replaced as a whole.
    """

    team_alias: str
    max_budget: Decimal | None
    budget_duration: str | None
    blocked: bool
    models: Sequence[str]
    metadata: Mapping[str, object]


class KeyChanges(TypedDict, total=False):
    """Fields of `/key/update`: omitted ones stay, and null clears a budget and makes `duration` endless."""

    key_alias: str
    team_id: str | None
    user_id: str
    max_budget: Decimal | None
    budget_duration: str | None
    duration: str | None
    models: Sequence[str]
    allowed_routes: Sequence[str]
    metadata: Mapping[str, object]
    blocked: bool


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    body: bytes
    retry_after_s: float | None


class LiteLLMClient:
    """A proxy's management API under its master key.

    Every method raises `LiteLLMError`. Budgets are in USD; None means no limit.

    Args:
        http: As `open_http` makes it; closed with the client.
        timeout_s: Seconds a call may take in all, connection and reading included.
        on_request: The metrics hook.
        max_answer_bytes: A longer answer is not read to its end, and counts as none.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        timeout_s: float,
        on_request: OnRequest | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._http = http
        self._timeout_s = timeout_s
        self._on_request = on_request
        self._max_answer_bytes = max_answer_bytes

    @classmethod
    def connect(
        cls,
        url: str,
        master_key: str,
        *,
        timeout_s: float = 10.0,
        ssl_cafile: Path | None = None,
        on_request: OnRequest | None = None,
    ) -> Self:
        """Make a client for the proxy at `url`; nothing is sent yet."""
        http = open_http(url, master_key, timeout_s=timeout_s, ssl_cafile=ssl_cafile)
        return cls(http, timeout_s=timeout_s, on_request=on_request)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @property
    def timeout_s(self) -> float:
        """The longest a call takes, in seconds."""
        return self._timeout_s

    async def team_new(
        self,
        team_id: str,
        *,
        team_alias: str,
        max_budget: Decimal | None,
        blocked: bool,
        models: Sequence[str],
        metadata: Mapping[str, object],
        members: Sequence[str] = (),
    ) -> Team:
        """Make a team with its members; unknown members become users without an e-mail.

        Raises:
            AlreadyExists: TEAM_ID or UNIQUE_CONSTRAINT; members are then ignored and not added.
            Doubtful: The team may also stand without any member.
        """
        payload = {
            "team_id": team_id,
            "team_alias": team_alias,
            "max_budget": max_budget,
            "blocked": blocked,
            "models": list(models),
            "metadata": dict(metadata),
            "members_with_roles": [{"role": "user", "user_id": user_id} for user_id in members],
        }
        team = await self._post("/team/new", payload, Team)
        return _about(team, "/team/new", team.team_id == team_id)

    async def team_info(self, team_id: str) -> TeamInfo:
        """Read a team with its members, memberships and keys.

        Slow for large teams: 230 ms with 1,000 members.
        """
        info = await self._get("/team/info", {"team_id": team_id}, TeamInfo)
        return _about(info, "/team/info", info.team.team_id == team_id)

    async def team_update(self, team_id: str, **changes: Unpack[TeamChanges]) -> Team:
        """Change a team's fields, at once for calls in flight after it."""
        answer = await self._post("/team/update", {"team_id": team_id, **changes}, UpdatedTeam)
        return _about(answer.data, "/team/update", answer.data.team_id == team_id)

    async def team_delete(self, team_id: str) -> None:
        """Delete a team and its keys."""
        await self._post("/team/delete", {"team_ids": [team_id]}, DeletedTeams)

    async def member_add(
        self, team_id: str, user_id: str, *, max_budget_in_team: Decimal | None = None
    ) -> MemberAdded:
        """Make a user a member with the role `user`; an unknown user is made.

        Raises:
            AlreadyExists: MEMBER; another budget is then not applied.
        """
        payload: dict[str, object] = {"team_id": team_id, "member": {"role": "user", "user_id": user_id}}
        if max_budget_in_team is not None:
            payload["max_budget_in_team"] = max_budget_in_team
        added = await self._post("/team/member_add", payload, MemberAdded)
        return _about(added, "/team/member_add", added.team_id == team_id and added.has_member(user_id))

    async def member_update(self, team_id: str, user_id: str, *, max_budget_in_team: Decimal | None) -> None:
        """Set or clear a member's budget.

        Of a non-member this leaves a row without a member: make sure first.
        """
        payload = {"team_id": team_id, "user_id": user_id, "max_budget_in_team": max_budget_in_team}
        await self._post("/team/member_update", payload, UpdatedMember)

    async def member_delete(self, team_id: str, user_id: str) -> None:
        """Take a user out of a team; the user's keys of that team die with the membership."""
        await self._post("/team/member_delete", {"team_id": team_id, "user_id": user_id}, Team)

    async def user_new(
        self,
        user_id: str,
        *,
        user_email: str | None = None,
        team_id: str | None = None,
        max_budget_in_team: Decimal | None = None,
    ) -> User:
        """Make a user without a key, perhaps as a member of a team; the answer's `teams` is what it joined.

        Raises:
            AlreadyExists: USER_ID, USER_EMAIL or UNIQUE_CONSTRAINT; no membership is then added.
        """
        payload: dict[str, object] = {"user_id": user_id, "auto_create_key": False}
        if user_email is not None:
            payload["user_email"] = user_email
        if team_id is not None:
            team: dict[str, object] = {"team_id": team_id, "user_role": "user"}
            if max_budget_in_team is not None:
                team["max_budget_in_team"] = max_budget_in_team
            payload["teams"] = [team]
        user = await self._post("/user/new", payload, User)
        return _about(user, "/user/new", user.user_id == user_id)

    async def user_info(self, user_id: str) -> User:
        """Read a user, without the teams' and keys' records."""
        user = await self._get("/v2/user/info", {"user_id": user_id}, User)
        if user.user_id != user_id:  # how older versions say that there is none
            raise NotFound("/v2/user/info", "not found", status=_OK)
        return user

    async def key_generate(
        self,
        key: str,
        *,
        key_alias: str,
        team_id: str,
        user_id: str | None,
        metadata: Mapping[str, object] | None = None,
    ) -> Key:
        """Make `key` a key for model calls only.

        Repeating it with the same key never makes a second one, but a 200 may echo what was asked over what
        is stored: read back.

        Raises:
            AlreadyExists: KEY_ALIAS or UNIQUE_CONSTRAINT.
        """
        payload: dict[str, object] = {
            "key": key,
            "key_alias": key_alias,
            "team_id": team_id,
            "user_id": user_id,
            "key_type": "llm_api",
        }
        if metadata is not None:
            payload["metadata"] = dict(metadata)
        generated = await self._post("/key/generate", payload, Key)
        key_hash = hashlib.sha256(key.encode()).hexdigest()
        return _about(generated, "/key/generate", generated.hash == key_hash)

    async def key_info(self, key_hash: str) -> Key:
        """Read a key as stored; one that was deleted is still shown (`Key.deleted`)."""
        info = await self._get("/key/info", {"key": key_hash}, KeyInfo)
        try:
            stored = info.stored()
        except ValidationError:
            raise _unusable("/key/info", _OK) from None
        return _about(stored, "/key/info", stored.hash == key_hash)

    async def key_update(self, key_hash: str, **changes: Unpack[KeyChanges]) -> Key:
        """Change a key's fields, at once for calls made after it."""
        key = await self._post("/key/update", {"key": key_hash, **changes}, Key)
        return _about(key, "/key/update", key.hash == key_hash)

    async def key_delete(self, key_hash: str) -> None:
        """Delete a key."""
        await self._post("/key/delete", {"keys": [key_hash]}, DeletedKeys)

    async def probe(self) -> None:
        """Return where the proxy, our key and the proxy's database are up.

        It asks for a key that cannot exist: only the database can know that, while `/health/readiness` may
        say that all is well for a moment longer than it is.
        """
        try:
            await self._get("/key/info", {"key": secrets.token_hex(32)}, KeyInfo)
        except NotFound as error:
            if not error.says(_KEY_NOT_FOUND):
                raise Doubtful("/key/info", "an unknown kind of 404", status=error.status) from None

    async def _get(self, endpoint: str, query: Mapping[str, str], answer: type[_AnswerT]) -> _AnswerT:
        return await self._call(endpoint, answer, "GET", query=query)

    async def _post(self, endpoint: str, payload: Mapping[str, object], answer: type[_AnswerT]) -> _AnswerT:
        return await self._call(endpoint, answer, "POST", content=_encode(payload))

    async def _call(
        self,
        endpoint: str,
        answer: type[_AnswerT],
        method: str,
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> _AnswerT:
        request = self._http.build_request(
            method,
            endpoint,
            params=query,
            content=content,
            headers=None if content is None else {"Content-Type": "application/json"},
        )
        # No error is chained: what the libraries say may quote the address with its credentials, or the
        # answer.
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._exchange(endpoint, request)
        except (TimeoutError, httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            kind = type(error.__cause__ or error).__name__
            if surely_not_sent(error):
                self._observe(endpoint, "not_sent")
                raise NotSent(endpoint, f"cannot connect ({kind})") from None
            if is_timeout(error):
                self._observe(endpoint, "timeout")
                raise Doubtful(endpoint, f"no answer within {self._timeout_s:g} s") from None
            self._observe(endpoint, "disconnected")
            raise Doubtful(endpoint, f"the connection was lost ({kind})") from None
        self._observe(endpoint, str(response.status))
        body = _decode(response.body)
        if not httpx.codes.is_success(response.status):
            raise classify(
                endpoint, response.status, upstream_message(body), retry_after_s=response.retry_after_s
            )
        try:
            return answer.model_validate(body)
        except ValidationError:  # quotes the answer
            raise _unusable(endpoint, response.status) from None

    async def _exchange(self, endpoint: str, request: httpx.Request) -> _Response:
        response = await self._http.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > self._max_answer_bytes:
                    self._observe(endpoint, "too_large")
                    raise Doubtful(endpoint, "the answer is too large", status=response.status_code)
            return _Response(response.status_code, bytes(body), _seconds(response.headers.get("Retry-After")))
        finally:
            await response.aclose()

    def _observe(self, endpoint: str, status: str) -> None:
        if self._on_request is not None:
            self._on_request(endpoint, status)


def _seconds(retry_after: str | None) -> float | None:
    """Read a `Retry-After` in seconds; its other form, a date, is passed over."""
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None


def _encode(payload: Mapping[str, object]) -> bytes:
    return orjson.dumps(payload, default=_number)


def _number(value: object) -> object:
    """Write a decimal as the JSON number with the same digits."""
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(format(value, "f"))
    raise TypeError(f"{type(value).__name__} has no place in a request")


def _decode(body: bytes) -> object:
    """Read an answer; None where it is not JSON, as no answer is `null`."""
    try:
        value: object = jiter.from_json(body, allow_inf_nan=False, float_mode="decimal")
    except ValueError:
        return None
    return value


def _about(answer: _ValueT, endpoint: str, is_ours: bool) -> _ValueT:  # noqa: FBT001
    """Make sure that an answer is about what was asked for."""
    if not is_ours:
        raise _unusable(endpoint, _OK)
    return answer


def _unusable(endpoint: str, status: int) -> Doubtful:
    return Doubtful(endpoint, "the answer is not what this call answers", status=status)
