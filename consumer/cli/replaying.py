"""What `quartermaster replay` does in each of its forms, and how it tells."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from consumer.cli.command import CommandFailed, opened_database
from consumer.cli.output import complain, print_json, print_table, say
from consumer.cli.progress import shown_progress
from consumer.ingest.applying import Applier
from consumer.ingest.client import make_consumer
from consumer.ingest.judging import IngestPolicy
from consumer.provisioning.policy import ProvisionerPolicy
from consumer.replay.dry_run import DryRun, Forecast, holds_anything, scratch_database
from consumer.replay.emitting import Emitted, re_emit, would_emit
from consumer.replay.opening import open_replay, spans_of
from consumer.replay.reading import Reader
from consumer.replay.retrying import Retried, retry_failed, would_retry
from consumer.replay.running import BreakerTripped, Decoder, Replay, ReplayLimits
from consumer.replay.selection import Selection
from consumer.replay.stored import StoredSelection
from consumer.replay.tally import Tally
from consumer.replay.waiting import wait_until_decided
from consumer.settings import Settings
from consumer.stopping import stop_on_signals
from schemas.outcomes import Origin
from schemas.timestamps import format_rfc3339
from storage.database import Database
from storage.migrations import is_current
from storage.replays import TakenOver

DEFAULT_PER_S: Final = 4_000.0
"""Records a second, most of them known already, that leave a live consumer its latency."""
DEFAULT_NEW_PER_S: Final = 2_000.0
"""New events, retries and repeated outcomes a second that leave a live consumer its latency."""
COUNTED: Final = ("new", "duplicate", "conflict", "invalid", "unknown")
SHOWN_ORGANIZATIONS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a form is carried out, whichever it is.

    Attributes:
        rate: So many a second at most; 0: no limit; None: as is good beside a live consumer.
        dry_run: Only say what would be.
        restart: Begin anew where the same command was interrupted.
        wait: Wait until running instances have done what follows.
        as_json: Print JSON.
    """

    rate: float | None
    dry_run: bool
    restart: bool
    wait: bool
    as_json: bool

    @property
    def paced(self) -> float | None:
        """The rate of what is written; None: no limit."""
        return (DEFAULT_NEW_PER_S if self.rate is None else self.rate) or None


# -- topics -----------------------------------------------------------------------------------------------


async def replay_topics(settings: Settings, selection: Selection, manner: Manner, *, breaker: bool) -> bool:
    """Read topics into the books; False where it was interrupted or what follows was not waited for."""
    connection = settings.kafka
    limits = ReplayLimits(
        max_event_bytes=settings.max_event_bytes,
        records_per_s=(DEFAULT_PER_S if manner.rate is None else manner.rate) or None,
        new_per_s=DEFAULT_NEW_PER_S if manner.rate is None else None,
        breaker_bad=settings.breaker_bad if breaker else None,
    )
    async with opened_database(settings) as database, contextlib.AsyncExitStack() as stack:
        consumer = await stack.enter_async_context(_reading(settings))
        opened = await open_replay(database, consumer, connection, selection, restart=manner.restart)
        if opened.begun_at is not None:
            complain(
                f"Going on with the replay begun at {format_rfc3339(opened.begun_at)}: "
                f"{opened.passed:,} of {opened.total:,} records are behind it (--restart begins anew)."
            )
        stop = stack.enter_context(stop_on_signals())
        with shown_progress("Replaying", "records", begun=opened.passed) as shown:
            replay = Replay(
                Reader(consumer, opened.spans),
                Applier(database=database, policy=IngestPolicy.of(settings), origin=Origin.REPLAY),
                selection,
                opened.run,
                limits,
                on_progress=lambda passed, tally: shown.update(
                    opened.passed + passed, opened.total, f"{tally.new.total():,} new"
                ),
            )
            try:
                finished = await replay.run(stop)
            except BreakerTripped as tripped:
                raise CommandFailed(
                    f"{tripped}: is this the right topic? Nothing more was written; "
                    "the same command with --no-breaker goes on all the same"
                ) from tripped
            except TakenOver:
                raise CommandFailed("the same replay was started once more, and goes on there") from None
        waiting = await _wait(database, Origin.REPLAY, stop) if finished and manner.wait else None
    document = {**replay.tally.document(), "finished": finished, "resumed": opened.begun_at is not None}
    if manner.as_json:
        print_json(document if waiting is None else {**document, "waiting": waiting})
    else:
        say("The replay is done." if finished else "Interrupted; the same command goes on from here.")
        _show_tally(replay.tally)
        _show_waiting(waiting)
    return finished and not waiting


async def dry_run_topics(settings: Settings, selection: Selection, manner: Manner) -> bool:
    """Say what a replay would come to; False where it was interrupted."""
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(_looked_at(settings))
        if database is not None and not await holds_anything(database):
            database = None
        consumer = await stack.enter_async_context(_reading(settings))
        spans = await spans_of(consumer, settings.kafka, selection)
        total = sum(map(len, spans.values()))
        stop = stack.enter_context(stop_on_signals())
        shown = stack.enter_context(shown_progress("Looking", "records"))
        trial = DryRun(
            Reader(consumer, spans),
            database,
            await stack.enter_async_context(scratch_database()),
            IngestPolicy.of(settings),
            Decoder(selection, settings.max_event_bytes),
            initial_credits=ProvisionerPolicy.of(settings).initial_credits,
            rate=manner.rate or None,
            on_progress=lambda passed, tally: shown.update(passed, total, f"{tally.new.total():,} new"),
        )
        forecast = await trial.run(stop)
        finished = not stop.is_set()
    _show_forecast(forecast, manner, finished=finished)
    return finished


@contextlib.asynccontextmanager
async def _reading(settings: Settings) -> AsyncIterator[Any]:
    consumer = make_consumer([], settings.kafka, group_id=None, client_id="quartermaster-replay")
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


@contextlib.asynccontextmanager
async def _looked_at(settings: Settings) -> AsyncIterator[Database | None]:
    """Open the database for reading alone; None where it is a SQLite file that is not there."""
    path = settings.sqlite_path
    if path is not None and not path.exists():
        yield None
        return
    database = await Database.connect(settings.database_url.get_secret_value(), read_only=True)
    try:
        yield database
    finally:
        await database.close()


def _show_tally(tally: Tally) -> None:
    document: Mapping[str, Any] = tally.document()
    types: Mapping[str, Mapping[str, int]] = document["types"]
    rows = [(name, *(types[name].get(what, 0) for what in COUNTED)) for name in sorted(types)]
    if len(rows) != 1:
        rows.append(("all", *(document[what] for what in COUNTED)))
    print_table(("type", *COUNTED), rows)
    if tally.nulls:
        say(f"{tally.nulls:,} record(s) without a value passed over.")
    if tally.left_out:
        say(f"{tally.left_out:,} record(s) left out by the times, organizations or ids given.")


def _show_forecast(forecast: Forecast, manner: Manner, *, finished: bool) -> None:
    total = sum(forecast.charges.values())
    if manner.as_json:
        print_json(
            {
                **forecast.tally.document(),
                "credits": total,
                "credits_by_org": forecast.charges,
                "waiting_by_org": forecast.waiting,
                "finished": finished,
            }
        )
        return
    say(
        "Nothing was written. A replay would find:"
        if finished
        else "Interrupted. So far a replay would find:"
    )
    _show_tally(forecast.tally)
    if forecast.charges:
        say("")
        say(f"It would charge {total:,} credit(s) to {len(forecast.charges):,} organization(s):")
        shown = list(forecast.charges.items())[:SHOWN_ORGANIZATIONS]
        print_table(("organization", "credits"), shown)
        if len(forecast.charges) > len(shown):
            say(f"... and {len(forecast.charges) - len(shown):,} more (--json lists all)")
    else:
        say("It would charge nothing.")
    if forecast.waiting:
        waiting = sum(forecast.waiting.values())
        say(
            f"{waiting:,} event(s) would wait for {len(forecast.waiting):,} organization(s) "
            "that are not active."
        )


# -- what is stored ---------------------------------------------------------------------------------------


async def retry(
    settings: Settings, selection: StoredSelection, reasons: frozenset[str], manner: Manner
) -> bool:
    """Give failed events another round; False where it was interrupted or not waited for."""
    if manner.dry_run:
        async with _looked_into(settings) as database:
            _show_retried(await would_retry(database, selection, reasons), manner, None)
        return True
    async with opened_database(settings) as database:
        with stop_on_signals() as stop:
            total = (await would_retry(database, selection, reasons)).total
            with shown_progress("Retrying", "events") as shown:
                opened = await retry_failed(
                    database,
                    selection,
                    reasons,
                    dependency_wait=IngestPolicy.of(settings).dependency_wait,
                    rate=manner.paced,
                    stop=stop,
                    on_progress=lambda done: shown.update(done, total),
                )
            finished = not stop.is_set()
            waiting = await _wait(database, Origin.RETRY, stop) if finished and manner.wait else None
    _show_retried(opened, manner, waiting)
    return finished and not waiting


async def emit_again(settings: Settings, selection: StoredSelection, manner: Manner) -> bool:
    """Publish stored outcomes once more; False where it was interrupted."""
    if manner.dry_run:
        async with _looked_into(settings) as database:
            _show_emitted(await would_emit(database, selection, settings.source), manner, finished=True)
        return True
    bounds = [0, 0]
    async with opened_database(settings) as database:
        with stop_on_signals() as stop, shown_progress("Publishing", "outcomes") as shown:

            def begun(first: int, last: int) -> None:
                bounds[:] = [first, last]
                if first:
                    complain(f"Going on behind outcome {first:,} of {last:,} (--restart begins anew).")

            try:
                emitted = await re_emit(
                    database,
                    selection,
                    settings.source,
                    command_id=selection.digest("re-emit"),
                    restart=manner.restart,
                    rate=manner.paced,
                    stop=stop,
                    on_begun=begun,
                    on_progress=lambda number: shown.update(number, bounds[1]),
                )
            except TakenOver:
                raise CommandFailed("the same command was given once more, and goes on there") from None
        finished = not stop.is_set()
    _show_emitted(emitted, manner, finished=finished)
    return finished


@contextlib.asynccontextmanager
async def _looked_into(settings: Settings) -> AsyncIterator[Database]:
    """Open a database that is there and up to date, for reading alone."""
    async with _looked_at(settings) as database:
        if database is None or not await is_current(database):
            raise CommandFailed("the database is not up to date: run `quartermaster db upgrade` first")
        yield database


def _show_retried(retried: Retried, manner: Manner, waiting: int | None) -> None:
    if manner.as_json:
        document: dict[str, Any] = {
            "dry_run": manner.dry_run,
            "retried": retried.total,
            "types": dict(retried.types),
            "reasons": dict(retried.reasons),
        }
        print_json(document if waiting is None else {**document, "waiting": waiting})
        return
    if not retried.total:
        say("No failed event is meant: `--reason` names refused charges, and `org show` what failed.")
        return
    done = "would have" if manner.dry_run else "have"
    say(f"{retried.total:,} event(s) {done} another round:")
    print_table(("type", "events"), sorted(retried.types.items()))
    say("")
    print_table(("had failed for", "events"), sorted(retried.reasons.items()))
    _show_waiting(waiting)


def _show_emitted(emitted: Emitted, manner: Manner, *, finished: bool) -> None:
    if manner.as_json:
        print_json(
            {
                "dry_run": manner.dry_run,
                "emitted": emitted.total,
                "types": dict(emitted.types),
                "finished": finished,
            }
        )
        return
    if not finished:
        say("Interrupted; the same command goes on from here.")
    if not emitted.total:
        say("No stored outcome is meant.")
        return
    done = "would be" if manner.dry_run else "are to be"
    say(f"{emitted.total:,} outcome(s) {done} published again, under their ids:")
    print_table(("type", "outcomes"), sorted(emitted.types.items()))


# -- what follows -----------------------------------------------------------------------------------------


async def _wait(database: Database, origin: Origin, stop: asyncio.Event) -> int:
    most = 0
    with shown_progress("Waiting", "events") as shown:

        def told(waiting: Mapping[Any, int]) -> None:
            nonlocal most
            left = sum(waiting.values())
            most = max(most, left)
            shown.update(
                most - left, most, ", ".join(f"{reason.value}: {n:,}" for reason, n in waiting.items())
            )

        return await wait_until_decided(database, origin, stop=stop, on_progress=told)


def _show_waiting(waiting: int | None) -> None:
    if waiting:
        say(f"{waiting:,} event(s) still wait; running instances go on with them.")
    elif waiting == 0:
        say("Running instances have decided all of it.")
