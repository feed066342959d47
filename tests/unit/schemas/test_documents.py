"""The documents agree with the code: neither may say what the other does not."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas import documents
from schemas.events import RESERVED_NAMES, EventType
from schemas.outcomes import OutcomeType

JOB: dict[str, Any] = {"org_id": "o", "job_id": "j", "status": "completed"}
EVENTS: dict[EventType, dict[str, Any]] = {
    EventType.ORG_CREATED: {
        "org_id": "o",
        "name": "n",
        "owner_user_id": "u",
        "owner_email": None,
        "initial_credits": 5,
        "max_budget_usd": None,
        "models": [],
        "metadata": {"any": ["thing"]},
    },
    EventType.USER_JOINED: {"org_id": "o", "user_id": "u", "role": None, "max_budget_usd": 2.5, "unknown": 1},
    EventType.JOB_COMPLETED: JOB
    | {"usage": {"total_cost_usd": "0.1"}, "completed_at": "2026-01-02T03:04:05Z"},
}
KEY = {"name": "default", "alias": "qm-1", "hash": "0" * 64}
ORG_FAILED: dict[str, Any] = {
    "org_id": "o",
    "step": "team",
    "error_code": "one_to_come",
    "message": "",
    "attempts": 1,
    "duration_ms": 5,
    "compensation": "done",
    "orphans": [{"kind": "team", "id": "o"}],
}
USER_DONE: dict[str, Any] = {
    "org_id": "o",
    "user_id": "u",
    "team_id": "o",
    "created": True,
    "email_set": False,
    "key": KEY,
    "base_url": "http://localhost:4000",
    "attempts": 1,
    "duration_ms": 5,
}
FACTS = JOB | {
    "account_id": "o",
    "occurred_at": "2026-01-02T03:04:05Z",
    "decided_at": "2026-01-02T03:04:05Z",
}
ENTRY: dict[str, Any] = {
    "org_id": "o",
    "account_id": "o",
    "transaction_id": "00000000-0000-5000-8000-000000000000",
    "credits": -5,
    "reason": "r",
    "balance_before": 10,
    "balance_after": 5,
}
OUTCOMES: dict[OutcomeType, dict[str, Any]] = {
    OutcomeType.ORG_PROVISIONED: {
        **{name: value for name, value in USER_DONE.items() if name not in {"user_id", "email_set", "key"}},
        "name": "n",
        "adopted": False,
        "max_budget_usd": None,
        "models": [],
        "account_id": "o",
        "credits_balance": 0,
        "owner": {"user_id": "u", "email_set": False, "key": KEY | {"encrypted": "a.b.c.d.e"}},
    },
    OutcomeType.ORG_PROVISIONING_FAILED: ORG_FAILED,
    OutcomeType.USER_PROVISIONED: USER_DONE,
    OutcomeType.USER_PROVISIONING_FAILED: ORG_FAILED | {"user_id": "u"},
    OutcomeType.CREDITS_DEDUCTED: FACTS
    | {
        "transaction_id": ENTRY["transaction_id"],
        "credits": 1,
        "balance_before": 1,
        "balance_after": 0,
        "sequence": 1,
    },
    OutcomeType.CREDITS_DEDUCTION_SKIPPED: FACTS | {"reason": "one_to_come", "credits_balance": 0},
    OutcomeType.CREDITS_DEDUCTION_FAILED: FACTS
    | {"reason": "org_not_found", "required": 1, "available": None},
    OutcomeType.CREDITS_GRANTED: ENTRY,
    OutcomeType.CREDITS_ADJUSTED: ENTRY | {"corrects": ENTRY["transaction_id"]},
}
ALL: dict[EventType | OutcomeType, dict[str, Any]] = {
    **dict(EVENTS.items()),
    **dict(OUTCOMES.items()),
}


def valid(schema: dict[str, Any], value: object) -> bool:
    return bool(Draft202012Validator(schema).is_valid(value))


def test_the_documents_are_what_the_code_says() -> None:
    assert documents.differences() == [], "run python -m schemas.documents"


@pytest.mark.parametrize("name", [name for name in documents.documents() if name.endswith(".schema.json")])
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(json.loads(documents.documents()[name]))


@pytest.mark.parametrize("type_", list(ALL))
def test_takes_what_the_contract_shows(type_: EventType | OutcomeType) -> None:
    Draft202012Validator(documents.data_schema(type_)).validate(ALL[type_])


@pytest.mark.parametrize("type_", list(ALL))
def test_nothing_required_is_missing_from_the_schema(type_: EventType | OutcomeType) -> None:
    schema = documents.data_schema(type_)
    for name in schema["required"]:
        assert not valid(schema, {key: value for key, value in ALL[type_].items() if key != name})


@pytest.mark.parametrize("type_", list(ALL))
def test_readers_pass_over_unknown_fields(type_: EventType | OutcomeType) -> None:
    assert valid(documents.data_schema(type_), ALL[type_] | {"one_to_come": 1})


@pytest.mark.parametrize("type_", list(EVENTS))
@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_reserved_names_stand_in_the_schemas(type_: EventType, name: str) -> None:
    schema = documents.data_schema(type_)
    assert not valid(schema, EVENTS[type_] | {name: 1})
    assert valid(schema, EVENTS[type_] | {name: None})


def test_a_field_an_outcome_may_lack_is_never_null() -> None:
    schema = documents.data_schema(OutcomeType.CREDITS_DEDUCTED)
    assert not valid(schema, OUTCOMES[OutcomeType.CREDITS_DEDUCTED] | {"user_id": None})


@pytest.mark.parametrize(
    "change",
    [
        {"org_id": " o"},
        {"org_id": "a\x80"},
        {"max_budget_usd": "-1"},
        {"max_budget_usd": -1},
        {"initial_credits": -1},
    ],
)
def test_refuses_what_the_code_refuses(change: dict[str, Any]) -> None:
    schema = documents.data_schema(EventType.ORG_CREATED)
    assert not valid(schema, EVENTS[EventType.ORG_CREATED] | change)


def test_asyncapi_names_every_topic_and_type() -> None:
    document = documents.asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert {name: list(channel["messages"]) for name, channel in document["channels"].items()} == {
        "org.created": ["org.created"],
        "user.joined": ["user.joined"],
        "job.completed": ["job.completed"],
        "provisioning.outcomes": [type_.value for type_ in OutcomeType if not type_.startswith("credits")],
        "credits.outcomes": [type_.value for type_ in OutcomeType if type_.startswith("credits")],
        "quartermaster.dead-letters": ["dead_letter"],
    }


def test_every_reference_in_asyncapi_leads_somewhere() -> None:
    document = documents.asyncapi()

    def follow(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                target: Any = document
                for part in reference.removeprefix("#/").split("/"):
                    target = target[part]
            for member in value.values():
                follow(member)
        elif isinstance(value, list):
            for item in value:
                follow(item)

    follow(document)


@pytest.mark.parametrize("type_", list(EVENTS))
def test_a_message_is_the_whole_event(type_: EventType) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": type_.value, "data": EVENTS[type_]}
    schema = documents.message_schema(type_)
    assert valid(schema, event)
    assert not valid(schema, event | {"type": "another"})
    assert not valid(schema, event | {"data": {}})


def test_stale_missing_and_surplus_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "generated"
    assert documents.differences(folder) == sorted(documents.documents())
    documents.write(folder)
    assert documents.differences(folder) == []
    (folder / "asyncapi.json").write_text("{}")
    (folder / "surplus.json").write_text("{}")
    (folder / "org.created.schema.json").unlink()
    assert documents.differences(folder) == ["asyncapi.json", "org.created.schema.json", "surplus.json"]
    documents.write(folder)
    assert documents.differences(folder) == []


def test_check_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(documents, "differences", lambda: ["asyncapi.json"])
    monkeypatch.setattr(documents, "write", lambda: pytest.fail("written"))
    assert documents.main(["--check"]) == 1
    assert "asyncapi.json is not what the code says" in capsys.readouterr().err
    assert documents.main(["--nonsense"]) == 2


def test_without_arguments_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bool] = []
    monkeypatch.setattr(documents, "write", lambda: written.append(True))
    assert documents.main([]) == 0
    assert written == [True]


def test_a_folder_that_agrees_passes_the_check() -> None:
    assert documents.main(["--check"]) == 0
