"""The broker's side of a consumer group: eager rebalances, generations, session times, committed offsets."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka.errors import (
    IllegalGenerationError,
    KafkaConnectionError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import TopicPartition

from tests.simulation.kafka_link import later

NO_GENERATION = -1


class Joined(NamedTuple):
    """What a member learns when a rebalance is over."""

    member_id: str
    generation: int
    partitions: tuple[TopicPartition, ...]


@dataclass(slots=True)
class Member:
    """One member as the coordinator knows it."""

    id: str
    name: str
    topics: tuple[str, ...]
    session_timeout_s: float
    seen_at: float
    joining: "asyncio.Future[Joined] | None" = None
    partitions: tuple[TopicPartition, ...] = field(default=())


class Group:
    """The coordinator of one group.

    What is left out of Kafka's protocol: that the leader divides the partitions and could die meanwhile. Here
    the division comes with the end of the join.

    Args:
        partitions_of: How many partitions a topic has.
        now: The world's time, in seconds.
        on_change: Told of each commit that took effect.
    """

    def __init__(
        self,
        partitions_of: Callable[[str], int],
        *,
        now: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._partitions_of = partitions_of
        self._now = now
        self._on_change = on_change
        self._numbers = itertools.count(1)
        self._rebalance = 0  # numbers rebalances, so that a late timer knows it is late
        self.members: dict[str, Member] = {}
        self.generation = 0
        self.rebalancing = False
        self.committed: dict[TopicPartition, int] = {}

    # -- requests -----------------------------------------------------------------------------------------

    def join(
        self, member_id: str, name: str, topics: Sequence[str], session_timeout_s: float
    ) -> "asyncio.Future[Joined]":
        """Enter a member into the next generation; the future tells when all have come.

        Raises:
            UnknownMemberIdError: It was put out of the group meanwhile.
        """
        if member_id and member_id not in self.members:
            raise UnknownMemberIdError
        known = bool(member_id)
        if not known:
            member_id = f"{name}-{next(self._numbers):04d}"
            self.members[member_id] = Member(
                member_id, name, tuple(topics), session_timeout_s, seen_at=self._now()
            )
            self._watch(member_id)
        member = self.members[member_id]
        member.seen_at = self._now()
        answer: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()
        if known and not self.rebalancing:
            # It missed the answer to its last join.
            answer.set_result(Joined(member_id, self.generation, member.partitions))
            return answer
        member.joining = answer
        self._prepare()
        return answer

    def heartbeat(self, member_id: str, generation: int) -> None:
        """Take a sign of life.

        Raises:
            UnknownMemberIdError: No such member.
            IllegalGenerationError: The group has gone on without it.
            RebalanceInProgressError: It is to join again.
        """
        self._check(member_id, generation).seen_at = self._now()
        if self.rebalancing:
            raise RebalanceInProgressError

    def commit(self, member_id: str, generation: int, offsets: Mapping[TopicPartition, int]) -> None:
        """Enter offsets; also while the group rebalances, as long as the member's generation is the last.

        Raises:
            UnknownMemberIdError: No such member.
            IllegalGenerationError: The group has gone on without it.
        """
        # An empty group takes commits of anybody who claims no membership.
        if generation >= 0 or member_id or self.members:
            self._check(member_id, generation).seen_at = self._now()
        self.committed.update(offsets)
        self._on_change()

    def leave(self, member_id: str) -> None:
        """Put a member out; what it held is divided anew.

        Raises:
            UnknownMemberIdError: No such member.
        """
        if member_id not in self.members:
            raise UnknownMemberIdError
        self._remove(member_id)

    def _check(self, member_id: str, generation: int) -> Member:
        if member_id not in self.members:
            raise UnknownMemberIdError
        if generation != self.generation:
            raise IllegalGenerationError
        return self.members[member_id]

    # -- what happens by itself ---------------------------------------------------------------------------

    def expire(self, name: str) -> None:
        """End the sessions of the members of this name now, as if their time had run out."""
        for member_id in [one.id for one in self.members.values() if one.name == name]:
            self._remove(member_id)

    def rebalance(self) -> None:
        """Have all members join anew."""
        if self.members:
            self._prepare()

    def lose_connections(self) -> None:
        """Break off what members wait for; they stay members until their time runs out."""
        for member in self.members.values():
            _answer(member, KafkaConnectionError("Connection closed"))

    def _watch(self, member_id: str) -> None:
        member = self.members.get(member_id)
        if member is None:
            return
        if member.joining is not None:
            member.seen_at = self._now()  # waiting for the others is a sign of life
        left = member.seen_at + member.session_timeout_s - self._now()
        # A hair later, so that a rounded sum never finds itself a hair too early again and again.
        if left > 0:
            later(left + 1e-6, self._watch, member_id)
        else:
            self._remove(member_id)

    def _remove(self, member_id: str) -> None:
        member = self.members.pop(member_id)
        _answer(member, UnknownMemberIdError())
        if self.members:
            self._prepare()
        else:
            self.rebalancing = False
            self.generation += 1

    def _prepare(self) -> None:
        if not self.rebalancing:
            self.rebalancing = True
            self._rebalance += 1
            later(
                max(one.session_timeout_s for one in self.members.values()),
                self._go_on_without,
                self._rebalance,
            )
        if all(member.joining is not None for member in self.members.values()):
            self._complete()

    def _go_on_without(self, rebalance: int) -> None:
        """The time to join is up: whoever has not come is out."""
        if not self.rebalancing or rebalance != self._rebalance:
            return
        for member_id in [one.id for one in self.members.values() if one.joining is None]:
            del self.members[member_id]
        if self.members:
            self._complete()
        else:
            self.rebalancing = False
            self.generation += 1

    def _complete(self) -> None:
        self.rebalancing = False
        self.generation += 1
        divided = divide(self._partitions_of, self.members.values())
        for member in self.members.values():
            member.partitions = divided[member.id]
            member.seen_at = self._now()
            _answer(member, Joined(member.id, self.generation, member.partitions))


def _answer(member: Member, answer: Joined | KafkaError) -> None:
    waiting, member.joining = member.joining, None
    if waiting is None or waiting.done():
        return
    if isinstance(answer, Joined):
        waiting.set_result(answer)
    else:
        waiting.set_exception(answer)
        waiting.exception()  # whoever waited may be dead


def divide(
    partitions_of: Callable[[str], int], members: Iterable[Member]
) -> dict[str, tuple[TopicPartition, ...]]:
    """Deal the partitions out one by one, as aiokafka's round-robin assignor does."""
    by_id = {one.id: one for one in sorted(members, key=lambda one: one.id)}
    topics = sorted({topic for one in by_id.values() for topic in one.topics})
    dealt: dict[str, list[TopicPartition]] = {member_id: [] for member_id in by_id}
    turns = itertools.cycle(by_id.values())
    for topic in topics:
        for number in range(partitions_of(topic)):
            member = next(one for one in turns if topic in one.topics)
            dealt[member.id].append(TopicPartition(topic, number))
    return {member_id: tuple(partitions) for member_id, partitions in dealt.items()}
