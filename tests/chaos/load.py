"""What upstream sends while everything is being killed: valid, repeated, reordered, contradictory and broken.

A plan without a clock: `tick` after `tick` says what goes out next, and the same seed says the same.
"""

import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Any, Final

Headers = tuple[tuple[str, bytes], ...]

_SOURCE: Final = "/platform"
_CREDITS: Final = (0, 40, 250, 2_000, 1_000_000)
"""What organizations begin with: most have fewer credits than jobs."""
_TOO_LARGE: Final = 524_289
_REMEMBERED: Final = 2_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record to be sent, by the name its topic has in the contract."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is sent: organizations and users in all, spread over `ticks`, and jobs with every tick."""

    orgs: int = 40
    users: int = 60
    ghosts: int = 3
    ticks: int = 6_000
    jobs_a_tick: float = 2.5


class Load:
    """One run's load. `orgs`, `ghosts` and `users` are all that its events ever name."""

    def __init__(self, chance: Random, world: str, amount: Amount) -> None:
        self._chance = chance
        self._amount = amount
        self._numbers = count(1)
        self._order = count()
        self._due: list[tuple[int, int, Delivery]] = []
        self._tick = 0
        self._sent: list[Delivery] = []
        self._jobs: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.orgs = [f"org{n}-{world}" for n in range(amount.orgs)]
        self.ghosts = [f"ghost{n}-{world}" for n in range(amount.ghosts)]
        self._people = [f"user{n}-{world}" for n in range(amount.users * 3 // 4)]
        self._births = {org: self._birth(n) for n, org in enumerate(self.orgs)}
        self.users = {f"owner-{org}" for org in self.orgs} | {f"other-{org}" for org in self.orgs}
        self.users |= set(self._people)
        self._plan()

    @property
    def left(self) -> int:
        """How many planned deliveries are still to come."""
        return len(self._due)

    def tick(self) -> list[Delivery]:
        """What goes out now."""
        self._tick += 1
        self._open += [org for org in self.orgs if self._births[org] - 20 == self._tick]
        if self._tick < self._amount.ticks // 3:
            self._haunt()
        whole, rest = divmod(self._amount.jobs_a_tick, 1)
        for _ in range(int(whole) + (self._chance.random() < rest)):
            self._add_job()
        return [again for delivery in self._taken() for again in self._delivered(delivery)]

    def rest(self) -> list[Delivery]:
        """Everything that was planned for later, at once."""
        self._tick = max([self._tick, *(when for when, _, _ in self._due)])
        return [again for delivery in self._taken() for again in self._delivered(delivery)]

    # -- what is planned from the start ----------------------------------------------------------------------

    def _birth(self, number: int) -> int:
        if number < 3:
            return 30
        return 30 + int(self._chance.random() * self._amount.ticks * 0.85)

    def _plan(self) -> None:
        for org in self.orgs:
            self._create(org, self._births[org])
        for number in range(self._amount.users):
            org = self._chance.choice(self.orgs)
            # A few come before their organization, most after it.
            latest = max(self._births[org], int(self._amount.ticks * 0.95))
            when = self._chance.randint(self._births[org] - 20, latest)
            self._join(org, self._people[number % len(self._people)], when)

    def _create(self, org: str, when: int) -> None:
        data: dict[str, Any] = {
            "org_id": org,
            "name": f"The {org}",
            "owner_user_id": f"owner-{org}",
            "initial_credits": self._chance.choice(_CREDITS),
            "metadata": {"plan": "chaos"},
        }
        if self._chance.random() < 0.3:
            data["max_budget_usd"] = self._chance.choice(["25.00", "0.5", 100])
        id_ = self._send("org.created", data, when)
        if self._chance.random() < 0.3:  # once more under another id: another owner, other credits
            other = data | {"owner_user_id": f"other-{org}", "initial_credits": 7}
            self._send("org.created", other, when + self._chance.randint(0, 40))
        if self._chance.random() < 0.2:  # the same id, other data
            self._send("org.created", data | {"name": "Somebody else"}, when + 1, id_=id_)
        if self._chance.random() < 0.3:  # the owner's own joining, perhaps too early
            joined = {"org_id": org, "user_id": f"owner-{org}", "role": "admin"}
            self._send("user.joined", joined, when + self._chance.randint(-20, 60))

    def _join(self, org: str, user: str, when: int) -> None:
        data: dict[str, Any] = {"org_id": org, "user_id": user}
        if self._chance.random() < 0.5:
            data["email"] = f"{user}@example.org"
        if self._chance.random() < 0.2:
            data["max_budget_usd"] = "3.50"
        id_ = self._send("user.joined", data, when)
        if self._chance.random() < 0.3:
            self._send("user.joined", data | {"role": "admin"}, when + self._chance.randint(0, 30))
        if self._chance.random() < 0.1:
            self._send("user.joined", data | {"role": "admin"}, when + 5, id_=id_)

    def _haunt(self) -> None:
        """Ask for something in an organization that never comes."""
        if self.ghosts and self._chance.random() < 0.02:
            ghost = self._chance.choice(self.ghosts)
            if self._chance.random() < 0.2:
                user = self._chance.choice(self._people)
                self._send("user.joined", {"org_id": ghost, "user_id": user}, self._tick)
            else:
                self._send("job.completed", self._job(ghost, f"job{next(self._numbers)}"), self._tick)

    # -- jobs ------------------------------------------------------------------------------------------------

    def _add_job(self) -> None:
        if not self._open:
            return
        org = self._chance.choice(self._open)
        kind = self._chance.random()
        if kind < 0.05 and self._jobs:  # a job that was named before, under another id
            org, job = self._chance.choice(self._jobs)
            self._send("job.completed", self._job(org, job), self._tick)
            return
        job = f"job{next(self._numbers)}"
        self._jobs = [*self._jobs[-_REMEMBERED:], (org, job)]
        data = self._job(org, job)
        id_ = self._send("job.completed", data, self._tick)
        if kind < 0.07:  # the same id, other data
            later = self._tick + self._chance.randint(0, 20)
            self._send("job.completed", data | {"job_type": "other"}, later, id_=id_)
        elif kind < 0.10:
            self._put(self._bad(org), self._tick)

    def _job(self, org: str, job: str) -> dict[str, Any]:
        status = self._chance.choices(["completed", "failed", "cancelled"], [80, 12, 8])[0]
        data: dict[str, Any] = {"org_id": org, "job_id": job, "status": status}
        if self._chance.random() < 0.5:
            calls = self._chance.randint(0, 50)
            data["usage"] = {
                "total_calls": calls,
                "total_tokens": calls * 321,
                "total_cost_usd": f"{calls}.0050",
                "avg_latency_ms": self._chance.choice([12, 12.50, 0.125]),
            }
            data["user_id"] = self._chance.choice(self._people)
            data["completed_at"] = "2026-03-01T11:59:58.5+01:00"
        return data

    def _bad(self, org: str) -> Delivery:
        number = next(self._numbers)
        topic = self._chance.choice(["org.created", "user.joined", "job.completed"])
        job = {"org_id": org, "job_id": f"job{number}", "status": "completed"}
        values: list[bytes | None] = [
            b"{",
            b"\xff\xfe",
            b'{"specversion": "1.0", "specversion": "1.0"}',
            b"[]",
            _envelope("job.completed", f"e{number}", job | {"status": "lost"}),
            _envelope("job.completed", f"e{number}", job | {"credits": 5}),
            _envelope("job.completed", "", job),
            _envelope("job.unheard_of", f"e{number}", job),
            None,
        ]
        if number % 50 == 0:
            values = [b"x" * _TOO_LARGE]
        headers: Headers = (("qm-reason", b"mine"), ("trace", b"1"), ("trace", b"2"))
        return Delivery(topic, org.encode(), self._chance.choice(values), headers)

    # -- how it is sent --------------------------------------------------------------------------------------

    def _send(self, type_: str, data: Mapping[str, Any], when: int, *, id_: str | None = None) -> str:
        id_ = id_ or f"e{next(self._numbers)}"
        key: bytes | None = str(data["org_id"]).encode()
        if self._chance.random() < 0.03:  # the key decides nothing
            key = self._chance.choice([None, b"whatever"])
        # A type may come on any of the topics.
        topic = type_ if self._chance.random() < 0.98 else "job.completed"
        if self._chance.random() < 0.2:
            names = {"specversion": "1.0", "id": id_, "source": _SOURCE, "type": type_}
            headers = tuple((f"ce_{name}", text.encode()) for name, text in names.items())
            self._put(Delivery(topic, key, json.dumps(data).encode(), headers), when)
        else:
            self._put(Delivery(topic, key, _envelope(type_, id_, data)), when)
        return id_

    def _put(self, delivery: Delivery, when: int) -> None:
        heapq.heappush(self._due, (when, next(self._order), delivery))

    def _taken(self) -> Iterator[Delivery]:
        while self._due and self._due[0][0] <= self._tick:
            yield heapq.heappop(self._due)[2]

    def _delivered(self, delivery: Delivery) -> Iterator[Delivery]:
        """Once at least, perhaps more often, and perhaps together with something sent long ago."""
        for _ in range(self._chance.choices([1, 2, 3], [85, 11, 4])[0]):
            yield delivery
        self._sent.append(delivery)
        if len(self._sent) > _REMEMBERED:
            self._sent.pop(self._chance.randrange(len(self._sent)))
        if self._chance.random() < 0.08:
            yield replace(self._chance.choice(self._sent))


def _envelope(type_: str, id_: str, data: Mapping[str, Any]) -> bytes:
    envelope = {"specversion": "1.0", "id": id_, "source": _SOURCE, "type": type_, "data": data}
    return json.dumps(envelope | {"time": "2026-03-01T12:00:00Z", "correlationid": f"c-{id_}"}).encode()
