"""Commands as an operator gives them, on a SQLite file of each test's own."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.cli.main import cli
from schemas.event import NO_TRACE, identity_digest, make_event
from schemas.events import EventType
from schemas.outcomes import Origin, OutcomeType, cause_of, encode_outcome
from schemas.transactions import charge_id, grant_id
from storage import inbox, ledger, members, migrations, organizations, outbox, virtual_keys
from storage.database import Database
from storage.inbox import NewInboxRow, WaitReason
from storage.ledger import EntryKind, LedgerEntry
from storage.members import Member
from storage.organizations import OrgProfile, OrgState, OrgStatus
from storage.virtual_keys import KeyState, KeyVault, NewKey

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FERNET = Fernet.generate_key().decode()
KEY = "sk-the-owners-key-0001"
KEY_HASH = "a" * 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str
    raw: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Quartermaster = Callable[..., Answer]


@pytest.fixture
def database_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "qm.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QM_DATABASE_URL", f"sqlite+aiosqlite:///{path}")
    monkeypatch.setenv("QM_KEY_ENCRYPTION_KEY", FERNET)
    return path


@pytest.fixture
def quartermaster(database_path: Path) -> Quartermaster:
    def run(*arguments: str, stdin: str | None = None) -> Answer:
        result = CliRunner().invoke(cli, arguments, input=stdin, prog_name="quartermaster")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr, result.stdout_bytes)

    return run


@pytest.fixture
def write(database_path: Path) -> Callable[[Callable[[AsyncConnection], Awaitable[Any]]], Any]:
    """Do something in one transaction on the migrated database."""

    def run(work: Callable[[AsyncConnection], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            database = await Database.connect(f"sqlite+aiosqlite:///{database_path}")
            try:
                await migrations.migrate(database)
                return await database.run(work)
            finally:
                await database.close()

        return asyncio.run(connected())

    return run


@pytest.fixture
def acme(write: Callable[[Callable[[AsyncConnection], Awaitable[Any]]], Any]) -> None:
    """An active organization: 10 credits granted, one job charged, and a user who waits."""

    async def work(tx: AsyncConnection) -> None:
        state = (await organizations.lock(tx, ["acme"]))["acme"]
        await organizations.activate(tx, state, PROFILE)
        await ledger.append(tx, [GRANT, CHARGE])
        await organizations.save(
            tx,
            [OrgState("acme", OrgStatus.ACTIVE, balance=9, charges=1, entries=2)],
        )
        await members.add(tx, OWNER)
        key = NewKey(
            key_hash=KEY_HASH,
            org_id="acme",
            user_id="ann",
            name="default",
            generation=1,
            alias="qm-x-1",
            ciphertext=KeyVault([FERNET]).encrypt(KEY),
            made_by=identity_digest("/up", "e-org"),
            created_at=NOW,
        )
        await virtual_keys.intend(tx, key)
        await virtual_keys.mark(tx, KEY_HASH, KeyState.LIVE)
        job = job_event("e-1", "job-1")
        await outbox.append_outcomes(
            tx,
            [
                encode_outcome(
                    OutcomeType.CREDITS_DEDUCTED,
                    {"job_id": "job-1", "status": "completed"},
                    org_id="acme",
                    cause=cause_of(job),
                    decided_at=NOW,
                    origin=Origin.LIVE,
                    round=1,
                    our_source="/quartermaster",
                    job_key=charge_id("acme", "job-1"),
                )
            ],
        )
        await inbox.add(tx, [waiting_user("acme", "e-bob", "bob")])

    write(work)


PROFILE = OrgProfile(
    org_id="acme",
    name="Acme [bold]Robotics",
    owner_user_id="ann",
    team_id="acme",
    adopted=False,
    max_budget_usd="25.00",
    models=(),
    metadata=None,
    provisioned_at=NOW,
)
OWNER = Member(
    org_id="acme",
    user_id="ann",
    role="owner",
    email_set=True,
    key_hash=KEY_HASH,
    key_alias="qm-x-1",
    key_name="default",
    provisioned_at=NOW,
)
GRANT = LedgerEntry(grant_id("acme"), "acme", 1, EntryKind.GRANT, 10, 10, None, None, None, None, NOW)
CHARGE = LedgerEntry(
    charge_id("acme", "job-1"), "acme", 2, EntryKind.CHARGE, -1, 9, 1, "job-1", None, None, NOW
)


def job_event(event_id: str, job_id: str, org_id: str = "acme") -> Any:
    return make_event(
        EventType.JOB_COMPLETED,
        "/up",
        event_id,
        time="2026-03-01T12:00:00Z",
        data={"org_id": org_id, "job_id": job_id, "status": "completed"},
        trace=NO_TRACE,
    )


def founded(org_id: str, event_id: str) -> NewInboxRow:
    event = make_event(
        EventType.ORG_CREATED,
        "/up",
        event_id,
        time="2026-03-01T12:00:00Z",
        data={"org_id": org_id, "name": "A", "owner_user_id": "ann"},
        trace=NO_TRACE,
    )
    return _row(event, WaitReason.TURN)


def waiting_user(org_id: str, event_id: str, user_id: str) -> NewInboxRow:
    event = make_event(
        EventType.USER_JOINED,
        "/up",
        event_id,
        time="2026-03-01T12:00:00Z",
        data={"org_id": org_id, "user_id": user_id},
        trace=NO_TRACE,
    )
    return _row(event, WaitReason.LITELLM)


def waiting_job(org_id: str, event_id: str, job_id: str) -> NewInboxRow:
    return _row(job_event(event_id, job_id, org_id), WaitReason.ORGANIZATION)


def _row(event: Any, reason: WaitReason) -> NewInboxRow:
    return NewInboxRow(
        identity=event.identity,
        org_id=event.org_id,
        type=event.type,
        subject=event.subject,
        reason=reason,
        origin=Origin.LIVE,
        round=1,
        stored_at=NOW,
        due_at=NOW,
        event=event.stored,
    )
