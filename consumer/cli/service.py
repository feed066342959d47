"""`quartermaster run`: the consumer itself."""

import click

from consumer.app import run_service
from consumer.cli.command import asynchronous
from consumer.logging import configure_logging
from consumer.settings import REQUIRED_TO_RUN, load_settings, unknown_variables


@click.command("run")
@click.option(
    "--migrate", is_flag=True, help="Bring a PostgreSQL database up to date first (SQLite always is)."
)
@click.option("--no-breaker", is_flag=True, help="Read on however many records of a topic are bad.")
@asynchronous
async def run(*, migrate: bool, no_breaker: bool) -> None:
    r"""Consume events, provision LiteLLM, keep the ledger, publish outcomes, serve the HTTP endpoints.

    SIGTERM or SIGINT finishes what is in hand within QM_SHUTDOWN_TIMEOUT and exits 0. Any number of
    instances may run on one PostgreSQL database, one on a SQLite file. docs/settings.md lists every setting.

    \b
    Example:
      export QM_LITELLM_URL=http://localhost:4000 QM_LITELLM_MASTER_KEY=sk-...
      export QM_KEY_ENCRYPTION_KEY=$(python -c \
        'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())')
      quartermaster run
    """
    settings = load_settings(require=REQUIRED_TO_RUN)
    configure_logging(settings, warn_about=unknown_variables())
    await run_service(settings, migrate=migrate, breaker=not no_breaker)
