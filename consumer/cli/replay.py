"""`quartermaster replay`: topics once more into the books, or another round for what failed."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import click
import structlog

from consumer.app import stop_on_signals
from consumer.cli.arguments import Identifier
from consumer.cli.command import CommandFailed, asynchronous, opened_database
from consumer.cli.output import complain, json_option, print_json, print_table, say
from consumer.cli.progress import shown_progress
from consumer.garbage import garbage_rarely
from consumer.ingest.applying import Applier
from consumer.ingest.client import make_consumer
from consumer.ingest.judging import IngestPolicy
from consumer.logging import configure_logging
from consumer.replay.opening import open_replay
from consumer.replay.reading import Reader
from consumer.replay.running import BreakerTripped, Replay, ReplayLimits
from consumer.replay.selection import Selection, WrongSelection, read_bound, select
from consumer.replay.tally import Tally
from consumer.settings import REQUIRED_TO_RUN, Settings, load_settings
from schemas.outcomes import Origin
from schemas.timestamps import format_rfc3339
from storage.replays import TakenOver

DEFAULT_NEW_PER_S: Final = 2_000.0
"""New events a second that leave a live consumer its latency (docs/benchmarks.md)."""
COUNTED: Final = ("new", "duplicate", "conflict", "invalid", "unknown")


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for, as the options say it."""

    selection: Selection
    rate: float | None
    restart: bool
    breaker: bool
    wait: bool
    as_json: bool


@click.command("replay")
@click.option(
    "--topic", "topics", multiple=True, help="A topic to read; repeatable. Without: all that `run` reads."
)
@click.option(
    "--from",
    "begin",
    multiple=True,
    metavar="TIME|TOPIC:PARTITION=OFFSET",
    help="Begin at a record time (RFC 3339) or, repeatable, at offsets.",
)
@click.option(
    "--to",
    "end",
    multiple=True,
    metavar="TIME|TOPIC:PARTITION=OFFSET",
    help="End before it. Without: at what stands there now.",
)
@click.option("--org", "orgs", multiple=True, type=Identifier(), help="Only this organization; repeatable.")
@click.option("--event-id", "event_ids", multiple=True, help="Only events with this id; repeatable.")
@click.option("--source", "sources", multiple=True, help="Only events from this source; repeatable.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    help=f"At most so many a second; 0: no limit. Without: {DEFAULT_NEW_PER_S:,.0f} of those that are new, "
    "and no limit for what is known.",
)
@click.option("--restart", is_flag=True, help="Begin anew where the same replay was interrupted.")
@click.option("--no-breaker", is_flag=True, help="Read on however many records of a topic are bad.")
@click.option("--wait", is_flag=True, help="Wait until running instances have done what follows.")
@json_option
@click.pass_context
@asynchronous
async def replay(  # noqa: PLR0917 - click names them all
    ctx: click.Context,
    topics: tuple[str, ...],
    begin: tuple[str, ...],
    end: tuple[str, ...],
    orgs: tuple[str, ...],
    event_ids: tuple[str, ...],
    sources: tuple[str, ...],
    rate: float | None,
    *,
    restart: bool,
    no_breaker: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Read topics once more into the books. What took effect before has none again.

    The topics are read outside the consumer group: running instances notice nothing, no offset is committed,
    and read access is enough. Events go through the same ingest as live ones; LiteLLM is left to running
    instances (`quartermaster run`), which also publish the outcomes. A replay ends at what stood on the
    topics when it began. Interrupted, the same command goes on where it was.

    With offsets only the partitions they name are read. Record times need not ascend: with --from or --to as
    a time, each record's own time decides.

    \b
    Examples:
      quartermaster replay --topic job.completed --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z
      quartermaster replay --org acme --wait
      quartermaster replay --from job.completed:3=18200 --to job.completed:3=18300
    """
    settings = load_settings(require=REQUIRED_TO_RUN)
    with _usage_errors():
        options = Options(
            selection=select(
                topics=topics,
                default_topics=settings.inbound_topics,
                dead_letter_topic=settings.topic_dead_letters,
                begin=read_bound("--from", begin),
                end=read_bound("--to", end),
                orgs=orgs,
                event_ids=event_ids,
                sources=sources,
            ),
            rate=rate,
            restart=restart,
            breaker=not no_breaker,
            wait=wait,
            as_json=as_json,
        )
    with _warnings_on_stderr(settings), garbage_rarely(), _usage_errors():
        finished = await _replay(settings, options)
    if not finished:
        ctx.exit(1)


async def _replay(settings: Settings, options: Options) -> bool:
    limits = ReplayLimits(
        max_event_bytes=settings.max_event_bytes,
        records_per_s=options.rate or None,
        new_per_s=DEFAULT_NEW_PER_S if options.rate is None else None,
        breaker_bad=settings.breaker_bad if options.breaker else None,
    )
    connection = settings.kafka
    consumer = make_consumer([], connection, group_id=None, client_id="quartermaster-replay")
    async with opened_database(settings) as database, contextlib.AsyncExitStack() as stack:
        await consumer.start()
        stack.push_async_callback(consumer.stop)
        opened = await open_replay(database, consumer, connection, options.selection, restart=options.restart)
        if opened.begun_at is not None:
            complain(
                f"Going on with the replay begun at {format_rfc3339(opened.begun_at)}: "
                f"{opened.passed:,} of {opened.total:,} offsets are behind it (--restart begins anew)."
            )
        applier = Applier(database=database, policy=IngestPolicy.of(settings), origin=Origin.REPLAY)
        stop = stack.enter_context(stop_on_signals())
        shown = stack.enter_context(shown_progress("Replaying", "records", begun=opened.passed))
        running = Replay(
            Reader(consumer, opened.spans),
            applier,
            options.selection,
            opened.run,
            limits,
            on_progress=lambda passed, tally: shown.update(
                opened.passed + passed, opened.total, f"{tally.new.total():,} new"
            ),
        )
        try:
            finished = await running.run(stop)
        except BreakerTripped as tripped:
            raise CommandFailed(
                f"{tripped}: is this the right topic? Nothing more was written; "
                "the same command with --no-breaker goes on all the same"
            ) from tripped
        except TakenOver:
            raise CommandFailed("the same replay was started once more, and goes on there") from None
    _show(running.tally, options, finished=finished, resumed=opened.begun_at is not None)
    return finished


def _show(tally: Tally, options: Options, *, finished: bool, resumed: bool) -> None:
    if options.as_json:
        print_json({**tally.document(), "finished": finished, "resumed": resumed})
        return
    say("The replay is done." if finished else "Interrupted; the same command goes on from here.")
    show_tally(tally)


def show_tally(tally: Tally) -> None:
    """Show people what the records came to, by type."""
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


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except WrongSelection as error:
        raise click.UsageError(str(error)) from error


@contextlib.contextmanager
def _warnings_on_stderr(settings: Settings) -> Iterator[None]:
    """Let what the service's parts log in such a case be seen, beside what the command prints."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logging(settings.model_copy(update={"log_level": "WARNING"}))
    try:
        yield
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)
