"""A replay, as the command that an operator gives, against fetching and validating the same topic alone.

A back-fill has three questions: how fast is what is new brought in, how fast is what is known passed over,
and how fast can one look beforehand.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.backlog import Backlog, load
from benchmarks.books import Template, WrongBooks, counts, postgresql_template, sqlite_template, verify
from benchmarks.cluster import Cluster
from benchmarks.command import replayed
from benchmarks.contest import Lap, lap, new_group
from benchmarks.contestants import READ, settings
from benchmarks.figures import Goal, Table, median
from benchmarks.options import Options
from benchmarks.samples import ORGANIZATIONS, org_ids

NEW, KNOWN, LOOK = "new events", "known events", "dry run over known events"
ARGUMENTS = {NEW: ("--rate", "0"), KNOWN: ("--rate", "0"), LOOK: ("--dry-run", "--rate", "0")}
"""What each is told: without a limit, for nobody works beside them."""


@dataclass(slots=True)
class Timings:
    """What the runs of one command took.

    Attributes:
        records: How many records each read.
        seconds: How long each took, its start included.
        starts_s: How long the same command takes over a topic without a record, before each.
        peaks_mb: The most memory that each had resident.
    """

    records: int
    seconds: list[float] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    peaks_mb: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Events a second once it has started."""
        return self.records / (median(self.seconds) - median(self.starts_s))

    @property
    def per_second_in_all(self) -> float:
        """Events a second, its start included."""
        return self.records / median(self.seconds)


@dataclass(frozen=True, slots=True)
class _Books:
    """One database, and what is run on it."""

    name: str
    url: str
    environment: dict[str, str]
    empty: str


async def measure(options: Options) -> Table:
    """Bring a topic in as new, then read, pass over and look at the same again in turn, so many rounds."""
    reads: list[Lap] = []
    timings: dict[tuple[str, str], Timings] = {}
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(options.kafka))
        calls = await stack.enter_async_context(_nobody())
        every = [
            await stack.enter_async_context(_opened(cluster, name, template, calls.url))
            for name, template in (await _templates(options, stack)).items()
        ]
        backlog = await load(cluster, options.events)
        await asyncio.sleep(options.settle_s)

        async def run(books: _Books, case: str) -> None:
            of_case = timings.setdefault((books.name, case), Timings(backlog.records))
            await _run(books, case, backlog, of_case)
            options.say(f"{books.name}: {case}: {of_case.seconds[-1]:.1f} s")

        for books in every:
            await run(books, NEW)
        for number in range(options.rounds):
            reads.append(await lap(cluster, backlog, READ))
            options.say(f"round {number + 1}: {READ.name}: {reads[-1].seconds:.1f} s")
            for books in every:
                await run(books, KNOWN)
                await run(books, LOOK)
        for books in every:
            # No instance runs, so nobody publishes.
            await verify(
                books.url,
                charges=backlog.identities,
                others=ORGANIZATIONS,
                unpublished=backlog.identities,
            )
        if calls.count:
            raise WrongBooks(f"a replay called LiteLLM {calls.count} times")
    return table(backlog.records, reads, timings)


async def _templates(options: Options, stack: contextlib.AsyncExitStack) -> dict[str, Template]:
    templates = {}
    if options.postgres is not None:
        templates["PostgreSQL"] = await stack.enter_async_context(
            postgresql_template(options.postgres, org_ids())
        )
    templates["SQLite"] = await stack.enter_async_context(sqlite_template(org_ids()))
    return templates


@contextlib.asynccontextmanager
async def _opened(cluster: Cluster, name: str, template: Template, litellm_url: str) -> AsyncIterator[_Books]:
    async with cluster.borrowed(), template.copy() as url:
        environment = await settings(cluster, group=new_group(), database_url=url, litellm_url=litellm_url)
        yield _Books(name, url, environment, await cluster.create("nothing"))


@dataclass(slots=True)
class _Calls:
    """Where LiteLLM would be, and how often it was called."""

    url: str = ""
    count: int = 0


@contextlib.asynccontextmanager
async def _nobody() -> AsyncIterator[_Calls]:
    """Listen where LiteLLM would be: a replay leaves it to running instances."""
    calls = _Calls()

    def called(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.count += 1
        writer.close()

    server = await asyncio.start_server(called, "127.0.0.1", 0)
    async with server:
        calls.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield calls


async def _run(books: _Books, case: str, backlog: Backlog, found: Timings) -> None:
    """Run the command over nothing and over the backlog; what is known must leave the books as they are.

    Raises:
        WrongBooks: It did not find what there is, or wrote where there was nothing to write.
    """
    before = await counts(books.url)
    nothing = await replayed(books.environment, books.empty, *ARGUMENTS[case])
    ended = await replayed(books.environment, backlog.topic, *ARGUMENTS[case])
    new = backlog.identities if case == NEW else 0
    wanted = {"new": new, "duplicate": backlog.records - new}
    said = {name: ended.said[name] for name in wanted}
    if said != wanted:
        raise WrongBooks(f"a replay of {case} found {said} instead of {wanted}")
    after = await counts(books.url)
    if case != NEW and after != before:
        raise WrongBooks(f"a replay of {case} made {after} of {before}")
    found.seconds.append(ended.seconds)
    found.starts_s.append(nothing.seconds)
    found.peaks_mb.append(ended.peak_mb)


def table(records: int, reads: Sequence[Lap], timings: Mapping[tuple[str, str], Timings]) -> Table:
    """Put the commands beside reading alone."""
    bare = median(one.per_second for one in reads)
    found = Table(
        title=f"Replaying {records:,} events",
        columns=["command", "events/s", "of reading alone", "events/s, start included", "peak MB"],
        rows=[(READ.name, bare, 1.0, None, max(one.peak_mb for one in reads))],
        notes=[
            "All with `--rate 0`: nobody works beside them.",
            "A start is what the same command takes over a topic without a record.",
            "Known events left every table as it was; LiteLLM was not called.",
        ],
    )
    for (name, case), of_case in timings.items():
        rate, peak = of_case.per_second, max(of_case.peaks_mb)
        found.rows.append((f"{name}: {case}", rate, rate / bare, of_case.per_second_in_all, peak))
        if case == KNOWN:
            found.goals += [
                Goal(f"{case} on {name}, of reading alone", "at least 0.6", rate / bare, least=0.6),
                Goal(f"MB over {case} on {name}", "at most 250", peak, most=250),
            ]
    found.data = {
        "read_s": [one.seconds for one in reads],
        "timings": {f"{name}: {case}": asdict(of_case) for (name, case), of_case in timings.items()},
    }
    return found
