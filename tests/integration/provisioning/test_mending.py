"""The proxy's own defaults put something else in the place of what was asked for: it is mended."""

from typing import Any

import pytest

from consumer.standin import ProxySettings
from consumer.standin.records import Membership
from consumer.standin.state import State
from tests.integration.provisioning.world import World, org_created, user_joined

DEFAULTS: dict[str, dict[str, Any]] = {
    "team budget": {"default_team_params": {"max_budget": 7, "budget_duration": "30d"}},
    "key budget": {"default_key_generate_params": {"max_budget": 2}},
    "key expiry": {"upperbound_key_generate_params": {"max_budget": 3, "duration": "30d"}},
    "users": {"default_internal_user_params": {"max_budget": 1, "models": ["fake2"]}},
}


@pytest.mark.parametrize("defaults", DEFAULTS)
async def test_defaults_are_mended(world: World, defaults: str) -> None:
    world.standin.state.settings = ProxySettings(**DEFAULTS[defaults])
    organization, user, mailed = (
        org_created(max_budget_usd=None, models=["fake"]),
        user_joined("ann"),
        user_joined("bob", email="b@c.d"),
    )
    await world.take(organization, user, mailed)
    await world.settle()

    assert [type_ for type_, _ in await world.told()] == ["org.provisioned", *["user.provisioned"] * 2]
    assert [data["attempts"] for _, data in await world.told()] == [1, 1, 1]
    team = world.standin.state.teams["org"]
    assert (team.max_budget, team.budget_duration, team.blocked) == (None, None, False)
    assert team.models == ["fake"]
    keys = world.live_keys()
    assert len(keys) == 3
    assert all((key.max_budget, key.expires, key.models) == (None, None, []) for key in keys)
    assert all(key.allowed_routes == ["llm_api_routes"] for key in keys)


@pytest.mark.parametrize("email", [None, "ann@b.c"])
async def test_a_teams_default_for_its_members_is_mended(
    world: World, monkeypatch: pytest.MonkeyPatch, email: str | None
) -> None:
    await world.take(org_created())
    await world.settle()
    real = State.make_member

    def with_default(*args: Any, **kwargs: Any) -> Membership:
        row = real(*args, **kwargs)
        row.budget_id, row.max_budget = "team-default", 5.0
        return row

    monkeypatch.setattr(State, "make_member", with_default)
    cause = user_joined(email=email)
    await world.take(cause)
    await world.settle()
    assert (await world.outcome_of(cause))[0] == "user.provisioned"
    assert world.standin.state.memberships["org", "ann"].max_budget is None


async def test_a_proxy_that_does_not_keep_what_is_written_is_given_up(world: World) -> None:
    class Stubborn(dict[str, Any]):
        def get(self, key: Any, default: Any = None) -> Any:
            return super().get(key, default)

    world.restart(retry_for=world.policy.retry_for / 60)
    cause = org_created()
    real = world.client.team_info

    async def lies(team_id: str) -> Any:
        info = await real(team_id)
        return info.model_copy(update={"team": info.team.model_copy(update={"blocked": True})})

    world.client.team_info = lies  # type: ignore[method-assign]
    await world.take(cause)
    await world.run_for(60)
    type_, data = await world.outcome_of(cause)
    assert type_ == "org.provisioning_failed"
    assert (data["step"], data["error_code"], data["compensation"]) == (
        "verification",
        "litellm_unavailable",
        "done",
    )
    assert world.standin.state.teams == {}
