"""The command `quartermaster` and its groups."""

import click

from consumer.cli.credits import credits_group
from consumer.cli.database import db_group
from consumer.cli.demo import demo
from consumer.cli.doctor import doctor
from consumer.cli.jobs import job_group
from consumer.cli.keys import keys_group
from consumer.cli.ledger import ledger_group
from consumer.cli.organizations import org_group
from consumer.cli.publish import publish
from consumer.cli.service import run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quartermaster", prog_name="quartermaster")
def cli() -> None:
    r"""Provision LiteLLM and keep a credit ledger from Kafka events, each effect exactly once.

    Settings come from the environment (QM_...) or a .env file; `quartermaster doctor` checks them. Every
    command takes --json, and exits 0 where it did its work, 1 where it could not, 2 where it was used wrong.

    \b
    Begin with:
      quartermaster demo      the whole chain on embedded parts, nothing to set up
      quartermaster doctor    is everything in place?
      quartermaster run       the service
    """


for command in (
    run,
    demo,
    publish,
    doctor,
    credits_group,
    org_group,
    job_group,
    ledger_group,
    keys_group,
    db_group,
):
    cli.add_command(command)
