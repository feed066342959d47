"""What a replay would do, tried on a scratch copy: the same ingest, over a database that is thrown away.

What the real database holds is only read, and copied as far as a batch needs it. So a dry run decides by the
very functions that the replay decides by, and has nothing to write to.
"""

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.decisions.credits import open_account
from consumer.ingest.batch import Applied, Received, apply_batch
from consumer.ingest.drain import drain_organization
from consumer.ingest.judging import IngestPolicy, job_key
from consumer.ingest.records import Decoded
from consumer.pauses import wait_for_any
from consumer.replay.pace import Pace
from consumer.replay.reading import Reader
from consumer.replay.running import BATCH_RECORDS, Decoder, patiently
from consumer.replay.sifting import Known, look, sift
from consumer.replay.tally import Tally
from schemas.event import InboundEvent
from schemas.events import EventType, OrgCreated
from schemas.outcomes import Origin, OutcomeType
from storage import inbox, ledger, organizations, outbox
from storage.database import Database
from storage.ledger import EntryKind, LedgerEntry
from storage.migrations import migrate, revision_of
from storage.organizations import OrgProfile, OrgState, OrgStatus

_NOW: Final = datetime(2000, 1, 2, tzinfo=UTC)
"""When all of a dry run happens; what is copied from the real database happened before."""
_BEFORE: Final = datetime(2000, 1, 1, tzinfo=UTC)
_NO_ORGANIZATION: Final = " "
"""Nobody's id: none begins with a space."""


@dataclass(slots=True)
class Forecast:
    """What a replay would come to, if every organization that is created in it can be provisioned.

    Attributes:
        tally: What the records are.
        charges: Credits that would be charged, by organization, the largest sum first.
        waiting: Events that would wait for an organization that is not active, by organization.
    """

    tally: Tally = field(default_factory=Tally)
    charges: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def scratch_database() -> AsyncIterator[Database]:
    """Make a database that goes with the block."""
    with tempfile.TemporaryDirectory(prefix="quartermaster-") as folder:
        database = await Database.connect(f"sqlite+aiosqlite:///{Path(folder) / 'scratch.db'}")
        try:
            await migrate(database)
            yield database
        finally:
            await database.close()


async def holds_anything(database: Database) -> bool:
    """Whether the database was ever migrated: else there is nothing to look up."""
    async with database.reading() as tx:
        return await revision_of(tx) is not None


@dataclass(frozen=True, slots=True)
class _Stood:
    """What the real database holds of what a batch is about."""

    states: dict[str, OrgState] = field(default_factory=dict)
    charged: set[UUID] = field(default_factory=set)


class DryRun:
    """Reads what a reader gives and tells what a replay of it would come to."""

    def __init__(
        self,
        reader: Reader,
        database: Database | None,
        scratch: Database,
        policy: IngestPolicy,
        decoder: Decoder,
        *,
        initial_credits: Callable[[OrgCreated], int],
        rate: float | None,
        on_progress: Callable[[int, Tally], None],
    ) -> None:
        """Prepare.

        Args:
            reader: What to read.
            database: The real one, opened for reading alone; None: nothing is there yet.
            scratch: Empty and migrated.
            policy: The settings that decide.
            decoder: Which records of it to take.
            initial_credits: Credits that an organization starts with.
            rate: Records a second at most; None: no limit.
            on_progress: Told how many offsets were passed, and the tally so far.
        """
        self._reader = reader
        self._database = database
        self._scratch = scratch
        self._policy = policy
        self._decoder = decoder
        self._initial_credits = initial_credits
        self._pace = Pace(rate)
        self._on_progress = on_progress
        self._tally = Tally()
        self._copied: set[str] = set()
        self._charges_copied = 0

    async def run(self, stop: asyncio.Event) -> Forecast:
        """Read to the end, or until `stop` is set: then the forecast is about what was read.

        Raises:
            DatabaseUnavailable: It has been away for a minute.
            KafkaUnreachable: It has been away for a minute, or can't be read.
        """
        started_at = sum(self._reader.places.values())
        while not stop.is_set():
            batch = await self._decoder.decode(await self._reader.next(BATCH_RECORDS))
            if not batch.places and self._reader.done:
                break
            self._tally.add(batch.tally)
            await self._take(batch.decoded)
            self._on_progress(sum(self._reader.places.values()) - started_at, self._tally)
            if (wait := self._pace.spend(len(batch.decoded))) > 0:
                await wait_for_any(stop, timeout=wait)
        async with self._scratch.reading() as tx:
            return Forecast(self._tally, await ledger.charged_at(tx, _NOW), await inbox.waiting_for_org(tx))

    async def _take(self, decoded: Sequence[Decoded]) -> None:
        known = await self._known(decoded)
        sifted = sift(decoded, known)
        self._tally.add(sifted.tally)
        fresh = []
        for one in sifted.rest:
            if not isinstance(one.meaning, InboundEvent):
                self._tally.invalid_before(one)
            elif one.meaning.identity in known.fingerprints:
                self._tally.conflict[one.meaning.type.value] += 1
            else:
                fresh.append(Received(one.meaning, one.record))
        if fresh:
            stood = await self._look_up(fresh)
            applied = await self._scratch.run(lambda tx: self._try(tx, fresh, stood))
            self._tally.applied(applied)
            self._copied |= stood.states.keys()
            self._charges_copied += len(stood.charged)

    async def _known(self, decoded: Sequence[Decoded]) -> Known:
        database = self._database
        if database is None:
            return Known()

        async def read() -> Known:
            async with database.reading() as tx:
                return await look(tx, decoded)

        return await patiently(read)

    async def _look_up(self, fresh: Sequence[Received]) -> _Stood:
        """Read what the real database holds of these organizations and jobs."""
        new = {one.event.org_id for one in fresh} - self._copied
        stood = _Stood({org_id: OrgState(org_id) for org_id in new})
        database = self._database
        if database is None:
            return stood
        keys = {job_key(one.event) for one in fresh if one.event.type is EventType.JOB_COMPLETED}

        async def read() -> _Stood:
            async with database.reading() as tx:
                states = await organizations.read(tx, sorted(new))
                return _Stood(stood.states | states, await ledger.charged(tx, sorted(keys)))

        return await patiently(read)

    async def _try(self, tx: AsyncConnection, fresh: Sequence[Received], stood: _Stood) -> Applied:
        """Apply the events to the scratch copy, and provision what they create as if LiteLLM took it."""
        await _copy(tx, stood, self._charges_copied)
        applied = await apply_batch(tx, fresh, [], policy=self._policy, origin=Origin.REPLAY, now=_NOW)
        for one in fresh:
            if isinstance(one.event.data, OrgCreated):
                applied.outcomes.update(await self._provision(tx, one.event.data))
        await outbox.empty(tx)
        return applied

    async def _provision(self, tx: AsyncConnection, data: OrgCreated) -> Counter[OutcomeType]:
        """Activate an organization as provisioning would, and judge the jobs that waited for it."""
        org_id = data.org_id
        state = (await organizations.lock(tx, [org_id]))[org_id]
        outcomes: Counter[OutcomeType] = Counter()
        if state.status is OrgStatus.ACTIVE:
            return outcomes
        state, entry = open_account(state, self._initial_credits(data), _NOW)
        if entry is not None:
            await ledger.append(tx, [entry])
        await organizations.activate(tx, state, _profile(data))
        await inbox.release_users(tx, org_id, _NOW)
        while judged := await drain_organization(tx, org_id, policy=self._policy, now=_NOW):
            outcomes += judged
        return outcomes


async def _copy(tx: AsyncConnection, stood: _Stood, copied: int) -> None:
    """Copy what the real database holds; `copied` charges were before."""
    states = sorted(stood.states.values(), key=attrgetter("org_id"))
    await organizations.lock(tx, [state.org_id for state in states])
    # What waits there is not ours to judge: it is taken to be decided before.
    await organizations.save(tx, [state._replace(waiting_jobs=0) for state in states])
    there = await ledger.charged(tx, stood.charged)
    missing = sorted(stood.charged - there)
    await ledger.append(tx, [_charged_before(id_, number) for number, id_ in enumerate(missing, copied + 1)])


def _charged_before(transaction_id: UUID, number: int) -> LedgerEntry:
    """Give an entry that stands for a charge of the real ledger: that it is there is all that decides."""
    return LedgerEntry(
        transaction_id=transaction_id,
        org_id=_NO_ORGANIZATION,
        entry=number,
        kind=EntryKind.CHARGE,
        credits=0,
        balance_after=0,
        sequence=number,
        job_id=str(transaction_id),
        reason=None,
        corrects=None,
        created_at=_BEFORE,
    )


def _profile(data: OrgCreated) -> OrgProfile:
    return OrgProfile(
        org_id=data.org_id,
        name=data.name,
        owner_user_id=data.owner_user_id,
        team_id=data.org_id,
        adopted=False,
        max_budget_usd=None,
        models=(),
        metadata=None,
        provisioned_at=_NOW,
    )
