"""`credits add` and `credits adjust` on the books."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.cli.command import CommandFailed
from consumer.cli.credits import book
from consumer.decisions.credits import MAX_BALANCE, CreditCommand
from schemas.json_codec import parse_json
from schemas.outcomes import OutcomeType, outcome_id
from schemas.transactions import charge_id, operator_entry_id
from storage import outbox
from storage.database import Database
from storage.ledger import EntryKind
from tests.integration.cli.conftest import Quartermaster

pytestmark = pytest.mark.usefixtures("acme")

Write = Callable[[Callable[[AsyncConnection], Awaitable[Any]]], Any]


def last_outcome(write: Write) -> Any:
    records = write(lambda tx: outbox.pending(tx, range(outbox.SHARDS)))
    return parse_json(records[-1].value)


def balance(quartermaster: Quartermaster) -> int:
    return int(quartermaster("org", "show", "acme", "--json").json["credits_balance"])


def test_credits_are_added_once_per_id(quartermaster: Quartermaster, write: Write) -> None:
    command = ("credits", "add", "acme", "5", "--reason", "invoice 1", "--id", "inv-1", "--json")

    first, second = quartermaster(*command), quartermaster(*command)

    assert (first.code, second.code) == (0, 0)
    assert first.json == {
        "transaction_id": str(operator_entry_id("inv-1")),
        "org_id": "acme",
        "kind": "grant",
        "credits": 5,
        "balance_after": 14,
        "reason": "invoice 1",
        "corrects": None,
        "new": True,
    }
    assert second.json == first.json | {"new": False}
    assert balance(quartermaster) == 14
    assert quartermaster("ledger", "verify").code == 0
    outcome = last_outcome(write)
    assert outcome["type"] == "credits.granted"
    assert outcome["id"] == str(outcome_id("/quartermaster", "inv-1", OutcomeType.CREDITS_GRANTED, 1))
    assert outcome["origin"] == "operator"
    assert "causationid" not in outcome
    assert outcome["data"] == {
        "org_id": "acme",
        "account_id": "acme",
        "transaction_id": str(operator_entry_id("inv-1")),
        "credits": 5,
        "reason": "invoice 1",
        "balance_before": 9,
        "balance_after": 14,
    }


def test_an_adjustment_takes_credits_and_names_what_it_corrects(
    quartermaster: Quartermaster, write: Write
) -> None:
    charge = str(charge_id("acme", "job-1"))

    answer = quartermaster(
        "credits", "adjust", "acme", "-5", "--reason", "x", "--id", "y", "--corrects", charge, "--json"
    )

    assert answer.code == 0, answer.err
    assert (answer.json["credits"], answer.json["balance_after"], answer.json["corrects"]) == (-5, 4, charge)
    outcome = last_outcome(write)
    assert outcome["type"] == "credits.adjusted"
    assert (outcome["data"]["credits"], outcome["data"]["corrects"]) == (-5, charge)
    assert quartermaster("ledger", "verify").code == 0


@pytest.mark.parametrize("credits_", ["-5", "5", "+5"])
def test_a_signed_number_is_an_argument_wherever_it_stands(
    quartermaster: Quartermaster, credits_: str
) -> None:
    answer = quartermaster("credits", "adjust", "--reason", "x", "--id", "y", "acme", credits_)

    assert answer.code == 0, answer.err
    assert f"{int(credits_):+d}" in answer.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("add", "nobody", "5"), "there is no organization 'nobody'"),
        (("adjust", "acme", "-10"), "the balance is 9: -10 would take it below zero"),
        (("add", "acme", str(MAX_BALANCE)), "would pass"),
        (("adjust", "acme", "1", "--corrects", str(uuid4())), "is no entry in the ledger of 'acme'"),
    ],
)
def test_what_is_refused_changes_nothing(
    quartermaster: Quartermaster, arguments: tuple[str, ...], line: str
) -> None:
    answer = quartermaster("credits", *arguments, "--reason", "x", "--id", "y")

    assert answer.code == 1
    assert line in answer.err
    assert balance(quartermaster) == 9
    # Not even a mistyped organization has left a row.
    assert quartermaster("ledger", "verify", "--json").json["organizations"] == 1


def test_the_same_id_with_other_values_fails(quartermaster: Quartermaster) -> None:
    assert quartermaster("credits", "add", "acme", "5", "--reason", "x", "--id", "y").code == 0

    answer = quartermaster("credits", "add", "acme", "6", "--reason", "x", "--id", "y")

    assert answer.code == 1
    assert "stands for another command" in answer.err
    assert balance(quartermaster) == 14


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "acme", "0", "--reason", "x", "--id", "y"),
        ("add", "acme", "-5", "--reason", "x", "--id", "y"),
        ("add", "acme", "1.5", "--reason", "x", "--id", "y"),
        ("add", "acme", "5", "--reason", "x"),
        ("add", "acme", "5", "--id", "y"),
        ("add", "acme", "5", "--reason", " ", "--id", "y"),
        ("add", " acme", "5", "--reason", "x", "--id", "y"),
        ("adjust", "acme", "0", "--reason", "x", "--id", "y"),
        ("adjust", "acme", "5", "--reason", "x", "--id", "y", "--corrects", "z"),
        ("adjust", "acme", "5", "--reason", "x", "--id", "y", "--correct", "z"),
        ("adjust", "acme", str(2**53), "--reason", "x", "--id", "y"),
    ],
)
def test_wrong_use_exits_2_and_changes_nothing(
    quartermaster: Quartermaster, arguments: tuple[str, ...]
) -> None:
    assert quartermaster("credits", *arguments).code == 2
    assert balance(quartermaster) == 9


def test_the_same_command_at_the_same_moment_is_booked_once(
    quartermaster: Quartermaster, database_path: Any
) -> None:
    command = CreditCommand(kind=EntryKind.GRANT, org_id="acme", credits=1, reason="x", command_id="y")

    async def race() -> list[Any]:
        database = await Database.connect(f"sqlite+aiosqlite:///{database_path}")
        try:
            return await asyncio.gather(
                *(book(database, command, our_source="/quartermaster") for _ in range(5)),
                return_exceptions=True,
            )
        finally:
            await database.close()

    results = asyncio.run(race())

    assert not any(isinstance(result, CommandFailed) for result in results)
    assert sum(new for _, new in results) == 1
    assert balance(quartermaster) == 10
