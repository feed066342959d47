"""The client's side of a consumer group: joining, heartbeats, and finding out that the group went on."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import TopicPartition

from producers.completion import look_at
from tests.simulation.kafka_group import NO_GENERATION, Group, Joined
from tests.simulation.kafka_link import RETRY_BACKOFF_S, Bell, Link, Request


class Membership:
    """One member's coordinator, as aiokafka runs one beside each consumer.

    Its heartbeats belong to its process: a frozen one sends none, and learns of its expulsion when it wakes.

    Args:
        group: The group.
        link: The way to the broker.
        name: What the member is called.
        topics: What it wants to read.
        session_timeout_s: Seconds without a heartbeat until the group gives its partitions away.
        on_revoked: Told before it joins anew: nothing is handed out until `on_assigned`.
        on_assigned: Told what is its own from now on.
        bell: Rung when the consumer is to look again.
    """

    def __init__(
        self,
        group: Callable[[], Group],
        link: Link,
        *,
        name: str,
        topics: Sequence[str],
        session_timeout_s: float,
        on_revoked: Callable[[], None],
        on_assigned: Callable[[tuple[TopicPartition, ...]], None],
        bell: Bell,
    ) -> None:
        self._group = group
        self._link = link
        self._name = name
        self._topics = tuple(topics)
        self._session_timeout_s = session_timeout_s
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned
        self._bell = bell
        self.generation = NO_GENERATION
        self.member_id = ""
        self._rejoin = True
        self._closing = False
        self._news = Bell()
        self._error: KafkaError | None = None
        self._commit_lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(look_at)

    async def close(self) -> None:
        """Finish what is under way, and leave the group."""
        if self._closing:
            return
        self._closing = True
        self._news.ring()
        if self._task is not None:
            await asyncio.wait([self._task])
        if self.generation > 0:
            member_id = self.member_id
            # Tried once, as aiokafka does; otherwise the session runs out by itself.
            with contextlib.suppress(KafkaError):
                await self._link.ask(Request.LEAVE, lambda: self._group().leave(member_id))
        self._reset()

    def check_errors(self) -> None:
        """Raise what the user of the consumer has to know.

        Raises:
            KafkaError: The group refuses us for good.
        """
        error, self._error = self._error, None
        if error is not None:
            self._news.ring()
            raise error

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit, and try again for as long as it may still succeed.

        Raises:
            CommitFailedError: The group has gone on without us.
            KafkaError: The broker refuses it.
        """
        while True:
            try:
                async with self._commit_lock:
                    # A commit that was sent stays sent, whoever waits for its answer no more.
                    sent = asyncio.ensure_future(self._commit(offsets))
                    sent.add_done_callback(look_at)
                    await asyncio.shield(sent)
            except (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError) as error:
                raise CommitFailedError from error
            except KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(RETRY_BACKOFF_S)
            else:
                return

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if not offsets:
            return
        member_id, generation = self.member_id, self.generation
        try:
            await self._link.ask(
                Request.COMMIT,
                lambda: self._group().commit(member_id, generation, offsets),
                about=offsets,
            )
        except (UnknownMemberIdError, IllegalGenerationError):
            self._reset()
            raise
        except RebalanceInProgressError:
            self._request_rejoin()
            raise

    # -- the coordination routine -------------------------------------------------------------------------

    async def _run(self) -> None:
        interval_s = self._session_timeout_s / 3
        pause_s = interval_s
        while not self._closing:
            try:
                if self._rejoin:
                    self._on_revoked()
                    if not await self._join():
                        await self._news.wait(RETRY_BACKOFF_S)
                    pause_s = interval_s
                    continue
                await self._news.wait(pause_s)
                if self._is_member():
                    pause_s = interval_s if await self._heartbeat() else RETRY_BACKOFF_S
            except KafkaError as error:
                self._error = error
                self._bell.ring()
                while self._error is not None and not self._closing:
                    await self._news.wait()

    def _is_member(self) -> bool:
        return not self._closing and not self._rejoin

    async def _join(self) -> bool:
        member_id = self.member_id
        try:
            answer: asyncio.Future[Joined] = await self._link.ask(
                Request.JOIN,
                lambda: self._group().join(member_id, self._name, self._topics, self._session_timeout_s),
            )
            joined = await answer
        except UnknownMemberIdError:
            self._reset()
            return False
        except GroupAuthorizationFailedError:
            raise
        except KafkaError:
            return False
        self.member_id, self.generation, partitions = joined
        self._rejoin = False
        self._on_assigned(partitions)
        self._bell.ring()
        return True

    async def _heartbeat(self) -> bool:
        member_id, generation = self.member_id, self.generation
        try:
            await self._link.ask(Request.HEARTBEAT, lambda: self._group().heartbeat(member_id, generation))
        except RebalanceInProgressError:
            self._request_rejoin()
        except (UnknownMemberIdError, IllegalGenerationError):
            self._reset()
        except GroupAuthorizationFailedError:
            raise
        except KafkaError:
            return False
        return True

    def _reset(self) -> None:
        self.generation = NO_GENERATION
        self.member_id = ""
        self._request_rejoin()

    def _request_rejoin(self) -> None:
        self._rejoin = True
        self._news.ring()
