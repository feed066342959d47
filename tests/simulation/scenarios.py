"""The scenarios whose every edge is tried: small, so that all of them can be, and each with its own trap."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.litellm import Hit, Trouble
from tests.simulation.world import World

Story = Callable[[World], Awaitable[None]]

FOR_EVER = 1_000_000


async def _nothing(_world: World) -> None:
    """Begin with an empty world."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens in a world, up to its rest.

    Attributes:
        name: As people say it.
        story: What upstream publishes, and when.
        before: What stands already; its edges are not tried.
        hits: What befalls calls to LiteLLM, from the story's beginning on.
        settings: Other settings than the simulation's own.
        tells: How many outcomes of each type are to be told in the end, the beginning's included.
    """

    name: str
    story: Story
    tells: Mapping[str, int]
    before: Story = _nothing
    hits: tuple[Hit, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def _org(world: World, id_: str = "o1", org: str = "acme", **data: Any) -> None:
    wanted = {"name": "Acme", "owner_user_id": "olga", "initial_credits": 3, "max_budget_usd": "25.00"}
    world.publish("org.created", id_, {"org_id": org, **wanted, **data})


def _user(world: World, id_: str = "u1", user: str = "ann", org: str = "acme", **data: Any) -> None:
    world.publish("user.joined", id_, {"org_id": org, "user_id": user, **data})


def _job(world: World, id_: str = "j1", job: str = "one", org: str = "acme", **data: Any) -> None:
    world.publish("job.completed", id_, {"org_id": org, "job_id": job, "status": "completed", **data})


async def _an_organization(world: World) -> None:
    _org(world)
    await world.rest()


async def _new_organization(world: World) -> None:
    _org(world, owner_email="olga@example.org")


async def _new_user(world: World) -> None:
    _user(world, email="ann@example.org", max_budget_usd="1.5")


async def _plain_user(world: World) -> None:
    _user(world)


async def _jobs(world: World) -> None:
    _job(world, "j1", "one")
    _job(world, "j2", "two", status="failed")
    _job(world, "j3", "three")


async def _everything_before_the_organization(world: World) -> None:
    _job(world, "j1", "one")
    _job(world, "j2", "two")
    _user(world)
    await world.until(lambda: world.rows("select count(*) from inbox") == [(3,)] or world.at_rest())
    _org(world, initial_credits=1)


async def _duplicates_and_conflicts(world: World) -> None:
    _job(world, "j1", "one")
    _job(world, "j1", "one")
    await world.rest()
    _job(world, "j1", "one")
    _job(world, "j1", "another")
    world.broker.produce("job.completed", b"{", key=b"acme")


async def _second_event_for_a_job(world: World) -> None:
    _job(world, "j1", "one", status="failed")
    _job(world, "j2", "one")
    _job(world, "j3", "one")


async def _more_jobs_than_credits(world: World) -> None:
    for n in range(5):
        _job(world, f"j{n}", f"job {n}")


async def _second_organization_event(world: World) -> None:
    _org(world, "o1")
    _org(world, "o2", name="Other")
    _user(world, "u0", "olga")


async def _nobody_comes(world: World) -> None:
    _user(world)
    _job(world)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("new organization", _new_organization, {"org.provisioned": 1}),
    Scenario(
        "new user with e-mail and budget",
        _new_user,
        {"org.provisioned": 1, "user.provisioned": 1},
        before=_an_organization,
    ),
    Scenario("new user", _plain_user, {"org.provisioned": 1, "user.provisioned": 1}, before=_an_organization),
    Scenario(
        "jobs",
        _jobs,
        {"org.provisioned": 1, "credits.deducted": 2, "credits.deduction_skipped": 1},
        before=_an_organization,
    ),
    Scenario(
        "jobs and a user before the organization",
        _everything_before_the_organization,
        {
            "org.provisioned": 1,
            "user.provisioned": 1,
            "credits.deducted": 1,
            "credits.deduction_failed": 1,
        },
    ),
    Scenario(
        "failed organization, compensated",
        _new_organization,
        {"org.provisioning_failed": 1},
        hits=(Hit(Trouble.REJECTED, "/key/generate", times=FOR_EVER),),
    ),
    Scenario(
        "failed user, compensated",
        _plain_user,
        {"org.provisioned": 1, "user.provisioning_failed": 1},
        before=_an_organization,
        hits=(Hit(Trouble.REJECTED, "/key/generate", times=FOR_EVER),),
    ),
    Scenario(
        "organization given up when its retry time ran out, its jobs with it",
        _everything_before_the_organization,
        {
            "org.provisioning_failed": 1,
            "user.provisioning_failed": 1,
            "credits.deduction_failed": 2,
        },
        hits=(Hit(Trouble.FAILED_BEFORE, "/key/generate", times=FOR_EVER),),
        settings={"retry_for": 3.0, "dependency_wait": 20.0},
    ),
    Scenario(
        "duplicate, conflicting and broken events",
        _duplicates_and_conflicts,
        {"org.provisioned": 1, "credits.deducted": 1},
        before=_an_organization,
    ),
    Scenario(
        "second events for a job",
        _second_event_for_a_job,
        {"org.provisioned": 1, "credits.deducted": 1, "credits.deduction_skipped": 2},
        before=_an_organization,
    ),
    Scenario(
        "more jobs than credits",
        _more_jobs_than_credits,
        {"org.provisioned": 1, "credits.deducted": 3, "credits.deduction_failed": 2},
        before=_an_organization,
    ),
    Scenario(
        "key lost in the answer",
        _new_organization,
        {"org.provisioned": 1},
        hits=(Hit(Trouble.LOST_AFTER, "/key/generate"),),
    ),
    Scenario(
        "team lost in the answer",
        _new_organization,
        {"org.provisioned": 1},
        hits=(Hit(Trouble.FAILED_AFTER, "/team/new"),),
    ),
    Scenario(
        "user's key lost in the answer",
        _plain_user,
        {"org.provisioned": 1, "user.provisioned": 1},
        before=_an_organization,
        hits=(Hit(Trouble.LOST_AFTER, "/key/generate"),),
    ),
    Scenario(
        "a second event for the organization, and its owner's own",
        _second_organization_event,
        {"org.provisioned": 2, "user.provisioned": 1},
    ),
    Scenario(
        "an organization that never comes",
        _nobody_comes,
        {"user.provisioning_failed": 1, "credits.deduction_failed": 1},
        settings={"dependency_wait": 3.0},
    ),
)
