"""The options that say which dead letters a command means."""

import functools
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import click

from consumer.cli.arguments import Identifier, Line, since_option, until_option
from schemas.dead_letters import DeadLetterReason
from storage.dead_letters import Wanted

_LONGEST_TOPIC: Final = 249

Function = Callable[..., Any]


def letter_filters(command: Function) -> Function:
    """Add the options that say which dead letters are meant, as one argument `wanted`."""
    options = (
        click.option(
            "--reason",
            type=click.Choice([reason.value for reason in DeadLetterReason]),
            help="Only those refused for this.",
        ),
        click.option("--topic", type=Line(_LONGEST_TOPIC), help="Only those that stood on this topic."),
        click.option(
            "--org",
            "org_id",
            type=Identifier(),
            help="Only those whose record key is this organization's id: what they hold is not read.",
        ),
        since_option,
        until_option,
    )

    @functools.wraps(command)
    def with_wanted(
        *,
        reason: str | None,
        topic: str | None,
        org_id: str | None,
        since: datetime | None,
        until: datetime | None,
        **given: Any,
    ) -> Any:
        wanted = Wanted(
            reason=None if reason is None else DeadLetterReason(reason),
            topic=topic,
            key=None if org_id is None else org_id.encode(),
            since=since,
            until=until,
        )
        return command(wanted=wanted, **given)

    decorated: Function = with_wanted
    for option in reversed(options):
        decorated = option(decorated)
    return decorated
