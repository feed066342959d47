"""A simulated world: the production service, any number of processes of it, over files, a broker and a proxy.

Nothing in it waits for real time, and nothing happens that the conductor does not let happen: the same seed
and the same plan give the same run, step by step.
"""

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import orjson
from aiokafka import ConsumerRebalanceListener
from cryptography.fernet import Fernet
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest.status import IngestStatus
from consumer.litellm.client import LiteLLMClient
from consumer.metrics import Metrics
from consumer.observer import Observer
from consumer.ports import Ports
from consumer.service import Service
from consumer.settings import IsolatedSettings, Settings
from storage.database import Database
from storage.virtual_keys import KeyVault
from tests.simulation.edges import Conductor, Edge
from tests.simulation.kafka import SimBroker, SimConsumer, SimProducer
from tests.simulation.litellm import MASTER_KEY, SimProxy, SimTransport
from tests.simulation.loop import PROCESS, SimLoop, SimProcess
from tests.simulation.sqlite import SimFile, inline_sqlite

BEGINNING = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE_S = 1800.0
"""Simulated seconds after which a world that does not come to rest counts as hung."""
LOOK_EVERY_S = 0.25
PARTITIONS = 2
GROUP = "quartermaster"

INBOUND = ("org.created", "user.joined", "job.completed")
OUTBOUND = ("provisioning.outcomes", "credits.outcomes", "quartermaster.dead-letters")


class Hung(Exception):  # noqa: N818 - says what happened
    """The world does not come to rest."""


@cache
def settings_of(changes: tuple[tuple[str, Any], ...] = ()) -> Settings:
    """The settings of every simulated process: short times, so that what waits comes to its end."""
    values: dict[str, Any] = {
        "litellm_url": "http://litellm.simulated",
        "litellm_master_key": MASTER_KEY,
        "key_encryption_key": Fernet.generate_key().decode(),
        "litellm_timeout_s": 2.0,
        "litellm_concurrency": 4,
        "retry_for": 60.0,
        "dependency_wait": 12.0,
        "shutdown_timeout": 10.0,
        "kafka_session_timeout": 6.0,
    }
    return IsolatedSettings(**(values | dict(changes)))


_compiled: dict[str, tuple[Any, Any]] = {}


def _compile_once(database: Database) -> None:
    """Share what compiled statements there are among all engines: most of a short life would go there."""
    for name in ("_writer", "_reader"):
        engine = getattr(database, name).sync_engine
        engine.dialect, engine._compiled_cache = _compiled.setdefault(
            name, (engine.dialect, engine._compiled_cache)
        )


class _SealedVault(KeyVault):
    """The production vault; encrypting a key is an edge."""

    def __init__(self, settings: Settings, process: SimProcess, conductor: Conductor) -> None:
        super().__init__(settings.fernet_keys)
        self._moment = partial(conductor.moment, process, "encryption")

    def encrypt(self, key: str) -> bytes:
        return self._moment(partial(super().encrypt, key))


@dataclass(frozen=True)
class _Kafka:
    world: "World"
    process: SimProcess
    edge: Edge

    async def missing_topics(self, names: Collection[str]) -> set[str]:
        return set(names) - set(self.world.broker.topics)

    def consumer(self, *, listener: ConsumerRebalanceListener) -> Any:
        broker, settings = self.world.broker, self.world.settings
        self.process.on_death.append(lambda: broker.abandon(self.process.name))
        return SimConsumer(
            broker,
            group_id=GROUP,
            topics=settings.inbound_topics,
            member=self.process.name,
            edge=self.edge,
            session_timeout_s=settings.kafka_session_timeout,
            listener=listener,
        )

    def producer(self) -> Any:
        return SimProducer(self.world.broker, edge=self.edge)


class World:
    """What surrounds the processes, and what an upstream team and an operator see of them."""

    def __init__(self, loop: SimLoop, folder: Path, template: Path, *, seed: int, **settings: Any) -> None:
        self.loop = loop
        self.random = random.Random(seed)
        self.settings = settings_of(tuple(sorted(settings.items())))
        self.path = folder / "quartermaster.db"
        for leftover in folder.glob("quartermaster.db*"):
            leftover.unlink()
        shutil.copyfile(template, self.path)
        self.file = SimFile()
        self.clock_offset_s = 0.0
        self.proxy = SimProxy(self.utc_now)
        self.broker = SimBroker(
            dict.fromkeys((*INBOUND, *OUTBOUND), PARTITIONS),
            clock_ms=lambda: int(self.utc_now().timestamp() * 1000),
            loop_time=loop.time,
        )
        self.conductor: Conductor
        self.processes: list[SimProcess] = []
        self.stops: dict[str, asyncio.Event] = {}
        self.ends: dict[str, asyncio.Task[None]] = {}
        self._eyes = sqlite3.connect(self.path, isolation_level=None)

    def utc_now(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.loop.now + self.clock_offset_s)

    # -- processes ----------------------------------------------------------------------------------------

    def start(self) -> SimProcess:
        """Start another instance."""
        process = SimProcess(f"instance-{len(self.processes) + 1}")
        self.processes.append(process)
        self.stops[process.name] = asyncio.Event()  # it may be told to stop before it takes its first step
        context = copy_context()
        context.run(PROCESS.set, process)
        self.ends[process.name] = self.loop.create_task(self._run(process), context=context)
        return process

    async def _run(self, process: SimProcess) -> None:
        edge: Edge = partial(self.conductor.edge, process)
        stop = self.stops[process.name]
        numbers = random.Random(f"{process.name} {self.random.random()}")

        async def clock(_tx: AsyncConnection) -> datetime:
            return await edge("clock", self.utc_now)

        database = await Database.connect(f"sqlite+aiosqlite:///{self.path}")
        _compile_once(database)
        transport = SimTransport(self.proxy, edge)
        http = httpx.AsyncClient(
            transport=transport,
            base_url="http://litellm.simulated",
            headers={"Authorization": f"Bearer {MASTER_KEY}"},
        )
        metrics, status = Metrics(CollectorRegistry()), IngestStatus()
        service = Service(
            self.settings,
            database,
            LiteLLMClient(http, timeout_s=self.settings.litellm_timeout_s),
            _SealedVault(self.settings, process, self.conductor),
            Ports(
                kafka=_Kafka(self, process, edge),
                clock=clock,
                monotonic=self.loop.time,
                random=numbers.random,
                token_bytes=numbers.randbytes,
                new_token=lambda: UUID(int=numbers.getrandbits(128)),
            ),
            metrics=metrics,
            ingest_status=status,
            observer=Observer(status, metrics, stopping=stop.is_set, monotonic=self.loop.time, clock=clock),
            breaker=True,
        )
        await service.run(stop)
        await database.close()

    async def stop(self, process: SimProcess) -> None:
        """Stop an instance as SIGTERM does, and wait for its end."""
        self.stops[process.name].set()
        await self.until(lambda: self.ends[process.name].done() or process.dead)

    @property
    def alive(self) -> list[SimProcess]:
        return [one for one in self.processes if not one.dead and not self.ends[one.name].done()]

    # -- upstream -----------------------------------------------------------------------------------------

    def publish(self, type_: str, id_: str, data: Mapping[str, Any], *, source: str = "/platform") -> None:
        """Put an event on its topic."""
        value = orjson.dumps(
            {
                "specversion": "1.0",
                "id": id_,
                "source": source,
                "type": type_,
                "time": "2026-03-01T12:00:00Z",
                "data": data,
            }
        )
        self.broker.produce(type_, value, key=str(data.get("org_id")).encode())

    # -- looking on ---------------------------------------------------------------------------------------

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a reader beside the processes sees: committed rows alone."""
        return self._eyes.execute(query).fetchall()

    def at_rest(self) -> bool:
        """Whether nothing is left to do: all read, decided, published, and nothing to be removed."""
        committed = self.broker.committed(GROUP)
        for topic in INBOUND:
            ends: dict[int, int] = {}
            for record in self.broker.log(topic):
                ends[record.partition] = record.offset + 1
            for partition, end in ends.items():
                if committed.get((topic, partition), 0) < end:
                    return False
        (left,) = self.rows(
            "select (select count(*) from inbox where state = 'waiting') + (select count(*) from outbox)"
            " + (select count(*) from litellm_resources where due_at is not null)"
            " + (select count(*) from organizations where waiting_jobs > 0)"
        )
        return bool(left[0] == 0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until the condition holds."""
        deadline = self.loop.now + PATIENCE_S
        while not condition():
            for end in self.ends.values():
                if end.done():
                    end.result()
            if self.loop.now > deadline:
                raise Hung(self.describe())
            await asyncio.sleep(LOOK_EVERY_S)

    async def rest(self) -> None:
        """Let time pass until nothing is left to do."""
        await self.until(self.at_rest)

    def describe(self) -> str:
        waiting = self.rows("select type, org_id, subject, reason, phase, due_at, attempts from inbox")
        outbox = self.rows("select count(*) from outbox")
        due = self.rows("select * from litellm_resources where due_at is not null")
        leases = self.rows("select scope, expires_at from leases where token is not null")
        return (
            f"at {self.loop.now:.1f} s: inbox {waiting}, outbox {outbox}, to be removed {due}, "
            f"leases {leases}, committed {self.broker.committed(GROUP)}, alive {self.alive}"
        )

    def close(self) -> None:
        self._eyes.close()


def simulate(loop: SimLoop, world: World, story: Callable[[World], Awaitable[None]]) -> None:
    """Run a story in a world to its end."""
    with inline_sqlite(world.file, lambda process: partial(world.conductor.edge, process)):
        loop.run_until_complete(story(world))
