"""Who takes part: the bare pipes, ours, and the peers."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from cryptography.fernet import Fernet
from sqlalchemy.engine import make_url

from benchmarks.backlog import Backlog
from benchmarks.books import CREDITS, Template, empty_database, verify
from benchmarks.cluster import Cluster
from benchmarks.contest import Contestant, Plan, new_group
from benchmarks.programs import store
from benchmarks.samples import ORGANIZATIONS, org_ids

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
SEND = bare_pipe("send", "bare pipe, a send an event")
BATCHES = bare_pipe("batches", "bare pipe, record batches")


@contextlib.asynccontextmanager
async def peer_books(address: str) -> AsyncIterator[Template]:
    """Make a PostgreSQL database with the peers' tables and accounts."""
    async with empty_database(address) as url:
        await store.create(url.render_as_string(hide_password=False), org_ids(), CREDITS)
        yield Template(url, make_url(address).set(drivername="postgresql+asyncpg"))


def peer(key: str, name: str, template: Template, arguments: Sequence[str]) -> Contestant:
    """Make a peer that keeps the books of `benchmarks.programs.store`.

    Args:
        key: As in `Contestant`.
        name: As in `Contestant`.
        template: Its books.
        arguments: Its module in `benchmarks.programs`, and options of its own.
    """
    module, *options = arguments

    @contextlib.asynccontextmanager
    async def prepare(cluster: Cluster, backlog: Backlog) -> AsyncIterator[Plan]:
        group = new_group()
        async with template.copy() as url:

            async def check() -> None:
                await store.check(url, charges=backlog.identities, balance=CREDITS)

            outcomes = await cluster.create("peer")
            where = ["--kafka", cluster.address, "--topic", backlog.topic, "--group", group]
            where += ["--database", url, "--to", outcomes, *options]
            yield Plan(
                ["-m", f"benchmarks.programs.{module}", *where],
                {},
                group,
                outcomes,
                backlog.identities,
                check=check,
            )

    return Contestant(key, name, prepare)


def one_at_a_time(template: Template) -> Contestant:
    """Make the loop of one transaction an event."""
    return peer("one_at_a_time", "one event at a time, SQLAlchemy", template, ["one_at_a_time"])


def faststream_messages(template: Template) -> Contestant:
    """Make FastStream's handler of a message."""
    return peer("faststream_messages", "FastStream, a message", template, ["faststream_jobs"])


def faststream_batches(template: Template) -> Contestant:
    """Make FastStream's handler of a batch."""
    return peer("faststream_batches", "FastStream, a batch", template, ["faststream_jobs", "--batch"])


def ours(
    key: str,
    name: str,
    template: Template,
    *,
    instances: int = 1,
    organizations: int = ORGANIZATIONS,
    entries_before: int = 0,
    profile: str = "",
    look: Callable[[str], Awaitable[None]] | None = None,
) -> Contestant:
    """Make ours: `quartermaster run` on a copy of the template.

    Args:
        key: As in `Contestant`.
        name: As in `Contestant`.
        template: The books it begins with.
        instances: How many processes.
        organizations: How many there are.
        entries_before: How many ledger entries stand there beside the organizations' first.
        profile: A file for a profile of it; none: the process as it is.
        look: Looks at its database afterwards.
    """

    @contextlib.asynccontextmanager
    async def prepare(cluster: Cluster, backlog: Backlog) -> AsyncIterator[Plan]:
        group = new_group()
        async with template.copy() as url:

            async def check() -> None:
                await verify(url, charges=backlog.identities, others=organizations + entries_before)
                if look is not None:
                    await look(url)

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
    inbound = ("org_created", "user_joined", "job_completed")
    outbound = ("provisioning_outcomes", "credits_outcomes", "dead_letters")
    for name in (*inbound, *outbound):
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
