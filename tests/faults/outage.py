"""An outage under load: what the service says meanwhile, how soon it is over it, and what it left behind.

The load publishes jobs, new organizations and new users without a pause; a watch asks `/readyz` four times a
second. What is measured ends up in the table at the end of the test run.
"""

import asyncio
import contextlib
import json
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from sqlalchemy import func, select

from consumer.standin import StandIn
from producers.kafka_client import KafkaConnection, KafkaUnreachable, discard, make_producer, start_producer
from storage import inbox, outbox
from storage.database import Database, DatabaseUnavailable
from storage.tables import outcomes
from tests.checker.check import check
from tests.checker.collect import collect
from tests.checker.history import Policy
from tests.e2e.world import INBOUND, OUTBOUND, Service, World, event, eventually

SECONDS: Final = float(os.environ.get("QM_TEST_OUTAGE_S", "12"))
"""How long an outage lasts: short where nothing else is asked for, `QM_TEST_OUTAGE_S=60` for proof."""
SEED: Final = int(os.environ.get("QM_TEST_SEED", "1"))
CATCH_UP_S: Final = 60.0
"""How long after an outage everything that came meanwhile may take."""
MEMORY_MB: Final = 60
"""How much an outage may cost: a batch is held, not a queue. At ten times the load it would be the same."""

SUBJECTS: Final = 5
"""What an instance may be unready for at a time: database, broker, group, reading, publishing."""

_JOBS_A_ROUND: Final = 5
_ROUND_S: Final = 0.1
_ROUNDS_A_FOUNDING: Final = 20
_LOOK_EVERY_S: Final = 0.25
_AGAIN_AFTER_S: Final = 0.5


class ReplicatedWorld(World):
    """A world on a cluster: its topics outlive a broker."""

    replicas = 3


class Upstream:
    """Publishes each record until the brokers have acknowledged it, as a careful upstream does.

    After an outage a broker may refuse all that an idempotent producer sends: it misses a batch it never saw.
    Whatever fails, the next try is another producer's.
    """

    def __init__(self, kafka: str) -> None:
        self._connection = KafkaConnection(bootstrap_servers=kafka)
        self._producer: AIOKafkaProducer | None = None
        self._turn = asyncio.Lock()

    async def send(self, topic: str, value: bytes, key: bytes) -> None:
        while True:
            producer: AIOKafkaProducer | None = None
            try:
                producer = await self._started()
                await producer.send_and_wait(topic, value, key=key)
            except (KafkaError, KafkaUnreachable):
                await self._give_up(producer)
                await asyncio.sleep(_AGAIN_AFTER_S)  # upstream keeps its events until they are acknowledged
            else:
                return

    async def close(self) -> None:
        """Leave no connection behind, also where no broker answers."""
        await self._give_up(self._producer)

    async def _started(self) -> AIOKafkaProducer:
        async with self._turn:
            if self._producer is None:
                producer = make_producer(self._connection)
                await start_producer(producer)
                self._producer = producer
            return self._producer

    async def _give_up(self, producer: AIOKafkaProducer | None) -> None:
        if producer is not None and producer is self._producer:
            self._producer = None
            await discard(producer)


class Load:
    """Publishes for as long as it is open; every event counts that the brokers have acknowledged."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = random.Random(SEED)
        self.orgs: list[str] = []
        self.users: list[str] = []
        self.acknowledged = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._upstream = Upstream(world.kafka)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        publishing = asyncio.ensure_future(self._publish())
        try:
            yield self
            publishing.cancel()
            if self._under_way:
                sent, late = await asyncio.wait(self._under_way, timeout=CATCH_UP_S)
                assert not late, f"the brokers do not acknowledge {len(late)} events"
                await asyncio.gather(*sent)
        finally:
            ending = [publishing, *self._under_way]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            await self._upstream.close()

    async def _publish(self) -> None:
        for _ in range(4):
            self._found()
        round_ = 0
        while True:
            round_ += 1
            if round_ % _ROUNDS_A_FOUNDING == 0:
                self._found()
                self._join()
            for _ in range(_JOBS_A_ROUND):
                status = self._random.choice(("completed",) * 9 + ("failed",))
                self._send(
                    "job.completed",
                    {"org_id": self._some_org(), "job_id": uuid.uuid4().hex, "status": status},
                )
            await asyncio.sleep(_ROUND_S)  # the rate of the load

    def _some_org(self) -> str:
        return self._random.choice(self.orgs)

    def _found(self) -> None:
        org = self._world.org(f"o{len(self.orgs)}")
        self.orgs.append(org)
        self.users.append(f"{org}-owner")
        # Every third one runs out of credits.
        credits_ = 20 if len(self.orgs) % 3 == 0 else 100_000
        self._send(
            "org.created",
            {"org_id": org, "name": org, "owner_user_id": f"{org}-owner", "initial_credits": credits_},
        )

    def _join(self) -> None:
        org = self._some_org()
        user = f"{org}-u{len(self.users)}"
        self.users.append(user)
        self._send("user.joined", {"org_id": org, "user_id": user})

    def _send(self, type_: str, data: Mapping[str, Any]) -> None:
        value = event(type_, data, id_=uuid.uuid4().hex)
        task = asyncio.ensure_future(self._deliver(type_, value, str(data["org_id"])))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _deliver(self, type_: str, value: bytes, key: str) -> None:
        await self._upstream.send(self._world.topics[type_], value, key.encode())
        self.acknowledged += 1


@dataclass(slots=True)
class Watch:
    """What `/readyz` said, and how much memory the process took."""

    service: Service
    told: list[tuple[float, list[str]]] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Watch"]:
        async with httpx.AsyncClient(timeout=5) as client:
            looking = asyncio.ensure_future(self._look(client))
            try:
                yield self
            finally:
                looking.cancel()
                failed = (await asyncio.gather(looking, return_exceptions=True))[0]
                assert isinstance(failed, asyncio.CancelledError), failed

    async def _look(self, client: httpx.AsyncClient) -> None:
        while True:
            try:
                answer = await client.get(f"{self.service.http}/readyz")
            except httpx.TimeoutException:
                continue  # a machine that has too much to do; who is gone for good is found out
            reasons = answer.json()["reasons"]
            if not self.told or self.told[-1][1] != reasons:
                self.told.append((time.monotonic(), reasons))
            self.memory_mb.append(_memory_mb(self.service.process.pid))
            await asyncio.sleep(_LOOK_EVERY_S)  # between two questions to another process

    def reasons_between(self, begun: float, ended: float) -> list[tuple[float, str]]:
        """What was said against readiness, each reason when it was said first; numbers left out."""
        first: dict[str, float] = {}
        for at, reasons in self.told:
            for reason in reasons:
                if begun <= at <= ended:
                    first.setdefault(_without_numbers(reason), at - begun)
        return sorted((at, reason) for reason, at in first.items())

    @property
    def is_ready(self) -> bool:
        return bool(self.told) and not self.told[-1][1]


def _without_numbers(reason: str) -> str:
    return " ".join("N" if word.isdecimal() else word for word in reason.split())


def _memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What an outage did, measured from its beginning or from its end."""

    outage: str
    seconds: float
    unready_after: float | None
    reasons: list[str]
    ready_after: float | None
    log: Counter[str]
    came_meanwhile: int
    caught_up_after: float
    memory_mb: float
    events: int
    logged_for: float
    """Over how long the log's lines were counted: the outage, the way back and the catching up."""

    @property
    def ours(self) -> Mapping[str, int]:
        """The log's lines of our own, without those that tell of one event or one batch each."""
        return {
            said: count
            for said, count in self.log.items()
            if not said.startswith("of ") and said not in {"provisioning_try_failed", "lease_lost"}
        }

    def row(self) -> str:
        def told(seconds: float | None) -> str:
            return "never" if seconds is None else f"{seconds:.1f} s"

        return " | ".join(
            (
                self.outage,
                f"{self.seconds:.0f} s",
                told(self.unready_after),
                "; ".join(self.reasons) or "-",
                "-" if self.unready_after is None else told(self.ready_after),
                f"{sum(self.log.values())} ({', '.join(f'{n} {e}' for e, n in sorted(self.log.items()))})",
                f"{self.came_meanwhile} in {self.caught_up_after:.1f} s",
                f"{self.memory_mb:+.0f} MB",
            )
        )

    HEAD: ClassVar = (
        "outage | lasted | unready after | saying | ready again after | log lines | caught up | memory"
    )


async def suffer(
    world: World,
    service: Service,
    outage: str,
    begin: Callable[[], Awaitable[None]],
    end: Callable[[], Awaitable[None]],
    *,
    seconds: float = SECONDS,
    settle: float = 5.0,
    catch_up: float = CATCH_UP_S,
    policy: Mapping[str, Any] | None = None,
) -> Report:
    """Run the load, have the outage, wait until all is caught up, and have the checker look at it.

    Returns:
        What was measured. That nothing is lost, doubled or left behind has been asserted.
    """
    database: Database | None = None
    async with Load(world).running() as load, Watch(service).running() as watch:
        await asyncio.sleep(settle)  # the load's own time before the outage
        begun, lines = time.monotonic(), _log_lines(service)
        before = load.acknowledged
        memory = max(watch.memory_mb)
        await begin()
        try:
            await asyncio.sleep(max(0.0, begun + seconds - time.monotonic()))  # the outage's own time
        finally:
            at_end = time.monotonic()
            await end()
        ended = time.monotonic()
        during = watch.reasons_between(begun, ended)
        memory = max(watch.memory_mb) - memory
        meanwhile = load.acknowledged - before
        marked = load.acknowledged

        database = await _reach(world.database_url)
        try:
            await _decided(database, marked, patience=catch_up)
            caught_up = time.monotonic() - ended
            await eventually(_value(lambda: watch.is_ready), bool, what="ready again", patience=catch_up)
        except BaseException:
            await database.close()
            raise
        ready_at = watch.told[-1][0]
        log, logged_for = Counter(_log_events(service)[lines:]), time.monotonic() - begun
    assert service.process.returncode is None, service.log.read_text()[-3000:]
    unready = [at for at, _ in during]
    report = Report(
        outage=outage,
        seconds=at_end - begun,
        unready_after=min(unready, default=None),
        reasons=[reason for _, reason in during],
        ready_after=ready_at - ended if ready_at > ended else 0.0,
        log=log,
        came_meanwhile=meanwhile,
        caught_up_after=caught_up,
        memory_mb=memory,
        events=load.acknowledged,
        logged_for=logged_for,
    )
    try:
        await _decided(database, load.acknowledged, patience=catch_up)
        await _nothing_left(database, patience=catch_up)
        violations = await _verdict(world, database, load, policy or {})
    finally:
        await database.close()
    assert violations == [], (violations[:20], report.row())
    return report


Tell = Callable[[Report], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Put a report in the table at the end of the run, and judge what every outage has in common."""

    def judge(report: Report) -> None:
        record_property("outage", report.row())
        assert report.memory_mb < MEMORY_MB, "memory grows: something queues"
        # Unready is said of each thing that makes it so: the database, or a standstill that comes of it.
        said = Counter(report.ours)
        assert said.pop("not_ready", 0) <= SUBJECTS, "unready is said again and again"
        assert max(said.values(), default=0) <= 2, "the log repeats itself"
        assert sum(report.log.values()) <= 20 + report.logged_for / 5, "the log is flooded"

    return judge


@pytest.fixture
async def standin() -> AsyncIterator[StandIn]:
    async with StandIn() as one:
        yield one


def _value(look: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    async def later() -> Any:
        return look()

    return later


async def _reach(url: str) -> Database:
    async with asyncio.timeout(CATCH_UP_S):
        while True:
            try:
                return await Database.connect(url, pool_size=2)
            except DatabaseUnavailable:
                await asyncio.sleep(0.2)  # between two tries to connect


async def _decided(database: Database, count: int, *, patience: float) -> None:
    async def look() -> tuple[int, object]:
        try:
            async with database.reading() as tx:
                query = select(func.count()).where(outcomes.c.cause_identity.is_not(None))
                return await tx.scalar(query) or 0, await inbox.waiting_summary(tx)
        except DatabaseUnavailable:
            return -1, "no database"

    await eventually(look, lambda n: n[0] >= count, what=f"{count} events have outcomes", patience=patience)


async def _nothing_left(database: Database, *, patience: float) -> None:
    async def look() -> tuple[int, int]:
        async with database.reading() as tx:
            waiting = sum(one.count for one in await inbox.waiting_summary(tx))
            return waiting, await outbox.count_pending(tx)

    await eventually(look, lambda left: left == (0, 0), what="nothing waits any more", patience=patience)


async def _verdict(
    world: World, database: Database, load: Load, policy: Mapping[str, Any]
) -> Collection[object]:
    headers = {"Authorization": f"Bearer {world.settings['QM_LITELLM_MASTER_KEY']}"}
    url = world.settings["QM_LITELLM_URL"]
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as litellm:
        history = await collect(
            kafka=world.kafka,
            inbound=[world.topics[name] for name in INBOUND],
            outbound=[world.topics[name] for name in OUTBOUND],
            database=database,
            litellm=litellm,
            orgs=load.orgs,
            users=load.users,
        )
    assert len(history.published) >= load.acknowledged
    return check(
        history,
        policy=Policy(
            provisioning_topic=world.topics["provisioning.outcomes"],
            credits_topic=world.topics["credits.outcomes"],
            dead_letter_topic=world.topics["quartermaster.dead-letters"],
            source=world.settings["QM_SOURCE"],
            **policy,
        ),
    )


def _log_lines(service: Service) -> int:
    return len(service.log.read_text().splitlines())


def _log_events(service: Service) -> list[str]:
    """The log's lines by what they say: our own event, or the library that speaks."""
    found = []
    for line in service.log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            found.append("no JSON")
            continue
        if str(entry.get("logger", "")).startswith(("consumer", "producers", "storage")):
            # What is held up by two things says so of each: of Kafka, and of a topic that has no leader yet.
            about = entry.get("by", entry.get("after"))
            found.append(str(entry["event"]) if about is None else f"{entry['event']}: {about}")
        else:
            found.append(f"of {entry.get('logger')}")
    return found
