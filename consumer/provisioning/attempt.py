# ruff: noqa: N818 - the classes are named by what they tell the caller
"""One attempt's means: calls to LiteLLM within the lease, and intents written down before them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from consumer.litellm.client import LiteLLMClient
from consumer.litellm.errors import LiteLLMError
from consumer.provisioning.failures import Step
from consumer.provisioning.footprint import Footprint
from consumer.provisioning.policy import ProvisionerPolicy

T = TypeVar("T")


class Stopping(Exception):
    """The process is to end: no further call is begun."""


class Lease(Protocol):
    """What an attempt asks of the lease it works under."""

    async def cover_a_call(self) -> None:
        """Renew the lease unless it outlasts a call begun now.

        Raises:
            LeaseLost: Somebody else has it.
        """


@dataclass(slots=True)
class KeyIntent:
    """A key decided on and stored before LiteLLM hears of it.

    Attributes:
        key: In clear; secret.
        hash: LiteLLM's id of it.
        alias: Its name at LiteLLM.
        generation: Counts the keys of this user, organization and name.
        footprint: What this attempt does to it.
    """

    key: str = field(repr=False)
    hash: str
    alias: str
    generation: int
    footprint: Footprint


class Intents(Protocol):
    """Writes down what an attempt finds that it has to make besides what it set out with."""

    async def intend_anew(self, footprint: Footprint) -> None:
        """Write down that what others had, and is gone, may be made by this attempt."""

    async def intend_member(self, user_id: str) -> Footprint:
        """Write down a membership that surely is not there."""

    async def member_left(self, user_id: str) -> Footprint | None:
        """Take over a membership that earlier attempts made or may have made; None where there is none."""

    async def intend_leaving(self, user_id: str) -> None:
        """Write down that a member is taken out: joining again waits until no such call can come late."""

    async def intend_next_key(self, user_id: str) -> KeyIntent:
        """Write down a key of the next generation."""


@dataclass(slots=True)
class Attempt:
    """One try of one event against LiteLLM.

    Attributes:
        client: LiteLLM.
        lease: Covers every call.
        intents: For what turns out to be needed on the way.
        policy: The settings.
        stopping: Whether the process is to end.
        monotonic: A clock in seconds.
        step: What is being done, for the outcome of a failure.
        called: Whether LiteLLM has been called.
    """

    client: LiteLLMClient
    lease: Lease
    intents: Intents
    policy: ProvisionerPolicy
    stopping: asyncio.Event
    monotonic: Callable[[], float]
    step: Step = Step.ORGANIZATION
    called: bool = False

    async def call(
        self,
        make: Callable[[], Awaitable[T]],
        *,
        makes: Footprint | None = None,
        changes: Footprint | None = None,
    ) -> T:
        """Make one call.

        Guarantees: its timeout ends before the lease does; where it may make a resource, the footprint says
        what became of that, whatever the end.

        Args:
            make: Makes the call.
            makes: The resource that the call makes.
            changes: A resource that the call changes, and that must not be changed once it is removed.

        Raises:
            Stopping: The process is to end; nothing was sent.
            LeaseLost: Nothing was sent.
            LiteLLMError: As the call ended.
        """
        if self.stopping.is_set():
            raise Stopping
        await self.lease.cover_a_call()
        self.called = True
        reach = self.policy.litellm_timeout + self.policy.doubt_margin
        settled_by = self.monotonic() + reach.total_seconds()
        if changes is not None:
            return await _change(make, changes, settled_by)
        if makes is None:
            return await make()
        fate, settles_at = makes.fate, makes.settles_at
        makes.doubted(settled_by)
        try:
            answer = await make()
        except LiteLLMError as error:
            if not error.may_have_applied:
                makes.fate, makes.settles_at = fate, settles_at
            raise
        makes.made()
        return answer


async def _change(make: Callable[[], Awaitable[T]], changes: Footprint, settled_by: float) -> T:
    before, changes.changes_until = changes.changes_until, settled_by
    try:
        answer = await make()
    except LiteLLMError as error:
        if not error.may_have_applied:
            changes.changes_until = before
        raise
    changes.changes_until = before
    return answer
