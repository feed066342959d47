from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from consumer.litellm.models import Key, Membership, Team, TeamInfo
from consumer.provisioning.comparison import (
    KeyAim,
    TeamAim,
    key_changes,
    member_budget_stands,
    member_of_others,
    same_amount,
    team_changes,
    used_by_others,
)
from consumer.provisioning.marks import Mark

MARK = Mark("/q", "org", UUID(int=1), "hash")
AIM = TeamAim("org", "Acme", Decimal("25.10"), ("a", "b"), MARK)
KEY = KeyAim("hash", "alias", "org", "ann")


def team(**changes: Any) -> Team:
    fields: dict[str, Any] = {
        "team_id": "org",
        "team_alias": "Acme",
        "max_budget": Decimal("25.1"),
        "blocked": None,
        "models": ["b", "a"],
        "metadata": MARK.added_to({"logging": 1}),
    }
    return Team.model_validate({**fields, **changes})


def key(**changes: Any) -> Key:
    fields: dict[str, Any] = {
        "token": "hash",
        "key_alias": "alias",
        "team_id": "org",
        "user_id": "ann",
        "allowed_routes": ["llm_api_routes"],
        "models": [],
        "blocked": None,
    }
    return Key.model_validate({**fields, **changes})


def test_a_team_as_asked_for_needs_no_change() -> None:
    assert team_changes(AIM, team()) == {}


@pytest.mark.parametrize(
    ("standing", "changes"),
    [
        ({"team_alias": "Other"}, {"team_alias": "Acme"}),
        ({"max_budget": 7}, {"max_budget": Decimal("25.10")}),
        ({"max_budget": None}, {"max_budget": Decimal("25.10")}),
        ({"blocked": True}, {"blocked": False}),
        ({"models": []}, {"models": ("a", "b")}),
        ({"metadata": {"logging": 1}}, {"metadata": MARK.added_to({"logging": 1})}),
    ],
)
def test_what_differs_of_a_team_is_changed(standing: dict[str, Any], changes: dict[str, Any]) -> None:
    assert team_changes(AIM, team(**standing)) == changes


def test_no_limit_is_asked_for_by_name() -> None:
    aim = TeamAim("org", "Acme", None, ("a", "b"), MARK)
    assert team_changes(aim, team(max_budget=7)) == {"max_budget": None}
    assert not aim.blocked


@pytest.mark.parametrize("budget", ["0", "0.00", "-0"])
def test_a_budget_of_nothing_blocks(budget: str) -> None:
    assert TeamAim("org", "Acme", Decimal(budget), (), MARK).blocked


def test_a_key_as_asked_for_needs_no_change() -> None:
    assert key_changes(KEY, key()) == {}


@pytest.mark.parametrize(
    ("standing", "changes"),
    [
        ({"key_alias": "first"}, {"key_alias": "alias"}),
        ({"user_id": None}, {"user_id": "ann"}),
        ({"team_id": "other"}, {"team_id": "org"}),
        ({"allowed_routes": []}, {"allowed_routes": ("llm_api_routes",)}),
        ({"max_budget": 2}, {"max_budget": None}),
        ({"budget_duration": "30d"}, {"budget_duration": None}),
        ({"expires": "2030-01-01T00:00:00Z"}, {"duration": None}),
        ({"models": ["fake"]}, {"models": ()}),
        ({"blocked": True}, {"blocked": False}),
    ],
)
def test_what_differs_of_a_key_is_changed(standing: dict[str, Any], changes: dict[str, Any]) -> None:
    assert key_changes(KEY, key(**standing)) == changes


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (None, None, True),
        (None, Decimal(0), False),
        (Decimal("25.00"), Decimal("25.0"), True),
        (Decimal("0.1"), Decimal("0.1000000000000000055"), True),
        (Decimal("999999999999.123456789012"), Decimal("999999999999.1234"), True),
        (Decimal("0.1"), Decimal("0.11"), False),
    ],
)
def test_amounts_are_the_same_where_litellm_keeps_them_the_same(
    one: Decimal | None, other: Decimal | None, *, same: bool
) -> None:
    assert same_amount(one, other) is same


@pytest.mark.parametrize(
    ("stands", "source", "asked", "of_others"),
    [
        ("3", "custom", "3.00", False),
        (None, "none", None, False),
        ("3", "custom", "4", True),
        ("3", "team_default", "4", True),
        (None, "none", "4", True),
        ("3", "custom", None, True),
        ("3", "team_default", None, False),
        ("3", None, None, False),
    ],
)
def test_a_budget_nobody_asked_for_shows_whose_a_member_is(
    stands: str | None, source: str | None, asked: str | None, *, of_others: bool
) -> None:
    row = Membership.model_validate(
        {"team_id": "org", "user_id": "ann", "max_budget": stands, "budget_source": source}
    )
    assert member_of_others(row, None if asked is None else Decimal(asked)) is of_others
    assert not member_of_others(None, Decimal(4))


def test_no_membership_row_is_no_budget() -> None:
    row = Membership.model_validate(
        {"team_id": "org", "user_id": "ann", "litellm_budget_table": {"max_budget": 0}}
    )
    assert member_budget_stands(None, None)
    assert not member_budget_stands(None, Decimal(0))
    assert member_budget_stands(row, Decimal(0))
    assert not member_budget_stands(row, None)


@pytest.mark.parametrize(
    ("members", "keys", "used"),
    [
        (["owner", "default_user_id"], ["ours"], False),
        (["default_user_id"], [], False),
        (["owner", "somebody"], ["ours"], True),
        (["owner"], ["ours", "theirs"], True),
        (["owner", None], ["ours"], True),
    ],
)
def test_a_team_with_members_or_keys_of_others_is_in_use(
    members: list[str | None], keys: list[str], *, used: bool
) -> None:
    info = TeamInfo.model_validate(
        {
            "team_id": "org",
            "team_info": {
                "team_id": "org",
                "members_with_roles": [{"user_id": user, "role": "user"} for user in members],
            },
            "keys": [{"token": token} for token in keys],
        }
    )
    assert used_by_others(info, our_users={"owner"}, our_keys={"ours"}) is used
