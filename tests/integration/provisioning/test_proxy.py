"""The same against whatever proxy the tests were given: LiteLLM itself, or the stand-in."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from consumer.litellm.client import LiteLLMClient
from consumer.litellm.errors import Doubtful, NotFound
from consumer.provisioning.policy import ProvisionerPolicy
from consumer.provisioning.pool import Provisioner
from consumer.standin import StandIn
from storage.database import Database
from storage.virtual_keys import KeyVault
from tests.integration.provisioning.world import OUR_SOURCE, Time, World, org_created, user_joined
from tests.parts.litellm import Proxy

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"])


@dataclass
class Losing:
    """A client whose n-th call is carried out and then loses its answer."""

    client: LiteLLMClient
    lose: int
    calls: int = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            number = self.calls
            answer = await method(*args, **kwargs)
            if number == self.lose:
                raise Doubtful(f"/{name}", "the answer was lost")
            return answer

        return call


@pytest.fixture
async def real(database: Database, litellm: Proxy) -> AsyncIterator[World]:
    async with LiteLLMClient.connect(litellm.url, litellm.key, timeout_s=20.0) as client:
        yield World(
            database=database,
            standin=StandIn(),  # not started: nothing here may lean on it
            client=client,
            time=Time(),
            vault=KeyVault([Fernet.generate_key().decode()]),
            policy=ProvisionerPolicy(our_source=OUR_SOURCE, base_url=litellm.url),
        )


def losing(world: World, lose: int) -> Provisioner:
    client: Any = Losing(world.client, lose)
    return Provisioner(
        world.database,
        client,
        world.gate,
        world.vault,
        world.policy,
        on_outcomes=lambda: None,
        on_activated=lambda _org_id: None,
        clock=world.time.database,
        monotonic=world.time.monotonic,
        random=lambda: 0.5,
    )


async def run(world: World) -> None:
    for _ in range(5):
        await world.settle()
        await world.provisioner.sweep_once()
        world.time.passes(10)


@pytest.mark.parametrize("lose", range(5))
async def test_an_organization_and_its_users(real: World, lose: int) -> None:
    org = f"org-{uuid4()}"
    ann, bob, owner = (f"{name}-{uuid4()}" for name in ("ann", "bob", "owner"))
    organization = org_created(
        org,
        owner_user_id=owner,
        owner_email=f"{owner}@example.com",
        max_budget_usd="12.50",
        models=["fake"],
    )
    await real.take(organization)
    real.provisioner = losing(real, lose)
    await run(real)
    type_, data = await real.outcome_of(organization)
    assert (type_, data["created"], data["owner"]["email_set"]) == ("org.provisioned", True, True)
    assert data["attempts"] == (2 if lose else 1)

    joined = user_joined(ann, org_id=org, max_budget_usd="3")
    await real.take(joined)
    real.provisioner = losing(real, lose)
    await run(real)
    mailed = user_joined(bob, org_id=org, email=f"{bob}@example.com", max_budget_usd=0)
    await real.take(mailed)
    real.provisioner = losing(real, lose)
    await run(real)

    info = await real.client.team_info(org)
    assert (info.team.max_budget, info.team.models, info.team.blocked) == (Decimal("12.5"), ("fake",), False)
    assert {str(member.user_id) for member in info.team.members} == {ann, bob, owner, "default_user_id"}
    assert sorted(str(key.user_id) for key in info.keys) == sorted([ann, bob, owner])
    assert all(key.allowed_routes == ("llm_api_routes",) for key in info.keys)
    for cause, budget in ((joined, 3), (mailed, 0)):
        type_, data = await real.outcome_of(cause)
        assert type_ == "user.provisioned"
        assert info.key(data["key"]["hash"]) is not None
        membership = info.membership(data["user_id"])
        assert membership is not None
        assert membership.max_budget == budget
    assert (await real.outcome_of(mailed))[1]["email_set"] is True


async def test_what_failed_is_taken_back_and_may_be_tried_again(real: World) -> None:
    org, owner = f"org-{uuid4()}", f"owner-{uuid4()}"
    real.restart(retry_for=real.policy.retry_for * 0)
    cause = org_created(org, owner_user_id=owner)
    await real.take(cause)
    real.provisioner = losing(real, 3)
    await run(real)
    type_, data = await real.outcome_of(cause)
    assert type_ == "org.provisioning_failed"
    assert (data["compensation"], data["orphans"]) == ("done", [])
    with pytest.raises(NotFound):
        await real.client.team_info(org)

    await real.retry_failed(org)
    await run(real)
    told = await real.told()
    assert [type_ for type_, _ in told] == ["org.provisioning_failed", "org.provisioned"]
    info = await real.client.team_info(org)
    assert [key.hash for key in info.keys] == [told[-1][1]["owner"]["key"]["hash"]]
    assert await real.resources(org) != []
    assert {one.state.value for one in await real.resources(org)} == {"in_use"}
