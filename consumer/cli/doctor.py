"""`quartermaster doctor`: is everything in place for `run`? Asks, and changes nothing."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import click

from consumer.cli.command import asynchronous
from consumer.cli.output import complain, console, json_option, print_json, visible
from consumer.kafka_access import TopicAccess, topic_access
from consumer.litellm.client import LiteLLMClient
from consumer.litellm.errors import LiteLLMError
from consumer.settings import REQUIRED_TO_RUN, Settings, SettingsError, load_settings, unknown_variables
from producers.connection import KafkaUnreachable
from storage.database import Database, DatabaseUnavailable
from storage.migrations import is_current

_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    detail: str


@click.command("doctor")
@json_option
@click.pass_context
@asynchronous
async def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Check settings, Kafka, database and LiteLLM: a line each, exit 1 where one fails.

    Nothing is changed: no topic is created and no record written. Each answer is waited for at most 10 s.

    \b
    Example:
      quartermaster doctor
      quartermaster doctor --json | jq '.checks[] | select(.ok | not)'
    """
    checks = []
    async for check in examine():
        checks.append(check)
        if not as_json:
            _print(check)
    failed = [check for check in checks if not check.ok]
    if as_json:
        print_json(
            {
                "ok": not failed,
                "checks": [{"check": one.name, "ok": one.ok, "detail": one.detail} for one in checks],
            }
        )
    if failed:
        complain(f"Error: {', '.join(check.name for check in failed)}: not as it should be")
        ctx.exit(1)


async def examine() -> AsyncIterator[Check]:
    """Look at one thing after the other, those that others hang on first."""
    try:
        settings = load_settings()
    except SettingsError as error:
        yield Check("settings", ok=False, detail=str(error))
        return
    yield _required_settings()
    for examined in (_kafka(settings), _database(settings), _litellm(settings)):
        for check in await examined:
            yield check


def _required_settings() -> Check:
    try:
        load_settings(require=REQUIRED_TO_RUN)
    except SettingsError as error:
        return Check("settings", ok=False, detail=str(error))
    unknown = unknown_variables()
    return Check(
        "settings",
        ok=True,
        detail=f"complete, but {', '.join(unknown)}: no such setting, ignored" if unknown else "complete",
    )


async def _kafka(settings: Settings) -> list[Check]:
    inbound = settings.inbound_topics
    outbound = tuple(dict.fromkeys(settings.outbound_topics.values()))
    topics = tuple(dict.fromkeys((*inbound, *outbound)))
    try:
        access = await topic_access(settings.kafka, topics, timeout_s=_TIMEOUT_S)
    except KafkaUnreachable as error:
        return [Check("kafka", ok=False, detail=f"{settings.kafka_bootstrap_servers}: {error}")]
    return [
        Check("kafka", ok=True, detail=f"{settings.kafka_bootstrap_servers} answers"),
        *(_topic(topic, access[topic], read=topic in inbound, write=topic in outbound) for topic in topics),
    ]


def _topic(name: str, access: TopicAccess, *, read: bool, write: bool) -> Check:
    check = f"topic {name}"
    if not access.exists:
        return Check(check, ok=False, detail="is not there, or may not be seen")
    if access.trouble is not None:
        return Check(check, ok=False, detail=access.trouble)
    wanted = [("readable", access.readable)] * read + [("writable", access.writable)] * write
    refused = [what for what, allowed in wanted if allowed is False]
    if refused:
        return Check(check, ok=False, detail=f"is there, but not {' and not '.join(refused)}")
    told = [what if allowed else f"{what}: the broker does not tell" for what, allowed in wanted]
    return Check(check, ok=True, detail=f"is there, {', '.join(told)}")


async def _database(settings: Settings) -> list[Check]:
    where = f"SQLite {settings.sqlite_path}" if settings.is_sqlite else "PostgreSQL"
    if settings.sqlite_path is not None and not settings.sqlite_path.exists():
        return [Check("database", ok=False, detail=f"{where} is not there: run `quartermaster db upgrade`")]
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            database = await Database.connect(settings.database_url.get_secret_value())
            try:
                current = await is_current(database)
            finally:
                await database.close()
    except TimeoutError:
        return [Check("database", ok=False, detail=f"{where} does not answer within {_TIMEOUT_S:.0f} s")]
    except DatabaseUnavailable as error:
        return [Check("database", ok=False, detail=f"{where}: {error}")]
    reachable = Check("database", ok=True, detail=f"{where} answers")
    if not current:
        return [reachable, Check("migrations", ok=False, detail="behind: run `quartermaster db upgrade`")]
    return [reachable, Check("migrations", ok=True, detail="up to date")]


async def _litellm(settings: Settings) -> list[Check]:
    if settings.litellm_url is None or settings.litellm_master_key is None:
        return [Check("litellm", ok=False, detail="QM_LITELLM_URL and QM_LITELLM_MASTER_KEY are needed")]
    client = LiteLLMClient.connect(
        settings.litellm_url,
        settings.litellm_master_key.get_secret_value(),
        timeout_s=min(settings.litellm_timeout_s, _TIMEOUT_S),
        ssl_cafile=settings.litellm_ssl_cafile,
    )
    async with client:
        try:
            await client.probe()
        except LiteLLMError as error:
            return [Check("litellm", ok=False, detail=f"{settings.litellm_url}: {error}")]
    return [Check("litellm", ok=True, detail=f"{settings.litellm_url} answers and accepts the key")]


def _print(check: Check) -> None:
    line = visible(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
    line.stylize("green" if check.ok else "bold red", 0, 4)
    console().print(line)
