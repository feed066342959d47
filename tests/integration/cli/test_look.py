"""Commands that show what is known."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.timestamps import format_rfc3339
from schemas.transactions import charge_id, grant_id
from storage import inbox, organizations
from tests.integration.cli.conftest import KEY, KEY_HASH, NOW, Quartermaster, waiting_job

AT = format_rfc3339(NOW)

Write = Callable[[Callable[[AsyncConnection], Awaitable[Any]]], Any]


@pytest.mark.usefixtures("acme")
def test_an_organization_is_shown_with_its_credits_members_and_what_waits(
    quartermaster: Quartermaster,
) -> None:
    answer = quartermaster("org", "show", "acme", "--json")

    assert answer.code == 0
    assert answer.json == {
        "org_id": "acme",
        "status": "active",
        "credits_granted": 10,
        "credits_used": 1,
        "credits_balance": 9,
        "users": [{"user_id": "ann", "role": "owner", "key_hash": KEY_HASH}],
        "waiting": [
            {
                "type": "user.joined",
                "source": "/up",
                "id": "e-bob",
                "reason": "litellm",
                "since": AT,
                "due_at": AT,
            }
        ],
    }


@pytest.mark.usefixtures("acme")
def test_people_see_names_as_they_are(quartermaster: Quartermaster) -> None:
    answer = quartermaster("org", "show", "acme")

    assert answer.code == 0
    assert "Acme [bold]Robotics" in answer.out
    assert KEY_HASH in answer.out
    assert "e-bob" in answer.out


@pytest.mark.usefixtures("acme")
def test_a_ledger_is_shown_signed_and_in_order(quartermaster: Quartermaster) -> None:
    assert quartermaster("ledger", "show", "acme", "--json").json == [
        {
            "transaction_id": str(grant_id("acme")),
            "kind": "grant",
            "job_id": None,
            "credits": 10,
            "balance_after": 10,
            "sequence": None,
        },
        {
            "transaction_id": str(charge_id("acme", "job-1")),
            "kind": "charge",
            "job_id": "job-1",
            "credits": -1,
            "balance_after": 9,
            "sequence": 1,
        },
    ]
    assert str(charge_id("acme", "job-1")) in quartermaster("ledger", "show", "acme").out


@pytest.mark.usefixtures("acme")
def test_books_that_balance_are_proved(quartermaster: Quartermaster) -> None:
    answer = quartermaster("ledger", "verify", "--json")

    assert (answer.code, answer.json) == (0, {"ok": True, "organizations": 1, "entries": 2, "problems": []})
    assert "balance" in quartermaster("ledger", "verify").out


@pytest.mark.usefixtures("acme")
def test_books_that_do_not_balance_fail_and_are_named(quartermaster: Quartermaster, write: Write) -> None:
    write(lambda tx: tx.execute(text("UPDATE organizations SET balance = 8")))

    answer = quartermaster("ledger", "verify", "--json")

    assert (answer.code, answer.json["ok"], len(answer.json["problems"])) == (1, False, 1)
    assert "do not balance" in answer.err
    assert "'acme'" in quartermaster("ledger", "verify").out


@pytest.mark.usefixtures("acme")
def test_a_job_is_shown_with_its_charge_and_events(quartermaster: Quartermaster) -> None:
    assert quartermaster("job", "show", "acme", "job-1", "--json").json == {
        "org_id": "acme",
        "job_id": "job-1",
        "transaction_id": str(charge_id("acme", "job-1")),
        "credits": 1,
        "events": [
            {
                "source": "/up",
                "id": "e-1",
                "status": "completed",
                "outcome": "credits.deducted",
                "decided_at": AT,
            }
        ],
    }
    assert "credits.deducted" in quartermaster("job", "show", "acme", "job-1").out


def test_a_job_that_waits_for_its_organization_has_no_outcome(
    quartermaster: Quartermaster, write: Write
) -> None:
    async def work(tx: AsyncConnection) -> None:
        await organizations.lock(tx, ["later"])
        await inbox.add(tx, [waiting_job("later", "e-9", "job-9")])

    write(work)

    shown = quartermaster("job", "show", "later", "job-9", "--json").json
    assert (shown["transaction_id"], shown["credits"]) == (None, 0)
    assert shown["events"] == [
        {"source": "/up", "id": "e-9", "status": "completed", "outcome": None, "decided_at": None}
    ]
    absent = quartermaster("org", "show", "later")
    assert absent.code == 1
    assert "there is no organization 'later'; 1 event(s) wait for its org.created" in absent.err


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("user", [(), ("ann",)])
def test_a_key_is_shown_to_an_operator(quartermaster: Quartermaster, user: tuple[str, ...]) -> None:
    answer = quartermaster("keys", "show", "acme", *user, "--json")

    assert answer.json == {"org_id": "acme", "user_id": "ann", "key": KEY, "hash": KEY_HASH}
    assert KEY in quartermaster("keys", "show", "acme", *user).out


@pytest.mark.usefixtures("acme")
def test_rotation_encrypts_under_the_first_key(
    quartermaster: Quartermaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryptography.fernet import Fernet  # noqa: PLC0415

    from tests.integration.cli.conftest import FERNET  # noqa: PLC0415

    new = Fernet.generate_key().decode()
    monkeypatch.setenv("QM_KEY_ENCRYPTION_KEY", new)
    refused = quartermaster("keys", "rotate-encryption")
    assert refused.code == 1
    assert "QM_KEY_ENCRYPTION_KEY" in refused.err
    assert quartermaster("keys", "show", "acme").code == 1

    monkeypatch.setenv("QM_KEY_ENCRYPTION_KEY", f"{new},{FERNET}")
    assert quartermaster("keys", "rotate-encryption", "--json").json == {"rotated": 1}

    monkeypatch.setenv("QM_KEY_ENCRYPTION_KEY", new)
    assert quartermaster("keys", "show", "acme", "--json").json["key"] == KEY


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("org", "show", "nobody"), "there is no organization 'nobody'"),
        (("ledger", "show", "nobody"), "there is no organization 'nobody'"),
        (("job", "show", "acme", "job-0"), "there is no job 'job-0' of organization 'acme'"),
        (("keys", "show", "nobody"), "there is no active organization 'nobody'"),
        (("keys", "show", "acme", "bob"), "there is no key of user 'bob' in organization 'acme'"),
    ],
)
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_what_is_absent_is_said_in_one_line(
    quartermaster: Quartermaster, arguments: tuple[str, ...], line: str, as_json: tuple[str, ...]
) -> None:
    answer = quartermaster(*arguments, *as_json)

    assert (answer.code, answer.out, answer.err) == (1, "", f"Error: {line}\n")


def test_a_database_that_is_not_there_is_not_made(quartermaster: Quartermaster, database_path: Path) -> None:
    answer = quartermaster("org", "show", "acme")

    assert answer.code == 1
    assert "quartermaster db upgrade" in answer.err
    assert not database_path.exists()


def test_a_database_without_migrations_says_what_to_run(
    quartermaster: Quartermaster, database_path: Path
) -> None:
    database_path.touch()

    answer = quartermaster("ledger", "verify")

    assert answer.code == 1
    assert "run `quartermaster db upgrade` first" in answer.err


def test_db_upgrade_may_be_repeated(quartermaster: Quartermaster) -> None:
    assert quartermaster("db", "upgrade", "--json").json == {"upgraded": True}
    assert quartermaster("db", "upgrade", "--json").json == {"upgraded": False}
    assert quartermaster("ledger", "verify").code == 0


def test_a_database_out_of_reach_is_said_without_its_password(
    quartermaster: Quartermaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused() -> int:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = int(server.sockets[0].getsockname()[1])
        server.close()
        await server.wait_closed()
        return port

    port = asyncio.run(refused())
    monkeypatch.setenv("QM_DATABASE_URL", f"postgresql+asyncpg://qm:hush-1@127.0.0.1:{port}/qm")

    answer = quartermaster("org", "show", "acme")

    assert answer.code == 1
    assert answer.err.startswith("Error: ")
    assert answer.err.count("\n") == 1
    assert "hush-1" not in answer.err
