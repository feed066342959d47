"""`quartermaster publish`: upstream's side, from JSON Lines."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import uuid
from datetime import UTC, datetime
from typing import BinaryIO

import click

from consumer.cli.command import CommandFailed, asynchronous
from consumer.cli.output import complain, json_option, print_json, say
from consumer.settings import load_settings
from producers.lines import LINE_SLACK, BadLines, bounded, read_lines
from producers.publisher import NotPublished, Publisher


@click.command("publish")
@click.argument("file", metavar="FILE|-", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Check the lines and produce nothing.")
@json_option
@asynchronous
async def publish(file: BinaryIO, *, dry_run: bool, as_json: bool) -> None:
    """Publish the events of FILE (- for standard input), one JSON object a line.

    A line is a CloudEvent, or {"type": ..., "data": ...} with id, source and time filled in. All lines are
    checked as `quartermaster run` would check them before the first is produced; one bad line and nothing
    is, exit 1, each bad line named. Each goes to the topic of its type under its organization's key.

    \b
    Example:
      echo '{"type": "user.joined", "data": {"org_id": "acme", "user_id": "u-17"}}' \\
        | quartermaster publish -
    """
    settings = load_settings()
    try:
        events = read_lines(
            bounded(file, settings.max_event_bytes + LINE_SLACK),
            new_id=lambda: str(uuid.uuid4()),
            now=lambda: datetime.now(UTC),
            max_bytes=settings.max_event_bytes,
        )
    except BadLines as error:
        for line in error.lines:
            complain(str(line))
        raise CommandFailed(f"{len(error.lines)} bad line(s), nothing was produced") from error
    if not dry_run:
        try:
            async with Publisher(
                settings.kafka,
                settings.event_topics,
                max_bytes=settings.max_event_bytes,
                idempotent=settings.kafka_idempotence,
            ) as publisher:
                await publisher.publish_all(events)
        except NotPublished as error:
            raise CommandFailed(str(error)) from error
    if as_json:
        print_json(
            {
                "published": 0 if dry_run else len(events),
                "events": [
                    {
                        "type": ready.type,
                        "source": ready.event.source,
                        "id": ready.event.id,
                        "topic": settings.event_topics[ready.type],
                    }
                    for ready in events
                ],
            }
        )
    elif dry_run:
        say(f"{len(events)} event(s) are in order; nothing was produced.")
    else:
        say(f"{len(events)} event(s) published.")
