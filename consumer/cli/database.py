"""`quartermaster db upgrade`: the database's migrations."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import click

from consumer.cli.command import asynchronous
from consumer.cli.output import json_option, print_json, say
from consumer.settings import load_settings
from storage.database import Database
from storage.migrations import is_current, migrate


@click.group("db")
def db_group() -> None:
    """Look after the database."""


@db_group.command("upgrade")
@json_option
@asynchronous
async def upgrade(*, as_json: bool) -> None:
    """Apply the migrations that the database lacks. Forward only; harmless to repeat.

    Of several instances that start at once one migrates and the others wait. `quartermaster run` does it by
    itself on SQLite, and on PostgreSQL with --migrate.

    \b
    Example:
      QM_DATABASE_URL=postgresql+asyncpg://qm@db/quartermaster quartermaster db upgrade
    """
    settings = load_settings()
    database = await Database.connect(settings.database_url.get_secret_value())
    try:
        was_current = await is_current(database)
        if not was_current:
            await migrate(database)
    finally:
        await database.close()
    if as_json:
        print_json({"upgraded": not was_current})
    else:
        say("The database was up to date." if was_current else "The database is up to date now.")
