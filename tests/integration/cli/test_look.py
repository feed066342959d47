"""Commands that show what is known."""

import asyncio
import csv
import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.outcomes import Origin, OutcomeType, cause_of, encode_outcome, outcome_id
from schemas.timestamps import format_rfc3339
from schemas.transactions import charge_id, grant_id, operator_entry_id
from storage import inbox, ledger, organizations, outbox
from storage.inbox import InboxState, WaitReason
from storage.ledger import EntryKind, LedgerEntry
from storage.organizations import OrgState, OrgStatus
from tests.integration.cli.conftest import (
    KEY,
    KEY_HASH,
    NOW,
    Quartermaster,
    founded,
    job_event,
    waiting_job,
    waiting_user,
)

AT = format_rfc3339(NOW)

LISTED = "`quartermaster org list` shows which there are"

NAMED = "`quartermaster org show` names its users and what waits"

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
        "name": "Acme [bold]Robotics",
        "credits_granted": 10,
        "credits_used": 1,
        "credits_balance": 9,
        "users": [{"user_id": "ann", "role": "owner", "key_hash": KEY_HASH}],
        "failed": [],
        "waiting_total": 1,
        "waiting": [
            {
                "type": "user.joined",
                "source": "/up",
                "id": "e-bob",
                "reason": "litellm",
                "since": AT,
                "due_at": AT,
                "subject": "bob",
                "round": 1,
                "attempts": 0,
                "last_error": None,
                "number": 1,
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
            "entry": 1,
            "booked_at": AT,
            "reason": None,
            "corrects": None,
            "event_source": None,
            "event_id": None,
            "outcome_id": None,
        },
        {
            "transaction_id": str(charge_id("acme", "job-1")),
            "kind": "charge",
            "job_id": "job-1",
            "credits": -1,
            "balance_after": 9,
            "sequence": 1,
            "entry": 2,
            "booked_at": AT,
            "reason": None,
            "corrects": None,
            "event_source": "/up",
            "event_id": "e-1",
            "outcome_id": str(outcome_id("/up", "e-1", OutcomeType.CREDITS_DEDUCTED, 1)),
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


def known(document: Any, **expected: Any) -> bool:
    """Whether a document has these members, whatever else it has."""
    return {name: document[name] for name in expected} == expected


@pytest.mark.usefixtures("acme")
def test_a_job_is_shown_with_its_charge_and_events(quartermaster: Quartermaster) -> None:
    shown = quartermaster("job", "show", "acme", "job-1", "--json").json
    assert known(
        shown,
        org_id="acme",
        job_id="job-1",
        transaction_id=str(charge_id("acme", "job-1")),
        credits=1,
        charged_at=AT,
        balance_after=9,
        more_after=None,
    )
    [event] = shown["events"]
    assert known(
        event,
        source="/up",
        id="e-1",
        status="completed",
        outcome="credits.deducted",
        decided_at=AT,
        outcome_id=str(outcome_id("/up", "e-1", OutcomeType.CREDITS_DEDUCTED, 1)),
        round=1,
        origin="live",
        waits_for=None,
        due_at=None,
        can_be_retried=False,
    )
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
    [event] = shown["events"]
    assert known(event, source="/up", id="e-9", status="completed", outcome=None, decided_at=None)
    assert known(event, waits_for="its organization", since=AT, due_at=AT, round=1)
    people = quartermaster("job", "show", "later", "job-9").out
    assert "(waiting)" in people
    assert "waits for its organization" in people
    absent = quartermaster("org", "show", "later")
    assert absent.code == 1
    waiting = "1 event(s) wait for its org.created, the first until 2026-03-01T12:00:00Z"
    assert f"there is no organization 'later'; {waiting}" in absent.err


REFUSED = '{"step": "charge", "error_code": "insufficient_credits"}'
FAILED = '{"step": "team", "error_code": "litellm_unavailable", "message": "no answer within 30 s"}'


@pytest.fixture
def failing(write: Write, acme: None) -> None:
    """An organization that failed, with a user who waits for it; and a job refused in another one."""

    async def work(tx: AsyncConnection) -> None:
        state = (await organizations.lock(tx, ["sad"]))["sad"]
        await organizations.save(tx, [state._replace(status=OrgStatus.FAILED, failed_at=NOW)])
        founding = founded("sad", "e-sad")
        await inbox.add(
            tx,
            [
                replace(founding, state=InboxState.FAILED, reason=WaitReason.FAILED, failure=FAILED),
                waiting_user("sad", "e-user", "eve"),
                waiting_job("sad", "e-job", "job-1"),
                replace(
                    waiting_job("acme", "e-2", "job-2"),
                    state=InboxState.FAILED,
                    reason=WaitReason.FAILED,
                    failure=REFUSED,
                ),
            ],
        )

    write(work)


@pytest.mark.usefixtures("failing")
def test_a_failed_organization_says_why_and_what_to_do(quartermaster: Quartermaster) -> None:
    shown = quartermaster("org", "show", "sad", "--json").json
    assert shown["status"] == "failed"
    assert shown["failed"] == [
        {
            "type": "org.created",
            "count": 1,
            "step": "team",
            "error_code": "litellm_unavailable",
            "message": "no answer within 30 s",
            "oldest_since": AT,
        }
    ]
    assert [(one["type"], one["id"]) for one in shown["waiting"]] == [
        ("user.joined", "e-user"),
        ("job.completed", "e-job"),
    ]
    people = quartermaster("org", "show", "sad").out
    assert "litellm_unavailable (team): no answer within 30 s" in people
    assert "quartermaster replay --retry-failed --org sad" in people


@pytest.mark.usefixtures("failing")
def test_what_waits_is_shown_in_pages(quartermaster: Quartermaster) -> None:
    first = quartermaster("org", "show", "sad", "--limit", "1", "--json").json
    assert (first["waiting_total"], [one["id"] for one in first["waiting"]]) == (2, ["e-user"])
    number = str(first["waiting"][0]["number"])
    rest = quartermaster("org", "show", "sad", "--after", number, "--json").json
    assert [one["id"] for one in rest["waiting"]] == ["e-job"]
    people = quartermaster("org", "show", "sad", "--limit", "1").out
    assert f"... of 2 that wait: --after {number} goes on" in people
    assert "goes on" not in quartermaster("org", "show", "sad").out


@pytest.mark.usefixtures("failing")
def test_organizations_are_listed_by_status(quartermaster: Quartermaster) -> None:
    listed = quartermaster("org", "list", "--json").json
    assert [(one["org_id"], one["status"]) for one in listed] == [("acme", "active"), ("sad", "failed")]
    assert known(listed[0], credits_balance=9, waiting_jobs=0, failed_at=None)
    assert listed[1]["failed_at"] == AT
    failed = quartermaster("org", "list", "--status", "failed").out
    assert "sad" in failed
    assert "acme" not in failed
    assert [one["org_id"] for one in quartermaster("org", "list", "--after", "acme", "--json").json] == [
        "sad"
    ]
    assert "--after acme goes on" in quartermaster("org", "list", "--limit", "1").out
    assert "no organizations" in quartermaster("org", "list", "--status", "unknown").out


@pytest.mark.usefixtures("failing")
def test_a_refused_charge_says_that_it_can_be_tried_again(quartermaster: Quartermaster) -> None:
    [event] = quartermaster("job", "show", "acme", "job-2", "--json").json["events"]
    assert known(
        event, outcome="credits.deduction_failed", reason="insufficient_credits", can_be_retried=True
    )
    people = quartermaster("job", "show", "acme", "job-2").out
    assert (
        "quartermaster replay --retry-failed --org acme --event-id e-2 --reason insufficient_credits"
        in people
    )


@pytest.mark.usefixtures("acme")
def test_outcomes_of_a_job_are_shown_in_pages(quartermaster: Quartermaster, write: Write) -> None:
    async def work(tx: AsyncConnection) -> None:
        for number in range(3):
            await outbox.append_outcomes(
                tx,
                [
                    encode_outcome(
                        OutcomeType.CREDITS_DEDUCTION_SKIPPED,
                        {"job_id": "job-1", "status": "completed", "reason": "job_already_charged"},
                        org_id="acme",
                        cause=cause_of(job_event(f"again-{number}", "job-1")),
                        decided_at=NOW,
                        origin=Origin.LIVE,
                        round=1,
                        our_source="/quartermaster",
                        job_key=charge_id("acme", "job-1"),
                    )
                ],
            )

    write(work)

    first = quartermaster("job", "show", "acme", "job-1", "--limit", "2", "--json").json
    rest = quartermaster("job", "show", "acme", "job-1", "--after", str(first["more_after"]), "--json").json
    assert [one["id"] for one in first["events"]] == ["e-1", "again-0"]
    assert [(one["id"], one["reason"]) for one in rest["events"]] == [
        ("again-1", "job_already_charged"),
        ("again-2", "job_already_charged"),
    ]
    assert "goes on" in quartermaster("job", "show", "acme", "job-1", "--limit", "2").out


# -- the ledger -------------------------------------------------------------------------------------------


@pytest.fixture
def long_ledger(write: Write, acme: None) -> None:
    """Entries 3 to 1502, an hour apart; their reasons are what spreadsheets and readers of CSV trip over."""
    texts = ["=1+1", "-2", "@x", "+3", "\uff1dA1", 'a "quoted", one', "plain", "Zoë's"]

    async def work(tx: AsyncConnection) -> None:
        await ledger.append(
            tx,
            [
                LedgerEntry(
                    transaction_id=operator_entry_id(f"o-{number}"),
                    org_id="acme",
                    entry=number,
                    kind=EntryKind.ADJUSTMENT,
                    credits=1,
                    balance_after=7 + number,
                    sequence=None,
                    job_id=None,
                    reason=texts[number % len(texts)],
                    corrects=None,
                    created_at=NOW + timedelta(hours=number),
                )
                for number in range(3, 1_503)
            ],
        )
        state = OrgState("acme", OrgStatus.ACTIVE, balance=1_509, charges=1, entries=1_502)
        await organizations.save(tx, [state])

    write(work)


def entries(quartermaster: Quartermaster, *arguments: str) -> list[int]:
    shown = quartermaster("ledger", "show", "acme", *arguments, "--json")
    assert shown.code == 0, shown.err
    return [one["entry"] for one in shown.json]


@pytest.mark.usefixtures("long_ledger")
def test_a_ledger_is_shown_by_number_and_time(quartermaster: Quartermaster) -> None:
    assert entries(quartermaster) == list(range(1, 1_503))
    assert entries(quartermaster, "--after", "1500") == [1501, 1502]
    assert entries(quartermaster, "--limit", "600") == list(range(1, 601))
    assert entries(quartermaster, "--since", "2026-03-02T00:00:00Z", "--until", "2026-03-03") == list(
        range(12, 36)
    )
    assert entries(quartermaster, "--since", "2026-03-02", "--limit", "2", "--after", "13") == [14, 15]
    people = quartermaster("ledger", "show", "acme").out
    assert "... of 1502 entries: --after 200 goes on" in people
    assert "no entries like that" in quartermaster("ledger", "show", "acme", "--after", "1502").out


@pytest.mark.usefixtures("long_ledger")
def test_a_month_is_exported_as_csv(quartermaster: Quartermaster) -> None:
    answer = quartermaster("ledger", "show", "acme", "--until", "2026-04-01", "--csv")

    assert answer.code == 0
    lines = answer.raw.decode().split("\r\n")
    assert (len(lines), lines[-1]) == (733, "")
    assert not [line for line in lines if "\n" in line]
    rows = list(csv.DictReader(io.StringIO(answer.raw.decode(), newline="")))
    assert [int(row["entry"]) for row in rows] == list(range(1, 732))
    assert rows[1] == {
        "org_id": "acme",
        "entry": "2",
        "booked_at": AT,
        "kind": "charge",
        "credits": "-1",
        "balance_after": "9",
        "sequence": "1",
        "job_id": "job-1",
        "reason": "",
        "corrects": "",
        "transaction_id": str(charge_id("acme", "job-1")),
        "event_source": "/up",
        "event_id": "e-1",
        "outcome_id": str(outcome_id("/up", "e-1", OutcomeType.CREDITS_DEDUCTED, 1)),
    }
    assert {row["reason"] for row in rows[2:]} == {
        "'=1+1", "'-2", "'@x", "'+3", "'\uff1dA1", 'a "quoted", one', "plain", "Zoë's"
    }  # fmt: skip


@pytest.mark.usefixtures("long_ledger")
def test_a_month_of_all_organizations_is_exported(quartermaster: Quartermaster, write: Write) -> None:
    async def work(tx: AsyncConnection) -> None:
        state = (await organizations.lock(tx, ["beta"]))["beta"]
        grant = LedgerEntry(grant_id("beta"), "beta", 1, EntryKind.GRANT, 3, 3, None, None, None, None, NOW)
        await ledger.append(tx, [grant])
        await organizations.save(tx, [state._replace(status=OrgStatus.ACTIVE, balance=3, entries=1)])

    write(work)

    exported = quartermaster("ledger", "export", "--until", "2026-04-01").raw.decode()
    one = quartermaster("ledger", "show", "acme", "--until", "2026-04-01", "--csv").raw.decode()
    assert exported.startswith(one)
    assert exported.removeprefix(one).startswith(f"beta,1,{AT},grant,3,3,")
    as_json = quartermaster("ledger", "export", "--json").json
    assert [entry["org_id"] for entry in as_json] == ["acme"] * 1_502 + ["beta"]


@pytest.mark.usefixtures("acme")
def test_csv_and_json_exclude_each_other(quartermaster: Quartermaster) -> None:
    answer = quartermaster("ledger", "show", "acme", "--csv", "--json")
    assert (answer.code, answer.out) == (2, "")


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
        (("org", "show", "nobody"), f"there is no organization 'nobody': {LISTED}"),
        (("ledger", "show", "nobody"), f"there is no organization 'nobody': {LISTED}"),
        (("job", "show", "acme", "job-0"), "there is no job 'job-0' of organization 'acme'"),
        (
            ("job", "show", "nobody", "j"),
            "there is no job 'j' of organization 'nobody', nor any organization of that id",
        ),
        (
            ("keys", "show", "nobody"),
            "there is no active organization 'nobody': `quartermaster org list` shows all and their status",
        ),
        (
            ("keys", "show", "acme", "bob"),
            "there is no key of user 'bob' in organization 'acme': " + NAMED,
        ),
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
