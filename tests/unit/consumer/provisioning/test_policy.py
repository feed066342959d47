from decimal import Decimal
from typing import Any

import pytest

from consumer.provisioning.policy import ProvisionerPolicy
from schemas.events import OrgCreated

POLICY = ProvisionerPolicy(
    our_source="/q",
    base_url="http://proxy",
    default_initial_credits=5,
    default_max_budget_usd=Decimal("1E+2"),
    default_models=("fake",),
)


def created(**data: Any) -> OrgCreated:
    return OrgCreated.model_validate({"org_id": "o", "name": "n", "owner_user_id": "u", **data})


@pytest.mark.parametrize(
    ("data", "credits_", "budget", "models"),
    [
        ({}, 5, "100", ("fake",)),
        ({"initial_credits": 0, "max_budget_usd": "0.00", "models": []}, 0, "0.00", ()),
        ({"initial_credits": None, "max_budget_usd": None, "models": None}, 5, None, ("fake",)),
        ({"initial_credits": 9, "max_budget_usd": "2.50", "models": ["a", "b"]}, 9, "2.50", ("a", "b")),
    ],
)
def test_what_an_event_leaves_open(
    data: dict[str, Any], credits_: int, budget: str | None, models: tuple[str, ...]
) -> None:
    event = created(**data)
    assert POLICY.initial_credits(event) == credits_
    assert POLICY.max_budget_usd(event) == budget
    assert POLICY.models(event) == models


def test_a_lease_outlasts_a_call_begun_halfway_through_it() -> None:
    assert POLICY.lease_ttl >= 2 * POLICY.litellm_timeout
