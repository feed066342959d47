"""The command `quartermaster` and what belongs to it."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Final

import click
from click.shell_completion import CompletionItem

#: Where each command is. Loaded when asked for: `publish` need not wait for the whole service's imports.
_COMMANDS: Final[Mapping[str, str]] = {
    "run": "service:run",
    "demo": "demo:demo",
    "publish": "publish:publish",
    "replay": "replay:replay",
    "doctor": "doctor:doctor",
    "dead-letters": "dead_letters:dead_letters_group",
    "org": "organizations:org_group",
    "job": "jobs:job_group",
    "ledger": "ledger:ledger_group",
    "credits": "credits:credits_group",
    "keys": "keys:keys_group",
    "db": "database:db_group",
    "completion": "completion:completion",
}


OWN_PROCESS: Final = "own process"
"""The context's object where a command has its process to itself, as from a shell."""


class _Commands(click.Group):
    """Finds the commands by the table above, and shows them in its order."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command = getattr(import_module(f"consumer.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names from the table alone: who waits at the Tab key need not wait for every import."""
        names = [CompletionItem(name) for name in _COMMANDS if name.startswith(incomplete)]
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
