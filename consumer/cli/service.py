"""`quartermaster run`: the consumer itself."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import click
import structlog

from consumer.app import CannotStart, run_service
from consumer.cli.command import CommandFailed, asynchronous
from consumer.http import CannotListen
from consumer.logging import configure_logging
from consumer.settings import REQUIRED_TO_RUN, load_settings, unknown_variables

log = structlog.get_logger(__name__)


@click.command("run")
@click.option(
    "--migrate", is_flag=True, help="Bring a PostgreSQL database up to date first (SQLite always is)."
)
@click.option("--no-breaker", is_flag=True, help="Read on however many records of a topic are bad.")
@click.option("--json", "as_json", is_flag=True, help="Log JSON lines, whatever QM_LOG_FORMAT says.")
@asynchronous
async def run(*, migrate: bool, no_breaker: bool, as_json: bool) -> None:
    """Consume events, provision LiteLLM, keep the ledger, publish outcomes, serve the HTTP endpoints.

    SIGTERM or SIGINT finishes what is in hand within QM_SHUTDOWN_TIMEOUT and exits 0. Any number of
    instances may run on one PostgreSQL database, one on a SQLite file. docs/settings.md lists every setting.

    \b
    Example:
      export QM_LITELLM_URL=http://localhost:4000 QM_LITELLM_MASTER_KEY=sk-...
      export QM_KEY_ENCRYPTION_KEY=$(python -c \\
        'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())')
      quartermaster run
    """
    settings = load_settings(require=REQUIRED_TO_RUN)
    if as_json:
        settings = settings.model_copy(update={"log_format": "json"})
    configure_logging(settings)
    for name in unknown_variables():
        log.warning("unknown_setting", name=name, action="ignored")
    try:
        await run_service(settings, migrate=migrate, breaker=not no_breaker)
    except (CannotStart, CannotListen) as error:
        raise CommandFailed(str(error)) from error
