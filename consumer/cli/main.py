"""The command `quartermaster` and what belongs to it."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Final, NamedTuple

import click
from click.shell_completion import CompletionItem

from consumer.garbage import garbage_after


class Listed(NamedTuple):
    """A command that is loaded when asked for: `publish` need not wait for the whole service's imports.

    Attributes:
        place: The module among ours, and the command's name in it.
        about: What its own help begins with, so that to list it nothing is loaded either.
    """

    place: str
    about: str


COMMANDS: Final[Mapping[str, Listed]] = {
    "run": Listed(
        "service:run",
        "Consume events, provision LiteLLM, keep the ledger, publish outcomes, serve the HTTP endpoints.",
    ),
    "demo": Listed(
        "demo:demo", "Run the whole chain on embedded parts: a broker, SQLite and a stand-in of LiteLLM."
    ),
    "publish": Listed(
        "publish:publish", "Publish the events of FILE (- for standard input), one JSON object a line."
    ),
    "replay": Listed("replay:replay", "Read topics once more into the books."),
    "doctor": Listed(
        "doctor:doctor", "Check settings, Kafka, database and LiteLLM: a line each, exit 1 where one fails."
    ),
    "dead-letters": Listed(
        "dead_letters:dead_letters_group",
        "Look at what could not be taken, and send it through again once it can.",
    ),
    "org": Listed("organizations:org_group", "Look at organizations."),
    "job": Listed("jobs:job_group", "Look at jobs."),
    "ledger": Listed("ledger:ledger_group", "Look at the books, and prove that they balance."),
    "credits": Listed("credits:credits_group", "Give credits, or put a balance right."),
    "keys": Listed("keys:keys_group", "Hand over a virtual key, or encrypt the stored ones anew."),
    "db": Listed("database:db_group", "Look after the database."),
    "completion": Listed(
        "completion:completion", "Print the script with which SHELL completes our commands at the Tab key."
    ),
}
"""Every command, in the order in which they are shown."""

OWN_PROCESS: Final = "own process"
"""The context's object where a command has its process to itself, as from a shell."""


class _Commands(click.Group):
    """Finds the commands by the table above, and shows them in its order."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        listed = COMMANDS.get(cmd_name)
        if listed is None:
            return None
        module, _, name = listed.place.partition(":")
        with garbage_after(for_good=ctx.find_root().obj == OWN_PROCESS):
            command = getattr(import_module(f"consumer.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Show the commands from the table alone, each in a line as click would shorten it."""
        limit = formatter.width - 6 - max(map(len, COMMANDS))
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, click.Command(name, help=listed.about).get_short_help_str(limit))
                    for name, listed in COMMANDS.items()
                ]
            )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names from the table alone: who waits at the Tab key need not wait for every import."""
        names = [CompletionItem(name) for name in COMMANDS if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quartermaster", prog_name="quartermaster")
def cli() -> None:
    """Provision LiteLLM and keep a credit ledger from Kafka events, each effect exactly once.

    Settings come from the environment (QM_...) or a .env file; `quartermaster doctor` checks them. Every
    command takes --json, and exits 0 where it did its work, 1 where it could not, 2 where it was used wrong.

    \b
    Begin with:
      quartermaster demo      the whole chain on embedded parts, nothing to set up
      quartermaster doctor    is everything in place?
      quartermaster run       the service
    """
    # A command says itself what went wrong; without a handler a library's warnings would go to the terminal.
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())
