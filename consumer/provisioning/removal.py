"""Taking back from LiteLLM what our attempts made there, and nothing that anybody else uses."""

from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeVar

from consumer.litellm.client import LiteLLMClient
from consumer.litellm.errors import NotFound
from consumer.litellm.models import TeamInfo
from consumer.provisioning.comparison import used_by_others
from consumer.provisioning.marks import Mark
from storage.resources import Resource, ResourceKind, ResourceState

T = TypeVar("T")

DELETES: Final = frozenset({"/key/delete", "/team/member_delete", "/team/delete"})
"""The calls whose lost answer may be followed by their effect."""


class Removal(Enum):
    """How a removal ended."""

    ABSENT = auto()
    """It was not there."""
    REMOVED = auto()
    """It was there and is gone."""
    IN_USE = auto()
    """It is there, and not ours alone any more: it stays."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """By what a removal knows what is ours.

    Attributes:
        our_source: Our `source`.
        known_keys: Hashes of all keys that the database decided on for this organization.
        our_users: Users whose membership came with the team, or was made by our attempts.
    """

    our_source: str
    known_keys: AbstractSet[str]
    our_users: AbstractSet[str]


class Remover:
    """Removes resources one by one. A LiteLLM user is never removed: that would kill its keys in every team.

    Every method raises `LiteLLMError` where it cannot tell how it ended.

    Args:
        client: LiteLLM.
        cover_a_call: Renews the lease; called before every call.
    """

    def __init__(self, client: LiteLLMClient, cover_a_call: Callable[[], Awaitable[None]]) -> None:
        self._client = client
        self._cover_a_call = cover_a_call

    async def remove(self, resource: Resource, ownership: Ownership) -> Removal:
        """Remove one resource, unless others have come to use it."""
        match resource.kind:
            case ResourceKind.KEY:
                return await self._remove_key(resource.resource_id)
            case ResourceKind.MEMBER:
                return await self._remove_member(resource.org_id, resource.resource_id, ownership)
            case ResourceKind.TEAM:
                return await self._remove_team(resource, ownership)

    async def _remove_key(self, key_hash: str) -> Removal:
        # Asked first: LiteLLM answers this 404 only with its database up, so it says the truth.
        try:
            key = await self._call(lambda: self._client.key_info(key_hash))
        except NotFound:
            return Removal.ABSENT
        if key.deleted:
            return Removal.ABSENT
        await self._call(lambda: self._client.key_delete(key_hash))
        return Removal.REMOVED

    async def _remove_member(self, team_id: str, user_id: str, ownership: Ownership) -> Removal:
        info = await self._team(team_id)
        if info is None or not info.team.has_member(user_id):
            return Removal.ABSENT
        if any(key.user_id == user_id and key.hash not in ownership.known_keys for key in info.keys):
            return Removal.IN_USE  # its keys would die with the membership
        await self._gone(lambda: self._client.member_delete(team_id, user_id))
        return Removal.REMOVED

    async def _remove_team(self, resource: Resource, ownership: Ownership) -> Removal:
        info = await self._team(resource.resource_id)
        if info is None:
            return Removal.ABSENT
        mark = Mark.of(info.team.metadata)
        ours = mark is not None and mark.is_of(ownership.our_source, resource.org_id)
        if mark is not None and (not ours or mark.adopted or mark.key not in ownership.known_keys):
            return Removal.IN_USE
        if not ours and (resource.doubt_until is not None or resource.state is ResourceState.REMOVED):
            return Removal.IN_USE  # not known to be ours, or removed before, and nothing says that it is
        if used_by_others(info, our_users=ownership.our_users, our_keys=ownership.known_keys):
            return Removal.IN_USE
        await self._gone(lambda: self._client.team_delete(resource.resource_id))
        return Removal.REMOVED

    async def _team(self, team_id: str) -> TeamInfo | None:
        """Read a team; None where it surely is not there: without its database LiteLLM denies what exists."""
        try:
            return await self._call(lambda: self._client.team_info(team_id))
        except NotFound:
            await self._call(self._client.probe)
            return None

    async def _gone(self, delete: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._call(delete)
        except NotFound:
            await self._call(self._client.probe)

    async def _call(self, make: Callable[[], Awaitable[T]]) -> T:
        await self._cover_a_call()
        return await make()
