"""`quartermaster replay`: topics once more into the books, another round for what failed, outcomes again."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Final

import click
import structlog

from consumer.cli.arguments import Identifier
from consumer.cli.command import asynchronous
from consumer.cli.main import OWN_PROCESS
from consumer.cli.output import json_option
from consumer.cli.replaying import (
    DEFAULT_NEW_PER_S,
    DEFAULT_PER_S,
    Manner,
    dry_run_topics,
    emit_again,
    replay_topics,
    retry,
)
from consumer.garbage import garbage_rarely
from consumer.logging import configure_logging
from consumer.replay.selection import WrongSelection, read_bound, select
from consumer.replay.stored import select_stored
from consumer.settings import REQUIRED_TO_RUN, Settings, load_settings

NICE: Final = 10
"""Whatever else runs on this machine goes first, a live consumer above all; alone, it costs nothing."""
_BOUND: Final = "TIME|TOPIC:PARTITION=OFFSET"


@click.command("replay")
@click.option(
    "--topic", "topics", multiple=True, help="A topic to read; repeatable. Without: all that `run` reads."
)
@click.option(
    "--from",
    "begin",
    multiple=True,
    metavar=_BOUND,
    help="Begin at a record time (RFC 3339) or, repeatable, at offsets.",
)
@click.option(
    "--to",
    "end",
    multiple=True,
    metavar=_BOUND,
    help="End before it. Without: at what stands there now.",
)
@click.option("--org", "orgs", multiple=True, type=Identifier(), help="Only this organization; repeatable.")
@click.option("--event-id", "event_ids", multiple=True, help="Only events with this id; repeatable.")
@click.option("--source", "sources", multiple=True, help="Only events from this source; repeatable.")
@click.option("--dry-run", is_flag=True, help="Only say what would be; nothing is written.")
@click.option("--retry-failed", is_flag=True, help="Read no topic: give failed provisioning another round.")
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    help="With --retry-failed: only what failed for this (`error_code` or `reason` of its outcome), "
    "refused charges too; repeatable.",
)
@click.option(
    "--re-emit", "emit", is_flag=True, help="Read no topic: publish stored outcomes again, unchanged."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    help=f"At most so many a second; 0: no limit. Without: {DEFAULT_PER_S:,.0f}, and of what is written "
    f"{DEFAULT_NEW_PER_S:,.0f}.",
)
@click.option("--restart", is_flag=True, help="Begin anew where the same command was interrupted.")
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
    reasons: tuple[str, ...],
    rate: float | None,
    *,
    dry_run: bool,
    retry_failed: bool,
    emit: bool,
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

    With offsets only the partitions they name are read. Record times need not ascend: with a time each
    record's own decides, and a partition is read to its end.

    With --retry-failed and --re-emit no topic is read: --from and --to are when the event was stored, or its
    outcome decided.

    \b
    Example:
      quartermaster replay --dry-run
      quartermaster replay --topic job.completed --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z
      quartermaster replay --from job.completed:3=18200 --to job.completed:3=18300
      quartermaster replay --org acme --wait
      quartermaster replay --retry-failed --org acme --wait
      quartermaster replay --retry-failed --reason insufficient_credits
      quartermaster replay --re-emit --from 2026-03-01T00:00:00Z --rate 500
    """
    manner = Manner(rate=rate, dry_run=dry_run, restart=restart, wait=wait, as_json=as_json)
    from_topics = not (retry_failed or emit)
    _refuse(
        {
            "--retry-failed and --re-emit are two commands": retry_failed and emit,
            "--topic: no topic is read with --retry-failed or --re-emit": bool(topics) and not from_topics,
            "--no-breaker: no topic is read with --retry-failed or --re-emit": no_breaker and not from_topics,
            "--reason goes with --retry-failed": bool(reasons) and not retry_failed,
            "--restart: another round has no place to go on from": restart and retry_failed,
            "--restart: a dry run always begins anew": restart and dry_run,
            "--no-breaker: a dry run has none": no_breaker and dry_run,
            "--wait: nothing follows from a dry run": wait and dry_run,
            "--wait: nothing follows from --re-emit but what running instances publish": wait and emit,
        }
    )
    with _usage_errors():
        first, last = read_bound("--from", begin), read_bound("--to", end)
        stored = None
        if not from_topics:
            stored = select_stored(begin=first, end=last, orgs=orgs, event_ids=event_ids, sources=sources)
        settings = load_settings(require=REQUIRED_TO_RUN)
        if ctx.obj == OWN_PROCESS:
            os.nice(NICE)
        with _warnings_on_stderr(settings), garbage_rarely():
            if stored is not None and retry_failed:
                done = await retry(settings, stored, frozenset(reasons), manner)
            elif stored is not None:
                done = await emit_again(settings, stored, manner)
            else:
                selection = select(
                    topics=topics,
                    default_topics=settings.inbound_topics,
                    dead_letter_topic=settings.topic_dead_letters,
                    begin=first,
                    end=last,
                    orgs=orgs,
                    event_ids=event_ids,
                    sources=sources,
                )
                if dry_run:
                    done = await dry_run_topics(settings, selection, manner)
                else:
                    done = await replay_topics(settings, selection, manner, breaker=not no_breaker)
    if not done:
        ctx.exit(1)


def _refuse(objections: dict[str, bool]) -> None:
    for objection, holds in objections.items():
        if holds:
            raise click.UsageError(objection)


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
