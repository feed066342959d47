"""Section 3 of the contract, field by field."""

from typing import Any
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import EventType, InvalidData, JobCompleted, OrgCreated, UserJoined, read_data
from schemas.json_codec import dump_json, parse_json

LARGEST = 2**53 - 1
ORG: dict[str, Any] = {"org_id": "org-1", "name": "Acme", "owner_user_id": "user-1"}
USER: dict[str, Any] = {"org_id": "org-1", "user_id": "user-1"}
JOB: dict[str, Any] = {"org_id": "org-1", "job_id": "job-1", "status": "completed"}
MINIMAL = {EventType.ORG_CREATED: ORG, EventType.USER_JOINED: USER, EventType.JOB_COMPLETED: JOB}


def org(**changes: Any) -> OrgCreated:
    data = read_data(EventType.ORG_CREATED, ORG | changes)
    assert isinstance(data, OrgCreated)
    return data


def user(**changes: Any) -> UserJoined:
    data = read_data(EventType.USER_JOINED, USER | changes)
    assert isinstance(data, UserJoined)
    return data


def job(**changes: Any) -> JobCompleted:
    data = read_data(EventType.JOB_COMPLETED, JOB | changes)
    assert isinstance(data, JobCompleted)
    return data


def refusal(type_: EventType, **changes: Any) -> str:
    with pytest.raises(InvalidData) as refused:
        read_data(type_, MINIMAL[type_] | changes)
    return str(refused.value)


def spelled(number: str) -> Any:
    return parse_json(number.encode())


class TestIdentifiers:
    @pytest.mark.parametrize(
        "value", ["x", "x" * 255, "é" * 255, "😀" * 255, "a b", "..", "\u00a0x", "a/b%c"]
    )
    def test_taken(self, value: str) -> None:
        assert job(org_id=value, job_id=value, user_id=value).org_id == value
        assert org(owner_user_id=value).owner_user_id == value

    @pytest.mark.parametrize(
        "value",
        ["", "x" * 256, " x", "x ", " ", "a\nb", "x\n", "\tx", "\x7f", "a\x80", "a\x9fb", 5, True, ["x"], {}],
    )
    @pytest.mark.parametrize("field", ["org_id", "job_id", "user_id"])
    def test_refused(self, field: str, value: Any) -> None:
        assert refusal(EventType.JOB_COMPLETED, **{field: value}).startswith(f"data.{field}: must ")

    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
    def test_the_rule_is_the_contracts(self, value: str) -> None:
        allowed = (
            1 <= len(value) <= 255
            and all(category(each) != "Cc" for each in value)
            and value == value.strip(" ")
        )
        try:
            job(job_id=value)
        except InvalidData:
            assert not allowed
        else:
            assert allowed


class TestCounts:
    @pytest.mark.parametrize("number", ["0", "-0", "25", str(LARGEST)])
    def test_taken(self, number: str) -> None:
        assert org(initial_credits=spelled(number)).initial_credits == int(number)

    @pytest.mark.parametrize(
        "number",
        [
            "-1",
            str(LARGEST + 1),
            "9" * 4000,
            "25.0",
            "2.5e1",
            "1E2",
            "0.0",
            '"25"',
            "true",
            "[]",
            "{}",
            "1e999999",
        ],
    )
    def test_refused(self, number: str) -> None:
        value = spelled(number)
        assert refusal(EventType.ORG_CREATED, initial_credits=value).startswith(
            "data.initial_credits: must be "
        )
        usage = refusal(EventType.JOB_COMPLETED, usage={"total_tokens": value})
        assert usage.startswith("data.usage.total_tokens: must be ")


class TestOrgCreated:
    def test_optional_fields(self) -> None:
        data = org()
        assert (data.owner_email, data.initial_credits, data.models, data.metadata) == (
            None,
            None,
            None,
            None,
        )

    def test_null_equals_absent(self) -> None:
        data = org(owner_email=None, initial_credits=None, models=None, metadata=None)
        assert (data.owner_email, data.initial_credits, data.models, data.metadata) == (
            None,
            None,
            None,
            None,
        )

    def test_max_budget_usd_has_three_states(self) -> None:
        absent, null, given_ = org(), org(max_budget_usd=None), org(max_budget_usd="25.00")
        assert (absent.budget_given, absent.max_budget_usd) == (False, None)
        assert (null.budget_given, null.max_budget_usd) == (True, None)
        assert (given_.budget_given, given_.max_budget_usd) == (True, "25.00")

    @pytest.mark.parametrize(
        ("spelling", "text"),
        [
            ("0", "0"),
            ("25.00", "25.00"),
            ('"25.00"', "25.00"),
            ("2.5e1", "25"),
            ('"-0"', "0"),
            ("-0.0", "0.0"),
        ],
    )
    def test_max_budget_usd_is_taken(self, spelling: str, text: str) -> None:
        assert org(max_budget_usd=spelled(spelling)).max_budget_usd == text

    @pytest.mark.parametrize(
        "spelling",
        ["-1", '"-0.01"', "-1e-12", '"1e3"', "1e12", "1e-13", '""', "true", "[]", '"1234567890123"'],
    )
    def test_max_budget_usd_is_refused(self, spelling: str) -> None:
        assert refusal(EventType.ORG_CREATED, max_budget_usd=spelled(spelling)).startswith(
            "data.max_budget_usd: "
        )

    @pytest.mark.parametrize("models", [[], ["gpt-4o"], ["all-team-models", "x" * 255], ["m"] * 1000])
    def test_models(self, models: list[str]) -> None:
        assert org(models=models).models == models

    @pytest.mark.parametrize("models", ["gpt-4o", [""], [5], [None], ["x" * 256], ["m"] * 1001, {"a": 1}])
    def test_models_refused(self, models: Any) -> None:
        assert refusal(EventType.ORG_CREATED, models=models).startswith("data.models")

    @pytest.mark.parametrize("name", ["x", "x" * 500, " spaced\n"])
    def test_name(self, name: str) -> None:
        assert org(name=name).name == name

    @pytest.mark.parametrize("name", ["", "x" * 501, None, 5])
    def test_name_refused(self, name: Any) -> None:
        assert refusal(EventType.ORG_CREATED, name=name).startswith("data.name: must ")

    @pytest.mark.parametrize("email", ["a@b", "not an address", "x" * 320])
    def test_email(self, email: str) -> None:
        assert org(owner_email=email).owner_email == email
        assert user(email=email).email == email

    @pytest.mark.parametrize("email", ["", "x" * 321, "a@b\n", "a\x80@b", 5, ["a@b"]])
    def test_email_refused(self, email: Any) -> None:
        assert refusal(EventType.ORG_CREATED, owner_email=email).startswith("data.owner_email: must ")
        assert refusal(EventType.USER_JOINED, email=email).startswith("data.email: must ")

    @pytest.mark.parametrize("metadata", [{}, {"a": {"b": [1, None]}}])
    def test_metadata(self, metadata: Any) -> None:
        assert org(metadata=metadata).metadata == metadata

    @pytest.mark.parametrize("metadata", [[], "{}", 5])
    def test_metadata_refused(self, metadata: Any) -> None:
        assert refusal(EventType.ORG_CREATED, metadata=metadata) == "data.metadata: must be an object"


class TestUserJoined:
    @pytest.mark.parametrize(
        ("role", "recorded"), [("member", "member"), ("admin", "admin"), (None, "member")]
    )
    def test_role(self, role: str | None, recorded: str) -> None:
        assert user(role=role).role == recorded

    def test_role_by_default(self) -> None:
        assert user().role == "member"

    @pytest.mark.parametrize("role", ["owner", "", "Member", 5, []])
    def test_role_refused(self, role: Any) -> None:
        assert refusal(EventType.USER_JOINED, role=role) == "data.role: must be one of 'member' or 'admin'"

    def test_max_budget_usd(self) -> None:
        assert user().max_budget_usd is None
        assert user(max_budget_usd=None).max_budget_usd is None
        assert user(max_budget_usd=0).max_budget_usd == "0"


class TestJobCompleted:
    @pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
    def test_status(self, status: str) -> None:
        assert job(status=status).status == status

    @pytest.mark.parametrize("status", ["done", "", "COMPLETED", None, 5])
    def test_status_refused(self, status: Any) -> None:
        assert refusal(EventType.JOB_COMPLETED, status=status).startswith("data.status: must be one of ")

    def test_usage_keeps_every_digit(self) -> None:
        usage = job(
            usage=spelled('{"total_calls":3,"avg_latency_ms":812.50,"total_cost_usd":0.10,"x":1}')
        ).usage
        assert usage is not None
        assert usage.total_calls == 3
        assert repr(usage.avg_latency_ms) == "Decimal('812.50')"
        assert usage.total_cost_usd == "0.10"

    def test_null_equals_absent_within_usage(self) -> None:
        assert (
            job(usage={"total_calls": None, "total_cost_usd": None, "avg_latency_ms": None}).usage
            == job(usage={}).usage
        )

    @pytest.mark.parametrize("number", ["0", "5", "0.0", "1e3", "123456789012345678901234567890.5"])
    def test_latency(self, number: str) -> None:
        usage = job(usage={"avg_latency_ms": spelled(number)}).usage
        assert usage is not None
        assert usage.avg_latency_ms == spelled(number)

    @pytest.mark.parametrize("number", ["-1", "-0.1", '"5"', "true", "[]"])
    def test_latency_refused(self, number: str) -> None:
        text = refusal(EventType.JOB_COMPLETED, usage={"avg_latency_ms": spelled(number)})
        assert text == "data.usage.avg_latency_ms: must be a number >= 0"

    @pytest.mark.parametrize("usage", [[], "x", 5])
    def test_usage_refused(self, usage: Any) -> None:
        assert refusal(EventType.JOB_COMPLETED, usage=usage) == "data.usage: must be an object"

    @pytest.mark.parametrize("field", ["started_at", "completed_at"])
    def test_times(self, field: str) -> None:
        assert getattr(job(**{field: "2026-01-02t03:04:05+02:00"}), field) == "2026-01-02t03:04:05+02:00"
        for wrong in ("yesterday", "2026-02-30T00:00:00Z", "", 1700000000):
            assert refusal(EventType.JOB_COMPLETED, **{field: wrong}).startswith(f"data.{field}: must be ")


@pytest.mark.parametrize("type_", list(EventType))
class TestEveryEvent:
    def test_every_required_field_is_asked_for(self, type_: EventType) -> None:
        with pytest.raises(InvalidData) as refused:
            read_data(type_, {})
        assert sorted(str(refused.value).split("; ")) == sorted(
            f"data.{name}: is required" for name in MINIMAL[type_]
        )

    def test_no_required_field_may_be_null(self, type_: EventType) -> None:
        for name in MINIMAL[type_]:
            assert refusal(type_, **{name: None}).startswith(f"data.{name}: must be ")

    def test_unknown_fields_are_ignored(self, type_: EventType) -> None:
        assert read_data(type_, MINIMAL[type_] | {"unheard_of": 1}) == read_data(type_, MINIMAL[type_])

    @pytest.mark.parametrize("name", ["team_id", "model_groups", "billing", "limits", "credits"])
    def test_reserved_names_are_refused_unless_null(self, type_: EventType, name: str) -> None:
        assert refusal(type_, **{name: 1}) == f"data: must not use the reserved names {name}"
        assert refusal(type_, **{name: False}) == f"data: must not use the reserved names {name}"
        assert read_data(type_, MINIMAL[type_] | {name: None}) == read_data(type_, MINIMAL[type_])

    def test_reserved_names_are_free_within_other_objects(self, type_: EventType) -> None:
        read_data(type_, MINIMAL[type_] | {"metadata": {"credits": 1}})


def test_several_errors_stand_in_one_line() -> None:
    text = refusal(EventType.JOB_COMPLETED, org_id=5, usage={"total_calls": -1}, job_id=" x")
    assert text == (
        "data.job_id: must not contain control characters, nor begin or end with a space; "
        "data.org_id: must be a string; data.usage.total_calls: must be >= 0"
    )


def test_an_error_has_an_end() -> None:
    text = refusal(EventType.ORG_CREATED, models=[1] * 1000)
    assert len(text) == 500
    assert text.startswith("data.models[0]: must be a string; data.models[1]: ")
    assert text.endswith("...")


def test_data_can_be_given_as_read_from_json() -> None:
    assert read_data(EventType.JOB_COMPLETED, parse_json(dump_json(JOB))) == job()  # type: ignore[arg-type]
