"""What an end-to-end test talks to: topics of its own, the process under test, and what came out."""

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from cryptography.fernet import Fernet

from producers.kafka_client import start_producer
from schemas.json_codec import parse_json
from storage import inbox
from storage.database import Database
from tests.parts.choice import KAFKA
from tests.parts.kafka import create_topics

PATIENCE_S = 60.0
PARTITIONS = 3

INBOUND = ("org.created", "user.joined", "job.completed")
OUTBOUND = ("provisioning.outcomes", "credits.outcomes", "quartermaster.dead-letters")

Outcome = dict[str, Any]


class Service:
    """One `quartermaster run` process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, client: httpx.AsyncClient) -> None:
        self.process = process
        self.log = log
        self._client = client

    @property
    def http(self) -> str:
        """Where its endpoints listen, as it says in its log."""
        for line in self.log.read_text().splitlines():
            if '"http_listening"' in line:
                entry = json.loads(line)
                return f"http://{entry['host']}:{entry['port']}"
        raise AssertionError(f"no address in the log yet: {self.log.read_text()[-2000:]}")

    async def ready(self) -> None:
        await eventually(lambda: self._status("/readyz"), lambda status: status == 200, what="/readyz is 200")

    async def _status(self, path: str) -> int:
        assert self.process.returncode is None, f"the process ended: {self.log.read_text()[-3000:]}"
        try:
            return (await self._client.get(self.http + path)).status_code
        except (httpx.TransportError, AssertionError):
            return 0

    async def reasons(self) -> list[str]:
        """Return why it is not ready; nothing also while it does not listen yet."""
        try:
            answer = await self._client.get(self.http + "/readyz")
        except (httpx.TransportError, AssertionError):
            return []
        found: list[str] = answer.json()["reasons"]
        return found

    async def metrics(self) -> str:
        return (await self._client.get(self.http + "/metrics")).text

    async def waiting(self) -> float:
        """Return how many events wait, for whatever reason, when it last looked."""
        lines = (await self.metrics()).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("quartermaster_waiting{"))

    async def kill(self) -> None:
        """Kill it as the kernel would: no clean-up of any kind."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()


class World:
    """Everything around the service, with names that no other test uses."""

    program = (sys.executable, "-m", "consumer")
    """What runs the service, and any command."""
    replicas = 1
    """Of each topic."""

    def __init__(
        self, *, kafka: str, database_url: str, litellm_url: str, litellm_key: str, folder: Path
    ) -> None:
        self.kafka = kafka
        self.database_url = database_url
        self.folder = folder
        self.name = uuid.uuid4().hex[:10]
        self.topics = {topic: f"{topic}.{self.name}" for topic in (*INBOUND, *OUTBOUND)}
        self.settings = {
            "QM_KAFKA_BOOTSTRAP_SERVERS": kafka,
            "QM_KAFKA_GROUP_ID": f"qm-{self.name}",
            "QM_DATABASE_URL": database_url,
            "QM_LITELLM_URL": litellm_url,
            "QM_LITELLM_MASTER_KEY": litellm_key,
            "QM_KEY_ENCRYPTION_KEY": Fernet.generate_key().decode(),
            "QM_SOURCE": f"/quartermaster/{self.name}",
            "QM_TOPIC_ORG_CREATED": self.topics["org.created"],
            "QM_TOPIC_USER_JOINED": self.topics["user.joined"],
            "QM_TOPIC_JOB_COMPLETED": self.topics["job.completed"],
            "QM_TOPIC_PROVISIONING_OUTCOMES": self.topics["provisioning.outcomes"],
            "QM_TOPIC_CREDITS_OUTCOMES": self.topics["credits.outcomes"],
            "QM_TOPIC_DEAD_LETTERS": self.topics["quartermaster.dead-letters"],
            "QM_HTTP_PORT": "0",
            "QM_LOG_FORMAT": "json",
            "QM_KAFKA_IDEMPOTENCE": str(KAFKA.is_real).lower(),
            # The embedded broker lets a new group wait for half of it.
            "QM_KAFKA_SESSION_TIMEOUT": "10" if KAFKA.is_real else "3",
        }
        self.services: list[Service] = []
        self._producer: AIOKafkaProducer | None = None
        self._readers: dict[str, AIOKafkaConsumer] = {}
        self._read: dict[str, list[Any]] = {}
        self._client = httpx.AsyncClient(verify=False, timeout=5)

    async def __aenter__(self) -> Self:
        await self.create_topics(*self.topics.values())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for service in self.services:
            await service.kill()
        for reader in self._readers.values():
            await reader.stop()
        if self._producer is not None:
            await self._producer.stop()
        await self._client.aclose()

    async def create_topics(self, *names: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        try:
            await create_topics(admin, [NewTopic(name, PARTITIONS, self.replicas) for name in names])
        finally:
            await admin.close()

    def org(self, name: str = "acme") -> str:
        """Return an organization's id that no other test uses (LiteLLM may be shared)."""
        return f"{name}-{self.name}"

    # -- the process --------------------------------------------------------------------------------------

    async def start(self, *arguments: str, **settings: str) -> Service:
        """Start `run` and return at once; `ready()` waits for it."""
        log = self.folder / f"run-{len(self.services)}.log"
        if self.database_url.startswith("postgresql"):
            arguments = ("--migrate", *arguments)
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                *self.program,
                "run",
                *arguments,
                env=self.environment(settings),
                stdout=sink,
                stderr=sink,
                stdin=asyncio.subprocess.DEVNULL,
            )
        service = Service(process, log, self._client)
        self.services.append(service)
        return service

    async def run_ready(self, *arguments: str, **settings: str) -> Service:
        service = await self.start(*arguments, **settings)
        await service.ready()
        return service

    async def command(self, *arguments: str, expect: int = 0, stdin: bytes = b"", **settings: str) -> str:
        """Run another command to its end and return what it printed."""
        process = await asyncio.create_subprocess_exec(
            *self.program,
            *arguments,
            env=self.environment(settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE_S):
            out, errors = await process.communicate(stdin)
        assert process.returncode == expect, (arguments, process.returncode, out, errors)
        return (out if expect == 0 else out + errors).decode()

    async def json_command(self, *arguments: str) -> Any:
        return json.loads(await self.command(*arguments, "--json"))

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
        more = {f"QM_{name.upper()}": value for name, value in settings.items()}
        return inherited | self.settings | more

    async def until_waiting(self, org: str, count: int) -> None:
        """Wait until so many events of an organization wait: the books say so at once, metrics later."""
        database = await Database.connect(self.database_url)

        async def waiting() -> int:
            async with database.reading() as tx:
                return await inbox.count_waiting(tx, org)

        try:
            await eventually(waiting, lambda found: found == count, what=f"{count} events of {org} wait")
        finally:
            await database.close()

    # -- in -----------------------------------------------------------------------------------------------

    async def produce(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: str | None = None,
        headers: Any = None,
        partition: int | None = None,
    ) -> None:
        await self.produce_all(topic, [(key, value)], headers=headers, partition=partition)

    async def produce_all(
        self,
        topic: str,
        records: list[tuple[str | None, bytes | None]],
        *,
        headers: Any = None,
        partition: int | None = None,
    ) -> None:
        if self._producer is None:
            producer = AIOKafkaProducer(bootstrap_servers=self.kafka, linger_ms=5)
            await start_producer(producer)
            self._producer = producer
        sent = [
            await self._producer.send(
                self.topics.get(topic, topic),
                value,
                key=None if key is None else key.encode(),
                headers=headers,
                partition=partition,
            )
            for key, value in records
        ]
        await asyncio.gather(*sent)

    async def publish(self, type_: str, data: Mapping[str, Any], *, id_: str | None = None) -> str:
        """Publish one event and return its id."""
        id_ = id_ or uuid.uuid4().hex
        await self.produce(type_, event(type_, data, id_=id_), key=str(data.get("org_id")))
        return id_

    # -- out ----------------------------------------------------------------------------------------------

    async def records(self, topic: str) -> list[Any]:
        """Return every record that stands on a topic now, in the order of its partitions."""
        name = self.topics.get(topic, topic)
        if name not in self._readers:
            reader = AIOKafkaConsumer(
                name,
                bootstrap_servers=self.kafka,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                fetch_max_wait_ms=50,
            )
            try:
                await reader.start()
            except BaseException:
                await reader.stop()
                raise
            self._readers[name] = reader
            self._read[name] = []
        quiet = 0
        while quiet < 2:
            fetched = await self._readers[name].getmany(timeout_ms=120)
            quiet = 0 if fetched else quiet + 1
            for some in fetched.values():
                self._read[name] += some
        return sorted(self._read[name], key=lambda record: (record.partition, record.offset))

    async def outcomes(self, topic: str) -> list[Outcome]:
        return [parse(record.value) for record in await self.records(topic)]

    async def wait_for_outcomes(
        self, topic: str, causes: set[str], *, patience: float = PATIENCE_S
    ) -> dict[str, Outcome]:
        """Wait until each of these inbound ids has its outcome; return the outcomes by inbound id."""

        async def have() -> dict[str, Outcome]:
            found = await self.outcomes(topic)
            return {one["causationid"]: one for one in found if one.get("causationid") in causes}

        return await eventually(
            have,
            lambda found: found.keys() >= causes,
            what=f"outcomes of {len(causes)} events on {topic}",
            patience=patience,
        )

    async def outcome_of(self, id_: str, *, patience: float = PATIENCE_S) -> Outcome:
        async def have() -> Outcome | None:
            for topic in ("provisioning.outcomes", "credits.outcomes"):
                for one in await self.outcomes(topic):
                    if one.get("causationid") == id_:
                        return one
            return None

        found = await eventually(
            have, lambda one: one is not None, what=f"the outcome of {id_}", patience=patience
        )
        assert found is not None
        return found


def event(type_: str, data: Mapping[str, Any], *, id_: str, source: str = "/platform", **more: Any) -> bytes:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": id_,
            "source": source,
            "type": type_,
            "time": "2026-03-01T12:00:00Z",
            "data": data,
            **more,
        }
    ).encode()


def parse(value: bytes) -> Outcome:
    parsed = parse_json(value)
    assert isinstance(parsed, dict)
    return parsed


async def eventually(
    look: Callable[[], Any], enough: Callable[[Any], bool], *, what: str, patience: float = PATIENCE_S
) -> Any:
    """Look again and again until it is enough; fail with what was seen last."""
    seen: Any = None
    try:
        async with asyncio.timeout(patience):
            while True:
                seen = await look()
                if enough(seen):
                    return seen
                await asyncio.sleep(0.1)  # between two looks at another process; nothing is assumed of it
    except TimeoutError:
        raise AssertionError(f"not within {patience} s: {what}; last seen: {str(seen)[:2000]}") from None
