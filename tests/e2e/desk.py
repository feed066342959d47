"""The operator's world: embedded parts under the names of the default settings, and what happens in it."""

import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from consumer.demo.broker import EmbeddedBroker
from consumer.standin import StandIn
from storage.database import Database
from storage.migrations import applying
from tests.e2e.runbook import Command, Printed, environment_of, run
from tests.e2e.world import INBOUND, OUTBOUND, Service, World, event, eventually

DATABASE: Final = "quartermaster.db"


class Desk(World):
    """A folder with a database, a service that may run, and what others do around it."""

    def __init__(self, broker: EmbeddedBroker, litellm: StandIn, folder: Path, **settings: str) -> None:
        super().__init__(
            kafka=broker.connection.bootstrap_servers,
            database_url=f"sqlite+aiosqlite:///{folder / DATABASE}",
            litellm_url=litellm.url,
            litellm_key=litellm.master_key,
            folder=folder,
        )
        self.litellm = litellm
        self.topics = {topic: topic for topic in (*INBOUND, *OUTBOUND)}
        ours = {name: value for name, value in self.settings.items() if not name.startswith("QM_TOPIC_")}
        more = {f"QM_{name.upper()}": value for name, value in settings.items()}
        self.settings = {
            **ours,
            "QM_SOURCE": "/quartermaster",
            "QM_KAFKA_IDEMPOTENCE": "false",
            "QM_KAFKA_SESSION_TIMEOUT": "3",
            **more,
        }

    @property
    def service(self) -> Service:
        """The instance that was started last."""
        return self.services[-1]

    async def do(self, command: Command) -> Printed:
        """Carry out a command of the runbook."""
        environment = environment_of(self.settings, programs=Path(sys.executable).parent)
        address = self.service.http.removeprefix("http://") if self.services else "localhost:8080"
        here = Command(
            command.line, command.text.replace("localhost:8080", address), command.expected, command.exits
        )
        spelled = {
            self.kafka: "kafka:9092",
            self.litellm.url: "http://litellm:4000",
            address: "localhost:8080",
            f"{self.folder}/": "",
        }

        def spell(text: str) -> str:
            for ours, documents in spelled.items():
                text = text.replace(ours, documents)
            return text

        return await run(here, folder=self.folder, environment=environment, spell=spell)

    # -- what others do ------------------------------------------------------------------------------------

    async def send(self, type_: str, id_: str, **data: Any) -> None:
        await self.produce(
            type_, event(type_, data, id_=id_, source="/platform"), key=str(data.get("org_id"))
        )

    async def sent_and_decided(self, *events: tuple[str, str, Mapping[str, Any]]) -> None:
        for type_, id_, data in events:
            await self.send(type_, id_, **data)
        for _, id_, _ in events:
            await self.outcome_of(id_)

    async def acme(self) -> None:
        """An organization with an owner, a user, and three jobs charged."""
        founding = {"org_id": "acme", "name": "Acme", "owner_user_id": "ann", "initial_credits": 100}
        await self.sent_and_decided(("org.created", "evt-1", founding))
        await self.sent_and_decided(("user.joined", "evt-2", {"org_id": "acme", "user_id": "bob"}))
        for number in range(1, 4):
            await self.job(number)

    async def job(self, number: int, *, org: str = "acme", event_id: str | None = None, **more: Any) -> None:
        """A job that ended and was decided, before the next one."""
        data = {"org_id": org, "job_id": f"job-{number}", "status": "completed", **more}
        await self.sent_and_decided(("job.completed", event_id or f"evt-{number + 2}", data))

    async def letters(self, count: int) -> None:
        """Wait until there are so many dead letters."""
        await eventually(
            lambda: self.json_command("dead-letters", "list"),
            lambda found: len(found) == count,
            what=f"{count} dead letters",
        )

    async def stop_all(self) -> None:
        for service in self.services:
            if service.process.returncode is None:
                assert await service.stop() == 0


Step = Callable[[Desk], Awaitable[None]]


async def running(desk: Desk) -> None:
    await desk.run_ready()
    await desk.acme()


async def at_rest(desk: Desk) -> None:
    await running(desk)
    await desk.stop_all()


async def litellm_down(desk: Desk) -> None:
    await desk.litellm.stop()


async def globex_is_created(desk: Desk) -> None:
    data = {"org_id": "globex", "name": "Globex", "owner_user_id": "gus", "initial_credits": 10}
    await desk.send("org.created", "evt-20", **data)
    await eventually(
        lambda: desk.json_command("org", "list", "--after", "acme"), bool, what="it is in the database"
    )
    await desk.send("job.completed", "evt-21", org_id="globex", job_id="job-20", status="completed")


async def a_failed_organization(desk: Desk) -> None:
    await running(desk)
    await litellm_down(desk)
    await globex_is_created(desk)
    await desk.outcome_of("evt-20")


async def bad_records(desk: Desk) -> None:
    await running(desk)
    bad = [(f"org-{number % 7}", b'{"job": %d, "state": "done"}' % number) for number in range(120)]
    await desk.produce_all("job.completed", bad, partition=0)
    await eventually(
        desk.service.reasons, lambda found: "breaker open: job.completed" in found, what="it opens"
    )


async def a_dead_letter(desk: Desk) -> None:
    await running(desk)
    await desk.send("job.completed", "evt-30", org_id="acme", job_id="job-30", status="done")
    await desk.letters(1)


async def without_a_topic(desk: Desk) -> None:
    """One that is read and not there: `partner.jobs`, of the section's settings."""
    service = await desk.start()
    await eventually(service.reasons, bool, what="it says why it is not ready")


async def yesterdays_backup(desk: Desk) -> None:
    """A backup, and what happened after it was made."""
    await at_rest(desk)
    source, copy = desk.folder / DATABASE, desk.folder / "backup.db"
    assert (
        not source.with_name(f"{DATABASE}-wal").exists()
        or not source.with_name(f"{DATABASE}-wal").stat().st_size
    )
    shutil.copyfile(source, copy)
    await desk.run_ready()
    await desk.job(4)
    await desk.job(5)
    await desk.sent_and_decided(("user.joined", "evt-8", {"org_id": "acme", "user_id": "eve"}))


async def a_lost_database(desk: Desk) -> None:
    """Two credits from the start and an operator's grant, three jobs charged, and then no database."""
    await desk.run_ready()
    founding = {"org_id": "acme", "name": "Acme", "owner_user_id": "ann", "initial_credits": 2}
    await desk.sent_and_decided(("org.created", "evt-1", founding))
    await desk.sent_and_decided(("user.joined", "evt-2", {"org_id": "acme", "user_id": "bob"}))
    grant = ("--reason", "invoice 2026-118", "--id", "invoice-2026-118")
    await desk.command("credits", "add", "acme", "500", *grant)
    for number in range(1, 4):
        await desk.job(number)
    await desk.stop_all()
    for file in desk.folder.glob(f"{DATABASE}*"):
        file.unlink()


async def an_older_version(desk: Desk) -> None:
    database = await Database.connect(desk.database_url)
    async with database.transaction() as tx:
        await tx.run_sync(applying.upgrade, "0001")
    await database.close()


async def two_dead_letters(desk: Desk) -> None:
    await a_dead_letter(desk)
    await desk.produce("job.completed", b"not json at all", key="acme")
    await desk.letters(2)


PREPARED: Final[Mapping[str, tuple[Step, Mapping[str, str]]]] = {
    "Is all well?": (running, {}),
    "The lag grows": (running, {}),
    "`/readyz` says 503": (without_a_topic, {"topics_also_read": "partner.jobs"}),
    "A breaker is open": (bad_records, {"breaker_pause": "1"}),
    "LiteLLM is down for hours": (running, {}),
    "An organization failed": (a_failed_organization, {"retry_for": "1"}),
    "What happened to this job?": (running, {}),
    "A dead letter is to be mended": (a_dead_letter, {}),
    "Wrong credits were booked": (running, {}),
    "A key has leaked": (running, {}),
    "The database was restored from yesterday's backup": (yesterdays_backup, {}),
    "The database is lost: back-fill from nothing": (a_lost_database, {}),
    "A topic kept its records too briefly": (running, {}),
    "Upgrading to a new version": (an_older_version, {}),
    "Proving the books": (running, {}),
    "Exporting a month": (running, {}),
    "Two operators at once": (two_dead_letters, {}),
}
"""How each section's world begins, and its settings."""


async def _answers_again(desk: Desk) -> None:
    await desk.litellm.start()


async def _topic_made(desk: Desk) -> None:
    await desk.create_topics("partner.jobs")


async def _good_records(desk: Desk) -> None:
    for number in range(30, 60):
        await desk.send(
            "job.completed", f"evt-{number}", org_id="acme", job_id=f"job-{number}", status="completed"
        )


async def _started(desk: Desk) -> None:
    await desk.run_ready()


async def _adopting(desk: Desk) -> None:
    await desk.stop_all()
    await desk.run_ready(adopt_existing_teams="true")


async def _stopped(desk: Desk) -> None:
    await desk.stop_all()


async def _job_waits(desk: Desk) -> None:
    await desk.send("job.completed", "evt-40", org_id="initech", job_id="job-40", status="completed")


async def _mended(desk: Desk) -> None:
    """The other operator's work, and done before ours."""
    value = json.loads((await desk.command("dead-letters", "show", "1", "--raw")).encode())
    value["data"]["status"] = "completed"
    await desk.command("dead-letters", "redrive", "1", "--value", "-", stdin=json.dumps(value).encode())


MEANWHILE: Final[Mapping[str, Step]] = {
    "LiteLLM goes down": litellm_down,
    "LiteLLM answers again": _answers_again,
    "globex is created": globex_is_created,
    "the topic is made": _topic_made,
    "upstream sends good records": _good_records,
    "all instances are started": _started,
    "all instances are started to adopt": _adopting,
    "all instances are stopped": _stopped,
    "a job comes before its organization": _job_waits,
    "another operator mends it": _mended,
}
"""What the document lets happen between its commands."""
