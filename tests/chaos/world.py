"""Topics, a database, a fleet of instances and a stream of events of one run's own."""

import asyncio
import contextlib
import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, Self

import httpx
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from cryptography.fernet import Fernet
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from storage import outbox, virtual_keys
from storage.database import Database, DatabaseUnavailable
from storage.tables import identities, inbox, litellm_resources
from storage.tables import virtual_keys as key_rows
from tests.chaos.instances import Fleet
from tests.chaos.load import Delivery, Load
from tests.checker.collect import collect
from tests.checker.history import History, Policy
from tests.parts.kafka import create_topics

INBOUND: Final = ("org.created", "user.joined", "job.completed")
OUTBOUND: Final = ("provisioning.outcomes", "credits.outcomes", "quartermaster.dead-letters")
SESSION_TIMEOUT_S: Final = 6
"""The shortest that brokers take: the dead are noticed soon."""
TICK_S: Final = 0.1
_PARTITIONS: Final = 6
_LOOK_S: Final = 0.1
_READ_EVERY: Final = 10


@dataclass(frozen=True, slots=True)
class Glance:
    """What was in hand at one moment: how many events are known, wait, are not published, not yet read."""

    taken: int = 0
    waiting: int = 0
    unpublished: int = 0
    unread: int = 0

    @property
    def in_hand(self) -> bool:
        return bool(self.waiting or self.unpublished or self.unread)


class World:
    """Everything of one run; make it with `opened`."""

    def __init__(
        self,
        *,
        kafka: str,
        database_url: str,
        database: Database,
        litellm: httpx.AsyncClient,
        litellm_key: str,
        folder: Path,
        load: Load,
        name: str,
        settings: Mapping[str, str],
    ) -> None:
        self.kafka = kafka
        self.folder = folder
        self.load = load
        self.group = f"qm-{name}"
        self.topics = {topic: f"{topic}.{name}" for topic in (*INBOUND, *OUTBOUND)}
        self.delivered: Counter[str] = Counter()
        self.glance = Glance()
        self._ends: dict[TopicPartition, int] = {}
        self._database = database
        self._litellm = litellm
        self._source = f"/quartermaster/{name}"
        self._fernet = Fernet.generate_key().decode()
        self._litellm_key = litellm_key
        self._settings = {
            "QM_KAFKA_BOOTSTRAP_SERVERS": kafka,
            "QM_KAFKA_GROUP_ID": self.group,
            "QM_KAFKA_SESSION_TIMEOUT": str(SESSION_TIMEOUT_S),
            "QM_DATABASE_URL": database_url,
            "QM_LITELLM_URL": str(litellm.base_url).rstrip("/"),
            "QM_LITELLM_MASTER_KEY": litellm_key,
            "QM_KEY_ENCRYPTION_KEY": self._fernet,
            "QM_SOURCE": self._source,
            "QM_HTTP_PORT": "0",
            "QM_LOG_FORMAT": "json",
        } | {
            f"QM_TOPIC_{topic.removeprefix('quartermaster.').upper()}".replace(".", "_").replace(
                "-", "_"
            ): full
            for topic, full in self.topics.items()
        }
        self._settings |= settings
        self.fleet = Fleet(folder, self._settings)
        self._admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=kafka, acks="all", enable_idempotence=True, linger_ms=5, max_request_size=2**20
        )

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls,
        *,
        kafka: str,
        database_url: str,
        litellm_url: str,
        litellm_key: str,
        folder: Path,
        load: Load,
        name: str,
        settings: Mapping[str, str],
    ) -> AsyncIterator[Self]:
        """Everything in place and nothing running; in the end nothing is left running."""
        headers = {"Authorization": f"Bearer {litellm_key}"}
        # LiteLLM drops idle connections after 5 s.
        limits = httpx.Limits(keepalive_expiry=3)
        async with httpx.AsyncClient(
            base_url=litellm_url, headers=headers, timeout=60, limits=limits
        ) as litellm:
            database = await Database.connect(database_url, pool_size=3)
            world = cls(
                kafka=kafka,
                database_url=database_url,
                database=database,
                litellm=litellm,
                litellm_key=litellm_key,
                folder=folder,
                load=load,
                name=name,
                settings=settings,
            )
            await world._start()
            try:
                yield world
            finally:
                await world.fleet.kill_all()
                await world._producer.stop()
                await world._admin.close()
                await database.close()

    async def _start(self) -> None:
        await self._admin.start()
        replicas = min(3, len((await self._admin.describe_cluster())["brokers"]))
        topics = [NewTopic(name, _PARTITIONS, replicas) for name in self.topics.values()]
        await create_topics(self._admin, topics)
        await self._producer.start()

    # -- what goes on beside the nemesis ---------------------------------------------------------------------

    async def send(self, until: asyncio.Event) -> None:
        """Send the load, tick by tick, until told to stop; then what is left of it."""
        while not until.is_set():
            started = time.monotonic()
            await self._send_all(self.load.tick())
            # The pace upstream sends at.
            await asyncio.sleep(max(0.0, TICK_S - (time.monotonic() - started)))
        await self._send_all(self.load.rest())

    async def _send_all(self, deliveries: Iterable[Delivery]) -> None:
        deliveries = list(deliveries)
        sent = [
            await self._producer.send(
                self.topics[one.topic], one.value, key=one.key, headers=list(one.headers)
            )
            for one in deliveries
        ]
        for stands in await asyncio.gather(*sent):
            here = TopicPartition(stands.topic, stands.partition)
            self._ends[here] = max(self._ends.get(here, 0), stands.offset + 1)
        self.delivered.update(one.topic for one in deliveries)

    async def look(self) -> None:
        """Keep `glance` up to date, for ever."""
        for number in count():
            # Before the first instance is up there are no tables, and no group.
            with contextlib.suppress(DatabaseUnavailable, DBAPIError, KafkaError):
                self.glance = await self._look(read=number % _READ_EVERY == 0)
            await asyncio.sleep(_LOOK_S)  # between two looks; nothing hangs on how long

    async def _look(self, *, read: bool = True) -> Glance:
        async with self._database.reading() as tx:
            taken = await tx.scalar(select(func.count()).select_from(identities))
            waiting = await tx.scalar(
                select(func.count()).select_from(inbox).where(inbox.c.state == "waiting")
            )
            unpublished = await outbox.count_pending(tx)
        if not read:  # the brokers are asked less often
            return Glance(taken or 0, waiting or 0, unpublished, self.glance.unread)
        committed = await self._admin.list_consumer_group_offsets(self.group)
        offsets = {here: max(0, committed[here].offset) for here in self._ends if here in committed}
        unread = sum(max(0, end - offsets.get(here, 0)) for here, end in self._ends.items())
        return Glance(taken or 0, waiting or 0, unpublished, unread)

    # -- the end ---------------------------------------------------------------------------------------------

    async def settle(self, patience: float) -> bool:
        """Wait until everything sent is read, decided and published; False where it does not come to that."""
        try:
            async with asyncio.timeout(patience):
                while await self._unfinished():
                    await self.fleet.replace_the_fallen()
                    await asyncio.sleep(1)  # between two questions to other processes
        except TimeoutError:
            return False
        return True

    async def _unfinished(self) -> bool:
        now = self.glance = await self._look()
        return now.in_hand or bool(await self._removals())

    async def _removals(self) -> int:
        async with self._database.reading() as tx:
            due = select(func.count()).where(litellm_resources.c.due_at.is_not(None))
            return await tx.scalar(due) or 0

    async def history(self) -> History:
        """All that the run left behind."""
        return await collect(
            kafka=self.kafka,
            inbound=[self.topics[topic] for topic in INBOUND],
            outbound=[self.topics[topic] for topic in OUTBOUND],
            database=self._database,
            litellm=self._litellm,
            orgs=[*self.load.orgs, *self.load.ghosts],
            users=self.load.users,
        )

    async def policy(self) -> Policy:
        """What the checker is to expect."""
        vault = virtual_keys.KeyVault([self._fernet])
        async with self._database.reading() as tx:
            stored = list(await tx.scalars(select(key_rows.c.ciphertext)))
        keys = {vault.decrypt(bytes(ciphertext)).encode() for ciphertext in stored}
        return Policy(
            provisioning_topic=self.topics["provisioning.outcomes"],
            credits_topic=self.topics["credits.outcomes"],
            dead_letter_topic=self.topics["quartermaster.dead-letters"],
            source=self._source,
            doomed=frozenset(self.load.ghosts),
            secrets=frozenset({*keys, self._litellm_key.encode(), self._fernet.encode()}),
        )

    async def verified(self) -> str | None:
        """Have the books proved by the program itself; what it says where they don't balance."""
        code, said = await self.fleet.command("ledger", "verify", "--json")
        return None if code == 0 and json.loads(said)["ok"] is True else said


def fresh_name() -> str:
    """A name nobody used before: LiteLLM may be shared, and keeps what it has."""
    return uuid.uuid4().hex[:10]
