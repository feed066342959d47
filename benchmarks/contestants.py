"""Who takes part: the bare pipes, ours, and the peers."""

import contextlib
from collections.abc import AsyncIterator

from cryptography.fernet import Fernet

from benchmarks.backlog import Backlog
from benchmarks.books import Template, verify
from benchmarks.cluster import Cluster
from benchmarks.contest import Contestant, Plan, new_group
from benchmarks.samples import ORGANIZATIONS

MASTER_KEY = "sk-benchmark"
NO_PROXY = "http://127.0.0.1:9"
"""Charging needs no LiteLLM: nobody listens here."""


def bare_pipe(outcomes: str, name: str) -> Contestant:
    """Make a bare pipe; `outcomes` as its own option takes it."""

    @contextlib.asynccontextmanager
    async def prepare(cluster: Cluster, backlog: Backlog) -> AsyncIterator[Plan]:
        group = new_group()
        arguments = ["-m", "benchmarks.programs.bare_pipe"]
        arguments += ["--kafka", cluster.address, "--topic", backlog.topic, "--group", group]
        arguments += ["--outcomes", outcomes]
        if outcomes == "none":
            arguments += ["--commit-at", str(backlog.records)]
            yield Plan(arguments, {}, group, None, 0)
        else:
            topic = await cluster.create("seen")
            yield Plan([*arguments, "--to", topic], {}, group, topic, backlog.records)

    return Contestant(f"bare_{outcomes}", name, prepare)


READ = bare_pipe("none", "fetch and validate, nothing else")
SEND = bare_pipe("send", "bare pipe, one `send` an event")
BATCHES = bare_pipe("batches", "bare pipe, record batches")


def ours(key: str, name: str, template: Template, *, instances: int = 1, profile: str = "") -> Contestant:
    """Make ours: `quartermaster run` on a copy of the template.

    Args:
        key: As in `Contestant`.
        name: As in `Contestant`.
        template: The books it begins with.
        instances: How many processes.
        profile: A file for a profile of it; none: the process as it is.
    """

    @contextlib.asynccontextmanager
    async def prepare(cluster: Cluster, backlog: Backlog) -> AsyncIterator[Plan]:
        group = new_group()
        async with template.copy() as url:

            async def check() -> None:
                await verify(url, charges=backlog.identities, grants=ORGANIZATIONS)

            outcomes = await cluster.create("credits")
            environment = await settings(
                cluster, group=group, database_url=url, job_completed=backlog.topic, credits_outcomes=outcomes
            )
            yield Plan(
                run_arguments(profile),
                environment,
                group,
                outcomes,
                backlog.identities,
                instances=instances,
                check=check,
            )

    return Contestant(key, name, prepare)


def run_arguments(profile: str = "") -> list[str]:
    """Give what starts `quartermaster run`, under the sampler where `profile` names a file."""
    return ["-m", "benchmarks.sampling", profile, "run"] if profile else ["-m", "consumer", "run"]


async def settings(
    cluster: Cluster,
    *,
    group: str,
    database_url: str,
    litellm_url: str = NO_PROXY,
    litellm_key: str = MASTER_KEY,
    **topics: str,
) -> dict[str, str]:
    """Give the environment of `quartermaster run`, with a new topic for each that is not named."""
    names = ("org_created", "user_joined", "job_completed")
    names += ("provisioning_outcomes", "credits_outcomes", "dead_letters")
    for name in names:
        if name not in topics:
            topics[name] = await cluster.create(name.replace("_", "-"))
    return {
        "QM_KAFKA_BOOTSTRAP_SERVERS": cluster.address,
        "QM_KAFKA_GROUP_ID": group,
        "QM_DATABASE_URL": database_url,
        "QM_LITELLM_URL": litellm_url,
        "QM_LITELLM_MASTER_KEY": litellm_key,
        "QM_KEY_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "QM_HTTP_PORT": "0",
        "QM_LOG_FORMAT": "json",
    } | {f"QM_TOPIC_{name.upper()}": topic for name, topic in topics.items()}
