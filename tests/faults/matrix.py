"""What is broken where: scenarios that make every call the product knows, and each fault at each of them."""

import asyncio
import contextlib
import dataclasses
import math
import random
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from consumer.litellm.errors import LiteLLMError
from consumer.provisioning.keys import key_alias
from consumer.provisioning.marks import Mark
from storage.database import Database
from tests.faults.fault_proxy import ANY, PROBE, Fault, FaultProxy, Kind
from tests.faults.matrix_world import PATIENT_S, CellWorld, End, TeamEnd, cell_world, observed
from tests.integration.provisioning.world import OUR_SOURCE

ENDPOINTS: Final = (
    "/team/new",
    "/team/info",
    "/team/update",
    "/team/delete",
    "/team/member_add",
    "/team/member_update",
    "/team/member_delete",
    "/user/new",
    "/v2/user/info",
    "/key/generate",
    "/key/info",
    "/key/update",
    "/key/delete",
    PROBE,
)
"""All that the client calls; a test holds this against the client."""

Step = Callable[[CellWorld], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """Something the product does, from the state it finds to what stands at the end.

    Attributes:
        prepare: What was there before; nothing is broken yet.
        act: What comes in.
        trace: The calls that follow where nothing is broken.
        end: What stands afterwards, whatever was broken on the way.
    """

    name: str
    prepare: Step
    act: Step
    trace: tuple[str, ...]
    end: End


@dataclass(frozen=True)
class Cell:
    """A scenario, and what breaks in it: faults made anew for each run."""

    scenario: Scenario
    faults: Callable[[], list[Fault]]

    def __str__(self) -> str:
        return f"{self.scenario.name}: {', then '.join(map(str, self.faults()))}"


# -- what was there before ---------------------------------------------------------------------------------


async def nothing(_world: CellWorld) -> None:
    """Nothing was there."""


async def an_organization(world: CellWorld) -> None:
    await world.take(world.organization())
    await world.live()
    assert await world.status(world.org) == "active"


async def theirs(world: CellWorld, *members: str, metadata: Mapping[str, Any] | None = None) -> None:
    """A team that somebody else made, with a key of its own."""
    await world.admin.team_new(
        world.org,
        team_alias="Theirs",
        max_budget=Decimal(9),
        blocked=False,
        models=["fake2"],
        metadata=metadata or {"logging": "theirs"},
        members=[world.name("theirs"), *members],
    )
    await their_key(world, "theirs", f"theirs-{world.suffix}")


async def their_key(world: CellWorld, role: str, alias: str) -> None:
    key = f"sk-{alias[-16:]}-{world.suffix}"
    await world.admin.key_generate(key, key_alias=alias, team_id=world.org, user_id=world.name(role))


async def adopting(world: CellWorld) -> None:
    world.restart(adopt_existing=True)
    await theirs(world)


async def adopting_with_the_owner(world: CellWorld) -> None:
    world.restart(adopt_existing=True)
    await theirs(world, world.name("owner"))


async def an_adopted_organization(world: CellWorld) -> None:
    await adopting(world)
    await an_organization(world)


async def an_adopted_organization_with_a_member(world: CellWorld) -> None:
    await an_adopted_organization(world)
    await world.admin.member_add(world.org, world.name("ann"), max_budget_in_team=Decimal(2))


async def a_known_owner(world: CellWorld) -> None:
    await world.admin.user_new(world.name("owner"), user_email=world.email("old"))


async def a_known_user(world: CellWorld) -> None:
    await an_organization(world)
    await world.admin.user_new(world.name("ann"), user_email=world.email("old"))


async def a_taken_email(world: CellWorld) -> None:
    await an_organization(world)
    await world.admin.user_new(world.name("bob"), user_email=world.email("ann"))


async def a_member_added_by_hand(world: CellWorld) -> None:
    await an_organization(world)
    await world.admin.member_add(world.org, world.name("ann"), max_budget_in_team=Decimal(2))


async def defaults_of_litellm(world: CellWorld) -> None:
    """LiteLLM's settings put budgets and limits where none were asked for, and a team loses its member."""

    def new_team(body: dict[str, Any]) -> None:
        body.update(members_with_roles=[], max_budget=7, budget_duration="30d", blocked=True)

    def new_member(body: dict[str, Any]) -> None:
        body["max_budget_in_team"] = 5

    world.wire.tampers["/team/new"] = new_team
    world.wire.tampers["/team/member_add"] = new_member
    world.wire.tampers["/key/generate"] = keys_get_budgets


def keys_get_budgets(body: dict[str, Any]) -> None:
    body["max_budget"] = 2


async def an_organization_and_defaults(world: CellWorld) -> None:
    """Its team has a default for what members may spend."""
    await an_organization(world)
    world.wire.tampers["/key/generate"] = keys_get_budgets
    await world.wire.proxy.write("/team/update", {"team_id": world.org, "team_member_budget": 5})


async def mending_refused(world: CellWorld) -> None:
    """A key that LiteLLM stores with a budget and refuses to change."""
    world.wire.tampers["/key/generate"] = keys_get_budgets
    world.wire.refuses.add("/key/update")


async def an_organization_and_mending_refused(world: CellWorld) -> None:
    await an_organization_and_defaults(world)
    await mending_refused(world)


async def a_member_added_by_hand_and_mending_refused(world: CellWorld) -> None:
    await a_member_added_by_hand(world)
    await mending_refused(world)


async def a_marked_team_of_a_lost_database(world: CellWorld) -> None:
    mark = Mark(OUR_SOURCE, world.org, world.organization().identity, "a-key-nobody-knows")
    await theirs(world, metadata=mark.added_to({"logging": "ours"}))


async def an_alias_held(world: CellWorld) -> None:
    world.restart(adopt_existing=True)
    await _hold_alias(world, "owner")


async def a_users_alias_held(world: CellWorld) -> None:
    world.restart(adopt_existing=True)
    await an_organization(world)
    await _hold_alias(world, "ann")


async def _hold_alias(world: CellWorld, role: str) -> None:
    await their_key(world, role, key_alias(OUR_SOURCE, world.org, world.name(role), "default", 1))


async def a_conflict_whose_team_is_gone(world: CellWorld) -> None:
    await theirs(world)
    await world.take(world.organization())
    await world.live()
    await world.admin.team_delete(world.org)


async def what_a_failed_organization_left(world: CellWorld) -> None:
    """An event has failed, and nothing could be taken back in time."""
    await mending_refused(world)
    await _fails_with_orphans(world, "former")
    world.wire.refuses.clear()


async def _fails_with_orphans(world: CellWorld, owner: str) -> None:
    world.restart(compensate_for=timedelta(0))
    world.wire.breaks |= {"/key/delete", "/team/delete", "/team/member_delete"}
    await world.take(world.organization(owner=owner))
    await world.live_until_told(1)
    world.wire.breaks.clear()
    world.restart(compensate_for=timedelta(seconds=60))


async def what_a_failed_user_left(world: CellWorld) -> None:
    await an_organization_and_mending_refused(world)
    world.restart(compensate_for=timedelta(0))
    world.wire.breaks |= {"/key/delete", "/team/delete", "/team/member_delete"}
    await world.take(world.joined())
    await world.live_until_told(2)
    world.wire.breaks.clear()
    world.wire.refuses.clear()
    world.restart(compensate_for=timedelta(seconds=60))


# -- what comes in -----------------------------------------------------------------------------------------


def comes(make: Callable[[CellWorld], Any]) -> Step:
    async def act(world: CellWorld) -> None:
        await world.take(make(world))

    return act


async def another_event_and_the_former_owner(world: CellWorld) -> None:
    await ORG_AGAIN(world)
    await world.take(world.joined("former"))


async def a_retry(world: CellWorld) -> None:
    await world.retry_failed(world.org)


ORG = comes(lambda world: world.organization())
ORG_WITH_EMAIL = comes(lambda world: world.organization(owner_email=world.email("owner")))
ORG_WITHOUT_BUDGET = comes(lambda world: world.organization(max_budget_usd="0", models=["fake"]))
ORG_AGAIN = comes(lambda world: world.organization("e-2", name="Second", max_budget_usd="5"))
USER = comes(lambda world: world.joined())
USER_WITH_BUDGET = comes(lambda world: world.joined(max_budget_usd="3.5"))
USER_WITH_EMAIL = comes(lambda world: world.joined(email=world.email("ann")))
USER_WITH_BOTH = comes(lambda world: world.joined(email=world.email("ann"), max_budget_usd="3.5"))


# -- what stands at the end --------------------------------------------------------------------------------

PROVISIONED: Final = ("org.provisioned", "created 25.00 key #1")
IN_USE: Final = (("key", "in_use"), ("team", "in_use"))
ACME: Final = TeamEnd("Acme", Decimal(25))
THEIRS: Final = TeamEnd("Theirs", Decimal(9), ("fake2",), ours="adopted", metadata=("logging",))
OWNERS_KEY: Final = ("owner", "org", "#1 live")
ANNS_KEY: Final = ("ann", "org", "#1 live")
THEIR_KEY: Final = ("theirs", "org", "not ours")

NEW_ORG: Final = End(
    told=(PROVISIONED,),
    team=ACME,
    members={"owner": None},
    keys=(OWNERS_KEY,),
    users={"owner": None},
    recorded=IN_USE,
)
ADOPTED: Final = End(
    told=(("org.provisioned", "created adopted 9.00 key #1"),),
    team=THEIRS,
    members={"theirs": None, "owner": None},
    keys=(OWNERS_KEY, THEIR_KEY),
    users={"owner": None, "theirs": None},
    recorded=(("key", "in_use"), ("member owner", "in_use"), ("team", "kept")),
)
NEW_USER: Final = End(
    told=(PROVISIONED, ("user.provisioned", "created key #1")),
    team=ACME,
    members={"owner": None, "ann": None},
    keys=(ANNS_KEY, OWNERS_KEY),
    users={"owner": None, "ann": None},
    recorded=(("key", "in_use"), ("key", "in_use"), ("member ann", "in_use"), ("team", "in_use")),
)
ADOPTED_USER: Final = End(
    told=(*ADOPTED.told, ("user.provisioned", "created key #1")),
    team=THEIRS,
    members={"theirs": None, "owner": None, "ann": Decimal("3.5")},
    keys=(ANNS_KEY, OWNERS_KEY, THEIR_KEY),
    users={"theirs": None, "owner": None, "ann": None},
    recorded=(
        ("key", "in_use"),
        ("key", "in_use"),
        ("member ann", "in_use"),
        ("member owner", "in_use"),
        ("team", "kept"),
    ),
)
TAKEN_BACK: Final = End(
    told=(("org.provisioning_failed", "litellm_rejected done"),),
    team=None,
    members={},
    keys=(),
    users={"owner": None},
    recorded=(),
)
alter = dataclasses.replace


SCENARIOS: Final = (
    Scenario("new organization", nothing, ORG, ("/team/new", "/key/generate", "/team/info"), NEW_ORG),
    Scenario(
        "new organization, owner with an e-mail",
        nothing,
        ORG_WITH_EMAIL,
        ("/user/new", "/team/new", "/key/generate", "/team/info"),
        alter(
            NEW_ORG,
            told=(("org.provisioned", "created email_set 25.00 key #1"),),
            users={"owner": "owner"},
        ),
    ),
    Scenario(
        "new organization without budget",
        nothing,
        ORG_WITHOUT_BUDGET,
        ("/team/new", "/key/generate", "/team/info"),
        alter(
            NEW_ORG,
            told=(("org.provisioned", "created 0.00 key #1"),),
            team=TeamEnd("Acme", Decimal(0), ("fake",), blocked=True),
        ),
    ),
    Scenario(
        "new organization, owner known under another e-mail",
        a_known_owner,
        ORG_WITH_EMAIL,
        ("/user/new", "/v2/user/info", "/team/new", "/key/generate", "/team/info"),
        alter(NEW_ORG, users={"owner": "old"}),
    ),
    Scenario(
        "new organization, LiteLLM's defaults mended",
        defaults_of_litellm,
        ORG,
        (
            "/team/new",
            "/key/generate",
            "/team/info",
            "/team/update",
            "/team/member_add",
            "/team/member_update",
            "/key/update",
            "/team/info",
        ),
        NEW_ORG,
    ),
    Scenario(
        "organization adopted",
        adopting,
        ORG,
        (
            "/team/new",
            "/team/info",
            "/key/generate",
            "/team/info",
            "/team/update",
            "/team/member_add",
            "/team/info",
        ),
        ADOPTED,
    ),
    Scenario(
        "organization adopted, owner in it",
        adopting_with_the_owner,
        ORG,
        ("/team/new", "/team/info", "/key/generate", "/team/info", "/team/update", "/team/info"),
        alter(ADOPTED, recorded=(("key", "in_use"), ("team", "kept"))),
    ),
    Scenario(
        "organization in conflict",
        theirs,
        ORG,
        ("/team/new", "/team/info"),
        End(
            told=(("org.provisioning_failed", "team_conflict not_needed"),),
            team=alter(THEIRS, ours=None),
            members={"theirs": None},
            keys=(THEIR_KEY,),
            users={"theirs": None},
            recorded=(("team", "kept"),),
        ),
    ),
    Scenario(
        "organization retried, the team in conflict is gone",
        a_conflict_whose_team_is_gone,
        a_retry,
        ("/team/info", PROBE, "/team/new", "/key/generate", "/team/info"),
        alter(
            NEW_ORG,
            told=(("org.provisioning_failed", "team_conflict not_needed"), PROVISIONED),
            users={"owner": None, "theirs": None},
        ),
    ),
    Scenario(
        "organization of a database that was lost",
        a_marked_team_of_a_lost_database,
        ORG,
        ("/team/new", "/team/info", "/key/generate", "/team/info", "/team/member_add", "/team/info"),
        alter(
            ADOPTED,
            told=(("org.provisioned", "created 9.00 key #1"),),
            team=alter(THEIRS, ours="made"),
        ),
    ),
    Scenario(
        "organization whose owner's alias is held",
        an_alias_held,
        ORG,
        ("/team/new", "/key/generate", "/key/info", "/key/generate", "/team/info"),
        alter(
            NEW_ORG,
            told=(("org.provisioned", "created 25.00 key #2"),),
            keys=(("owner", "org", "#2 live"), ("owner", "org", "not ours")),
        ),
    ),
    Scenario(
        "organization refused",
        mending_refused,
        ORG,
        (
            "/team/new",
            "/key/generate",
            "/team/info",
            "/key/update",
            "/key/info",
            "/key/delete",
            "/team/info",
            "/team/delete",
            "/key/info",
            "/team/info",
            PROBE,
        ),
        TAKEN_BACK,
    ),
    Scenario(
        "organization refused, its orphans swept",
        what_a_failed_organization_left,
        nothing,
        ("/key/info", "/key/delete", "/team/info", "/team/delete", "/key/info", "/team/info", PROBE),
        alter(
            TAKEN_BACK,
            told=(("org.provisioning_failed", "litellm_rejected pending orphan key orphan team"),),
            users={"former": None},
        ),
    ),
    Scenario(
        "organization taken over from an event that failed",
        what_a_failed_organization_left,
        ORG_AGAIN,
        (
            "/team/info",
            "/key/generate",
            "/team/info",
            "/team/update",
            "/team/member_add",
            "/key/update",
            "/team/member_delete",
            "/team/info",
            "/key/info",
            "/team/info",
            "/key/info",
            "/team/info",
        ),
        alter(
            NEW_ORG,
            told=(
                ("org.provisioning_failed", "litellm_rejected pending orphan key orphan team"),
                ("org.provisioned", "created 5.00 key #1"),
            ),
            team=TeamEnd("Second", Decimal(5)),
            users={"former": None, "owner": None},
        ),
    ),
    Scenario(
        "organization taken over, its former owner joins",
        what_a_failed_organization_left,
        another_event_and_the_former_owner,
        (
            "/team/info",
            "/key/generate",
            "/team/info",
            "/team/update",
            "/team/member_add",
            "/key/update",
            "/team/member_delete",
            "/team/info",
            "/key/info",
            "/team/member_add",
            "/key/generate",
            "/key/info",
            "/key/update",
            "/key/info",
            "/key/info",
        ),
        alter(
            NEW_ORG,
            told=(
                ("org.provisioning_failed", "litellm_rejected pending orphan key orphan team"),
                ("org.provisioned", "created 5.00 key #1"),
                ("user.provisioned", "created key #2"),
            ),
            team=TeamEnd("Second", Decimal(5)),
            members={"owner": None, "former": None},
            keys=(("former", "org", "#2 live"), OWNERS_KEY),
            users={"former": None, "owner": None},
            recorded=(("key", "in_use"), ("key", "in_use"), ("member former", "in_use"), ("team", "in_use")),
        ),
    ),
    Scenario(
        "new user",
        an_organization,
        USER,
        ("/team/member_add", "/key/generate", "/key/info"),
        NEW_USER,
    ),
    Scenario(
        "new user with a budget",
        an_organization,
        USER_WITH_BUDGET,
        ("/team/member_add", "/key/generate", "/key/info"),
        alter(NEW_USER, members={"owner": None, "ann": Decimal("3.5")}),
    ),
    Scenario(
        "new user with an e-mail",
        an_organization,
        USER_WITH_EMAIL,
        ("/user/new", "/key/generate", "/team/info"),
        alter(
            NEW_USER,
            told=(PROVISIONED, ("user.provisioned", "created email_set key #1")),
            users={"owner": None, "ann": "ann"},
        ),
    ),
    Scenario(
        "new user with an e-mail and a budget",
        an_organization,
        USER_WITH_BOTH,
        ("/user/new", "/key/generate", "/team/info"),
        alter(
            NEW_USER,
            told=(PROVISIONED, ("user.provisioned", "created email_set key #1")),
            members={"owner": None, "ann": Decimal("3.5")},
            users={"owner": None, "ann": "ann"},
        ),
    ),
    Scenario(
        "user known under another e-mail",
        a_known_user,
        USER_WITH_BOTH,
        ("/user/new", "/v2/user/info", "/team/member_add", "/key/generate", "/key/info"),
        alter(NEW_USER, members={"owner": None, "ann": Decimal("3.5")}, users={"owner": None, "ann": "old"}),
    ),
    Scenario(
        "user whose e-mail another one has",
        a_taken_email,
        USER_WITH_EMAIL,
        ("/user/new", "/v2/user/info", "/team/member_add", "/key/generate", "/key/info"),
        alter(NEW_USER, users={"owner": None, "ann": None, "bob": "ann"}),
    ),
    Scenario(
        "user added by hand before",
        a_member_added_by_hand,
        USER_WITH_BUDGET,
        ("/team/member_add", "/key/generate", "/team/info"),
        alter(
            NEW_USER,
            members={"owner": None, "ann": Decimal(2)},
            recorded=(("key", "in_use"), ("key", "in_use"), ("member ann", "kept"), ("team", "in_use")),
        ),
    ),
    Scenario(
        "user added by hand before, then refused",
        a_member_added_by_hand_and_mending_refused,
        USER_WITH_BUDGET,
        (
            "/team/member_add",
            "/key/generate",
            "/team/info",
            "/key/update",
            "/key/info",
            "/key/delete",
            "/key/info",
        ),
        alter(
            NEW_USER,
            told=(PROVISIONED, ("user.provisioning_failed", "litellm_rejected done")),
            members={"owner": None, "ann": Decimal(2)},
            keys=(OWNERS_KEY,),
            recorded=(("key", "in_use"), ("member ann", "kept"), ("team", "in_use")),
        ),
    ),
    Scenario(
        "new user, LiteLLM's defaults mended",
        an_organization_and_defaults,
        USER,
        (
            "/team/member_add",
            "/key/generate",
            "/team/info",
            "/team/member_update",
            "/key/update",
            "/team/info",
        ),
        alter(NEW_USER, members={"owner": Decimal(5), "ann": None}),
    ),
    Scenario(
        "new user of an adopted organization",
        an_adopted_organization,
        USER_WITH_BUDGET,
        ("/team/info", "/team/member_add", "/key/generate", "/key/info"),
        ADOPTED_USER,
    ),
    Scenario(
        "member of an adopted organization",
        an_adopted_organization_with_a_member,
        USER_WITH_BUDGET,
        ("/team/info", "/key/generate", "/team/info"),
        alter(
            ADOPTED_USER,
            members={"theirs": None, "owner": None, "ann": Decimal(2)},
            recorded=(
                ("key", "in_use"),
                ("key", "in_use"),
                ("member owner", "in_use"),
                ("team", "kept"),
            ),
        ),
    ),
    Scenario(
        "user whose alias is held",
        a_users_alias_held,
        USER,
        ("/team/member_add", "/key/generate", "/key/info", "/key/generate", "/key/info"),
        alter(
            NEW_USER,
            told=(PROVISIONED, ("user.provisioned", "created key #2")),
            keys=(("ann", "org", "#2 live"), ("ann", "org", "not ours"), OWNERS_KEY),
        ),
    ),
    Scenario(
        "user refused",
        an_organization_and_mending_refused,
        USER,
        (
            "/team/member_add",
            "/key/generate",
            "/team/info",
            "/team/member_update",
            "/key/update",
            "/key/info",
            "/key/delete",
            "/team/info",
            "/team/member_delete",
            "/key/info",
            "/team/info",
        ),
        alter(
            NEW_USER,
            told=(PROVISIONED, ("user.provisioning_failed", "litellm_rejected done")),
            members={"owner": Decimal(5)},
            keys=(OWNERS_KEY,),
            recorded=IN_USE,
        ),
    ),
    Scenario(
        "user refused, its orphans swept",
        what_a_failed_user_left,
        nothing,
        ("/key/info", "/key/delete", "/team/info", "/team/member_delete", "/key/info", "/team/info"),
        alter(
            NEW_USER,
            told=(
                PROVISIONED,
                ("user.provisioning_failed", "litellm_rejected pending orphan key orphan member"),
            ),
            members={"owner": Decimal(5)},
            keys=(OWNERS_KEY,),
            recorded=IN_USE,
        ),
    ),
    Scenario(
        "user retried before its orphans are swept",
        what_a_failed_user_left,
        a_retry,
        (
            "/team/member_add",
            "/team/info",
            "/key/generate",
            "/team/info",
            "/key/update",
            "/team/info",
            "/key/info",
            "/key/delete",
            "/key/info",
        ),
        alter(
            NEW_USER,
            told=(
                PROVISIONED,
                ("user.provisioning_failed", "litellm_rejected pending orphan key orphan member"),
                ("user.provisioned", "created key #2"),
            ),
            members={"owner": Decimal(5), "ann": None},
            keys=(("ann", "org", "#2 live"), OWNERS_KEY),
        ),
    ),
)


# -- cells -------------------------------------------------------------------------------------------------

OUTAGE_CALLS: Final = 4
"""How many calls in a row a key that is not accepted for a while hits."""


@dataclass(frozen=True)
class Site:
    """One call of a scenario: the n-th of its endpoint."""

    scenario: Scenario
    endpoint: str
    nth: int


def sites() -> Iterator[Site]:
    """Every call of every scenario."""
    return (site for site, _ in _with_what_follows())


def single(site: Site, kind: Kind) -> Cell:
    """One call breaks; a key that is not accepted is so for a while."""
    outage = kind is Kind.UNAUTHORIZED
    times = OUTAGE_CALLS if outage else 1

    def faults() -> list[Fault]:
        return [Fault(kind, site.endpoint, site.nth, times=times, spreads=outage)]

    return Cell(site.scenario, faults)


def lasting(site: Site, kind: Kind, times: int, *, spreads: bool) -> Cell:
    """So many calls of the endpoint, or of any from this one on, break in a row."""
    return Cell(site.scenario, lambda: [Fault(kind, site.endpoint, site.nth, times=times, spreads=spreads)])


def pair(site: Site, kind: Kind, other: Kind, nth: int) -> Cell:
    """Another endpoint's call breaks soon after the first."""

    def faults() -> list[Fault]:
        first = Fault(kind, site.endpoint, site.nth)
        return [first, Fault(other, ANY, nth, after=first)]

    return Cell(site.scenario, faults)


def every_call() -> list[Cell]:
    """Every fault at every call of every scenario."""
    return [single(site, kind) for site in sites() for kind in Kind]


def every_endpoint() -> list[Cell]:
    """Every fault at every endpoint once, the scenarios and calls in turn."""
    cells = []
    for endpoint in ENDPOINTS:
        calls = [site for site in sites() if site.endpoint == endpoint]
        # A step that shares no factor with the number of calls comes around to all of them.
        cells += [single(calls[number % len(calls)], kind) for number, kind in enumerate(Kind)]
    return cells


def lasting_cells() -> list[Cell]:
    """Faults that last, at every endpoint: on that endpoint alone, or on all that follows."""
    cells = []
    for number, endpoint in enumerate(ENDPOINTS):
        calls = [site for site in sites() if site.endpoint == endpoint]
        for turn, kind in enumerate(LASTING):
            site = calls[(number + turn) % len(calls)]
            cells += [lasting(site, kind, 3, spreads=False), lasting(site, kind, 6, spreads=True)]
    return cells


def pairs(count: int, seed: int) -> list[Cell]:
    """Two faults close together, by chance; the same seed draws the same."""
    chance = random.Random(seed)
    kinds = [kind for kind in Kind if kind is not Kind.SLOW]
    calls = [
        (site, nth)
        for site, others in _with_what_follows()
        for nth in (1, 2)
        if others >= nth  # also where the first is mended below the client, the second is met
    ]
    drawn = []
    for _ in range(count):
        site, nth = chance.choice(calls)
        drawn.append(pair(site, chance.choice(kinds), chance.choice(kinds), nth))
    return drawn


def _with_what_follows() -> Iterator[tuple[Site, int]]:
    """Each call, and how many of other endpoints follow."""
    for scenario in SCENARIOS:
        for index, endpoint in enumerate(scenario.trace):
            others = sum(later != endpoint for later in scenario.trace[index + 1 :])
            yield Site(scenario, endpoint, scenario.trace[: index + 1].count(endpoint)), others


_PREPARATIONS: Final = 5
LASTING: Final = (Kind.REFUSED, Kind.RESET_AFTER, Kind.ERROR_BEFORE, Kind.ERROR_AFTER, Kind.THROTTLED)


# -- running them ------------------------------------------------------------------------------------------


class Lab:
    """What cells run on, so many at once.

    Args:
        faults: Wires to LiteLLM.
        template: A migrated, empty SQLite file.
        folder: For copies of it.
        places: How many cells run side by side.
        timeout_s: The client's time-out where a call is held; LiteLLM should mostly answer within it.
        limit_s: Seconds after which no further cell is begun.
    """

    def __init__(
        self,
        faults: FaultProxy,
        template: Path,
        folder: Path,
        *,
        places: int,
        timeout_s: float,
        limit_s: float = math.inf,
    ) -> None:
        self._until = time.monotonic() + limit_s
        self._faults = faults
        self._template = template
        self._timeout_s = timeout_s
        self._files = [folder / f"cell-{number}.db" for number in range(places)]
        self._free: asyncio.Queue[Database] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        for file in self._files:
            shutil.copyfile(self._template, file)
            self._free.put_nowait(await Database.connect(f"sqlite+aiosqlite:///{file}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while not self._free.empty():
            await self._free.get_nowait().close()

    @contextlib.asynccontextmanager
    async def world(self, kinds: AbstractSet[Kind]) -> AsyncIterator[CellWorld]:
        """A world for these faults, as soon as there is a place."""
        database = await self._free.get()
        try:
            if time.monotonic() > self._until:
                raise TimeoutError("the time limit is over")
            async with cell_world(
                self._faults,
                database,
                keep_alive=Kind.REFUSED not in kinds,
                timeout_s=self._timeout_s if any(kind.holds for kind in kinds) else PATIENT_S,
            ) as world:
                yield world
        finally:
            # Emptied by taking another file: the same engine has its statements compiled already.
            await database.close()
            path = database.sqlite_path
            assert path is not None
            for file in path.parent.glob(f"{path.name}*"):
                file.unlink()
            shutil.copyfile(self._template, path)
            self._free.put_nowait(database)


class _Unprepared(Exception):  # noqa: N818 - says what happened
    """What was to be there before could not be made: a real proxy fails by itself at times."""


async def run_cell(lab: Lab, cell: Cell) -> list[str]:
    """Run one cell; tell what was wrong with how it ended, which is nothing."""
    for _ in range(_PREPARATIONS):
        try:
            return await _run_once(lab, cell)
        except _Unprepared as error:
            problem = f"never prepared: {error}"
        except Exception as error:  # noqa: BLE001 - whatever it is, the other cells go on
            return [f"{type(error).__name__}: {error}"]
    return [problem]


async def _run_once(lab: Lab, cell: Cell) -> list[str]:
    faults = cell.faults()
    async with lab.world({fault.kind for fault in faults}) as world:
        try:
            await cell.scenario.prepare(world)
        except (LiteLLMError, aiohttp.ClientError) as error:
            raise _Unprepared(str(error)) from None
        world.wire.log.clear()
        world.seen.clear()
        world.wire.faults += faults
        await cell.scenario.act(world)
        await world.live()
        return [
            *_unmet(world, faults),
            *_astray(world, cell.scenario, faults),
            *(await world.end()).differences(cell.scenario.end),
        ]


def _astray(world: CellWorld, scenario: Scenario, faults: Sequence[Fault]) -> Iterator[str]:
    """Other calls than the scenario says, where nothing was broken and LiteLLM did not fail by itself."""
    smooth = not faults and {status for _, status in world.seen} <= {"200", "400", "404", "409"}
    if smooth and tuple(world.wire.log) != scenario.trace:
        yield f"the calls were {world.wire.log}"


def _unmet(world: CellWorld, faults: Sequence[Fault]) -> Iterator[str]:
    """A fault that did not happen, or that the product's client did not see, proves nothing."""
    for fault in faults:
        if fault.met < (fault.times if len(faults) == 1 and fault.spreads else 1):
            yield f"{fault} was met {fault.met} times; the calls were {world.wire.log}"
        # A read on a connection that was closed is repeated below the client.
        elif not (
            fault.kind in {Kind.RESET_BEFORE, Kind.RESET_AFTER}
            or any(world.seen[fault.hit or "", status] for status in observed(fault.kind))
        ):
            yield f"{fault} was not seen by the client, which saw {dict(world.seen)}"


async def run_cells(lab: Lab, cells: Iterable[Cell], on_done: Callable[[], None] = lambda: None) -> list[str]:
    """Run cells side by side; give a line for each that ended wrong."""

    async def run(cell: Cell) -> list[str]:
        problems = await run_cell(lab, cell)
        on_done()
        return [f"{cell}: {'; '.join(problems)}"] if problems else []

    found = await asyncio.gather(*(run(cell) for cell in cells))
    return [line for lines in found for line in lines]
