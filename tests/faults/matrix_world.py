"""One cell's world: the production provisioner over SQLite, its client on a wire that can be broken.

HTTP takes real time; pauses take virtual time, which jumps from one due moment to the next. Before it moves,
every call that reached LiteLLM has ended there, also one that its client gave up: what virtual time says of
late effects is then true.
"""

import asyncio
import contextlib
import functools
import ssl
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from unittest import mock

from cryptography.fernet import Fernet
from sqlalchemy import func, select

from consumer.litellm.client import LiteLLMClient
from consumer.litellm.errors import NotFound
from consumer.litellm.gate import HealthGate
from consumer.litellm.transport import open_http
from consumer.provisioning.marks import Mark
from consumer.provisioning.policy import ProvisionerPolicy
from consumer.standin import StandIn
from schemas.event import InboundEvent
from storage import tables
from storage.database import Database
from storage.virtual_keys import KeyVault
from tests.faults.fault_proxy import PROBE, FaultProxy, Kind, Wire
from tests.integration.provisioning.world import OUR_SOURCE, START, Time, World, org_created, user_joined

PATIENT_S: Final = 30.0
"""The client's time-out where nothing is held: longer than any answer takes."""
MAX_ANSWER_BYTES: Final = 1 << 20
LONGEST_RUN: Final = timedelta(hours=2)

_probing: ContextVar[bool] = ContextVar("probing", default=False)


class VirtualTime(Time):
    """A clock that jumps, and wakes who slept until then."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[datetime, asyncio.Event]] = []

    @property
    def next_waking(self) -> datetime | None:
        return min((due for due, _ in self._sleepers), default=None)

    async def sleep(self, seconds: float) -> None:
        sleeper = (self.now + timedelta(seconds=seconds), asyncio.Event())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    def jump_to(self, moment: datetime) -> None:
        self.now = max(self.now, moment)
        for due, woken in self._sleepers:
            if due <= self.now:
                woken.set()


class ProbingClient(LiteLLMClient):
    """A client that says which of its calls are probes."""

    async def probe(self) -> None:
        token = _probing.set(True)
        try:
            await super().probe()
        finally:
            _probing.reset(token)


@dataclass(frozen=True)
class TeamEnd:
    """A team as it stands. `ours`: made, adopted or none, by its mark."""

    alias: str
    max_budget: Decimal | None
    models: tuple[str, ...] = ()
    blocked: bool = False
    ours: str | None = "made"
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True)
class End:
    """What stands at LiteLLM and in the database, and what was told, with each name's suffix taken off.

    Attributes:
        told: Each outcome's type, and what of its data no number of tries changes.
        team: The organization's team.
        members: Its members and their own budgets.
        keys: Every key of every user involved: user, team, alias where others made it, else its generation.
        users: Every user involved and its e-mail; a user that is not there is left out.
        recorded: What the database has written down about resources.
    """

    told: tuple[tuple[str, str], ...]
    team: TeamEnd | None
    members: dict[str, Decimal | None]
    keys: tuple[tuple[str, str | None, str], ...]
    users: dict[str, str | None]
    recorded: tuple[tuple[str, str], ...]

    def differences(self, other: "End") -> list[str]:
        return [
            f"{name}: {getattr(self, name)!r} instead of {getattr(other, name)!r}"
            for name in self.__dataclass_fields__
            if getattr(self, name) != getattr(other, name)
        ]


@dataclass(kw_only=True)
class CellWorld(World):
    """A world of one cell, with names that no other has.

    Attributes:
        wire: Between the product and LiteLLM.
        admin: LiteLLM, asked past the wire.
        seen: Calls by endpoint and how the product's client saw them end.
    """

    time: VirtualTime
    wire: Wire
    admin: LiteLLMClient
    suffix: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    known: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._gate_task: asyncio.Task[None] | None = None
        self._gate_moved = asyncio.Event()
        super().__post_init__()

    # -- names ---------------------------------------------------------------------------------------------

    @property
    def org(self) -> str:
        return self.name("org")

    def name(self, role: str) -> str:
        name = f"{role}-{self.suffix}"
        if role != "org":
            self.known.add(name)
        return name

    def email(self, role: str) -> str:
        return f"{role}-{self.suffix}@example.com"

    def _role(self, name: str) -> str:
        return name.removesuffix("@example.com").removesuffix(f"-{self.suffix}")

    def organization(self, id_: str = "e-org", owner: str = "owner", **data: Any) -> InboundEvent:
        return org_created(self.org, id_, owner_user_id=self.name(owner), **data)

    def joined(self, role: str = "ann", **data: Any) -> InboundEvent:
        return user_joined(self.name(role), f"e-{role}", self.org, **data)

    # -- time ----------------------------------------------------------------------------------------------

    def restart(self, **changes: Any) -> None:
        super().restart(**changes)
        if self._gate_task is not None:
            self._gate_task.cancel()
        self.gate = HealthGate(
            self._probe, random=lambda: 0.5, clock=self.time.monotonic, sleep=self.time.sleep
        )
        self.provisioner = self.another()
        self._gate_task = asyncio.create_task(self.gate.run())

    async def close(self) -> None:
        if self._gate_task is not None:
            self._gate_task.cancel()
            await asyncio.gather(self._gate_task, return_exceptions=True)

    async def _probe(self) -> None:
        try:
            await self.client.probe()
        finally:
            self._gate_moved.set()

    @property
    def _gate_at_work(self) -> bool:
        return self.gate._reported.is_set() and self.time.next_waking is None

    async def _gate_rests(self) -> None:
        while self._gate_at_work:
            self._gate_moved.clear()
            await self._gate_moved.wait()

    async def live(self) -> None:
        """Serve, sweep and let time pass until nothing is left to come."""
        until = self.time.now + LONGEST_RUN
        while True:
            await self.settle()
            await self._gate_rests()
            while await self.provisioner.sweep_once():
                await self._gate_rests()
            await self.wire.quiet()
            moment = await self._next_moment()
            if moment is None:
                return
            assert self.time.now < until, "there is no end of it"
            self.time.jump_to(moment)
            await self.wire.take_effect()

    async def live_until_told(self, count: int) -> None:
        """The same until so many outcomes are there, and not a moment longer."""
        while len(await self.outcomes()) < count:
            await self.settle()
            await self._gate_rests()
            await self.wire.quiet()
            if len(await self.outcomes()) >= count:
                return
            moment = await self._next_moment()
            assert moment is not None, "nothing more to come"
            self.time.jump_to(moment)

    async def _next_moment(self) -> datetime | None:
        late = self.wire.next_late
        async with self.database.reading() as tx:
            inbox, resources = tables.inbox.c, tables.litellm_resources.c
            moments = [
                await tx.scalar(select(func.min(inbox.due_at)).where(inbox.state == "waiting")),
                await tx.scalar(select(func.min(resources.due_at))),
                self.time.next_waking,
                None if late is None else START + timedelta(seconds=late),
            ]
        coming = [moment for moment in moments if moment is not None]
        if not coming:
            return None
        # What is due and yet was not served has to wait for something that no table tells, such as a lease.
        return min(
            (one for one in coming if one > self.time.now), default=self.time.now + timedelta(seconds=1)
        )

    # -- proof ---------------------------------------------------------------------------------------------

    async def end(self) -> End:
        """Read at LiteLLM itself what stands."""
        try:
            info = await self.admin.team_info(self.org)
        except NotFound:
            await self.admin.probe()
            info = None
        members: dict[str, Decimal | None] = {}
        team = None
        if info is not None:
            mark = Mark.of(info.team.metadata)
            team = TeamEnd(
                alias=str(info.team.team_alias),
                max_budget=info.team.max_budget,
                models=info.team.models,
                blocked=info.team.blocked,
                ours=None if mark is None else "adopted" if mark.adopted else "made",
                metadata=tuple(sorted(set(info.team.metadata) - {"quartermaster", "team_member_budget_id"})),
            )
            rows = [str(one.user_id) for one in info.team.members if one.user_id != "default_user_id"]
            assert len(rows) == len(set(rows)), "a member twice"
            for user_id in rows:
                membership = info.membership(user_id)
                assert membership is not None, "a member without a row"
                members[self._role(user_id)] = membership.max_budget
            strays = {row.user_id for row in info.memberships} - {*rows, "default_user_id"}
            assert not strays, "a row without a member"
        users, keys = {}, []
        for user_id in sorted(self.known):
            with contextlib.suppress(NotFound):
                email = (await self.admin.user_info(user_id)).user_email
                users[self._role(user_id)] = None if email is None else self._role(email)
            keys += await self._keys_of(user_id)
        return End(
            told=tuple([self._told(*one) for one in await self.told()]),
            team=team,
            members=members,
            keys=tuple(sorted(keys)),
            users=users,
            recorded=tuple(
                sorted(
                    (self._role_of_resource(one), one.state.value) for one in await self.resources(self.org)
                )
            ),
        )

    def _role_of_resource(self, one: Any) -> str:
        return str(one.kind.value) if one.kind.value != "member" else f"member {self._role(one.resource_id)}"

    async def _keys_of(self, user_id: str) -> list[tuple[str, str | None, str]]:
        listed = await self.wire.proxy.read(
            "/key/list", {"user_id": user_id, "return_full_object": "true", "size": "100"}
        )
        ours = {one.key_hash: one for one in await self.keys(self.org)}
        found = []
        for key in listed["keys"]:
            stored = ours.get(key["token"])
            team = None if key["team_id"] is None else self._role(key["team_id"])
            if stored is None:
                name = "not ours"
            else:
                assert key["key_alias"] == stored.alias, "a key under another alias"
                right = (
                    list(key["allowed_routes"]),
                    key["max_budget"],
                    key["expires"],
                    key["blocked"] or False,
                )
                assert right == (["llm_api_routes"], None, None, False), right
                name = f"#{stored.generation} {stored.state.value}"
            found.append((self._role(user_id), team, name))
        return found

    def _told(self, type_: str, data: dict[str, Any]) -> tuple[str, str]:
        key = data.get("key") or data.get("owner", {}).get("key")
        facts = [
            *(name for name in ("created", "adopted", "email_set") if data.get(name)),
            *(name for name in ("email_set",) if data.get("owner", {}).get(name)),
            *(str(data[name]) for name in ("error_code", "compensation") if name in data),
            *(f"orphan {one['kind']}" for one in data.get("orphans", ())),
        ]
        if "max_budget_usd" in data:
            budget = data["max_budget_usd"]
            facts.append("no limit" if budget is None else f"{Decimal(budget):.2f}")
        if key is not None:
            facts.append(f"key #{key['alias'].rpartition('-')[2]}")
        return type_, " ".join(facts)


@contextlib.asynccontextmanager
async def cell_world(
    faults: FaultProxy, database: Database, *, keep_alive: bool, timeout_s: float
) -> AsyncIterator[CellWorld]:
    """A world over an empty database.

    Args:
        faults: Where wires lead.
        database: Its own.
        keep_alive: Whether connections outlast a call.
        timeout_s: The client's, in real seconds.
    """
    time = VirtualTime()
    seen: Counter[tuple[str, str]] = Counter()
    async with faults.wire(clock=time.monotonic, keep_alive=keep_alive) as wire:
        with mock.patch.object(ssl, "create_default_context", _trust):
            http = open_http(wire.url, faults.master_key, timeout_s=timeout_s)
        http.event_hooks = wire.hooks(_probing.get)
        client = ProbingClient(
            http,
            timeout_s=timeout_s,
            on_request=lambda endpoint, status: seen.update(
                [(PROBE if _probing.get() else endpoint, status)]
            ),
            max_answer_bytes=MAX_ANSWER_BYTES,
        )
        async with client:
            world = CellWorld(
                database=database,
                standin=StandIn(),  # not started: nothing here may lean on it
                client=client,
                time=time,
                vault=KeyVault([Fernet.generate_key().decode()]),
                policy=ProvisionerPolicy(
                    our_source=OUR_SOURCE,
                    base_url=wire.url,
                    litellm_timeout=timedelta(seconds=2),  # virtual: the clock stands still during a call
                    retry_for=timedelta(seconds=600),
                    dependency_wait=timedelta(seconds=300),
                ),
                wire=wire,
                admin=faults.admin,
                seen=seen,
            )
            try:
                yield world
            finally:
                await world.close()


@functools.cache
def _trust(*, cafile: str | None) -> ssl.SSLContext:
    """The system's authorities, which take long to read, and which no cell needs."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def observed(kind: Kind) -> Sequence[str]:
    """How the client may see a call end that met this."""
    return _OBSERVED[kind]


_OBSERVED: Final[dict[Kind, Sequence[str]]] = {
    Kind.REFUSED: ("not_sent",),
    Kind.RESET_BEFORE: ("disconnected",),
    Kind.RESET_AFTER: ("disconnected",),
    Kind.TIMEOUT_BEFORE: ("timeout",),
    Kind.TIMEOUT_AFTER: ("timeout",),
    Kind.TIMEOUT_LATE: ("timeout",),
    Kind.SLOW: ("200", "400", "404", "409"),
    Kind.ERROR_BEFORE: ("500",),
    Kind.ERROR_AFTER: ("500",),
    Kind.UNAVAILABLE: ("503",),
    Kind.THROTTLED: ("429",),
    Kind.NOT_FOUND: ("404", "400"),
    Kind.UNAUTHORIZED: ("401",),
    Kind.GARBAGE: ("200",),
    Kind.NO_HTTP: ("disconnected",),
    Kind.TRUNCATED: ("disconnected",),
    Kind.HUGE: ("too_large",),
}
