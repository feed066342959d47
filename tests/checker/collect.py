"""Gathering a run's history from what it left behind: Kafka's topics, the database, LiteLLM."""

import asyncio
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final

import httpx
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from sqlalchemy import select

from consumer.ingest.header_names import accept_any_header_name
from storage import inbox, ledger, organizations, outbox
from storage.database import Database
from storage.tables import organizations as organization_rows
from tests.checker.history import Emitted, History, Key, LedgerEntry, Proxy, Published, Team

_AT_ONCE: Final = 8
_PAGE: Final = 100


async def collect(
    *,
    kafka: str,
    inbound: Iterable[str],
    outbound: Iterable[str],
    database: Database,
    litellm: httpx.AsyncClient | None,
    orgs: Iterable[str],
    users: Iterable[str],
) -> History:
    """Gather all that stands now. `orgs` and `users` are whose teams, memberships and keys are looked up.

    Args:
        kafka: The brokers' addresses.
        inbound: The topics that were read.
        outbound: The topics that were written.
        database: The run's database.
        litellm: A client whose base URL is the proxy's and that bears the master key.
        orgs: Every organization that any event named.
        users: Every user that any event named.
    """
    published = await read_topics(kafka, inbound)
    emitted = await read_topics(kafka, outbound)
    booked, balances, waiting, pending = await _books(database)
    return History(
        published=[
            Published(one.topic, one.partition, one.offset, one.key, one.value, one.headers, one.timestamp)
            for one in published
        ],
        emitted=[
            Emitted(one.topic, one.partition, one.offset, one.key, one.value, one.headers) for one in emitted
        ],
        ledger=booked,
        balances=balances,
        waiting=waiting,
        outbox_pending=pending,
        proxy=None if litellm is None else await look_at_litellm(litellm, orgs=orgs, users=users),
    )


async def read_topics(kafka: str, topics: Iterable[str], *, patience: float = 120) -> list[ConsumerRecord]:
    """Every committed record that stands on the topics, in the order of their partitions."""
    accept_any_header_name()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
    )
    try:
        await consumer.start()
        async with asyncio.timeout(patience):
            partitions = [one for topic in sorted(set(topics)) for one in await _partitions(consumer, topic)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            records: list[ConsumerRecord] = []
            while not await _at_end(consumer, partitions):
                fetched = await consumer.getmany(timeout_ms=100)
                records += chain.from_iterable(fetched.values())
    finally:
        await consumer.stop()
    return sorted(records, key=lambda record: (record.topic, record.partition, record.offset))


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    while not (found := consumer.partitions_for_topic(topic)):
        await consumer._client.force_metadata_update()  # of all topics, for none is subscribed to
    return [TopicPartition(topic, partition) for partition in sorted(found)]


async def _at_end(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> bool:
    for partition in partitions:
        end = consumer.highwater(partition)
        if end is None or await consumer.position(partition) < end:
            return False
    return True


async def _books(database: Database) -> tuple[list[LedgerEntry], dict[str, int], int, int]:
    async with database.reading() as tx:
        orgs = list(await tx.scalars(select(organization_rows.c.org_id)))
        balances = {org: state.balance for org, state in (await organizations.read(tx, orgs)).items()}
        booked = [
            LedgerEntry(
                entry.org_id,
                str(entry.transaction_id),
                str(entry.kind),
                entry.job_id,
                entry.credits,
                entry.balance_after,
                entry.sequence,
            )
            for org in orgs
            for entry in await ledger.entries_of(tx, org)
        ]
        waiting = sum(some.count for some in await inbox.waiting_summary(tx))
        return booked, balances, waiting, await outbox.count_pending(tx)


async def look_at_litellm(client: httpx.AsyncClient, *, orgs: Iterable[str], users: Iterable[str]) -> Proxy:
    """What stands at LiteLLM for these organizations and users."""
    few = asyncio.Semaphore(_AT_ONCE)

    async def answer(path: str, **query: Any) -> Mapping[str, Any] | None:
        async with few:
            response = await client.get(path, params=query)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        response.raise_for_status()
        found: Mapping[str, Any] = response.json()
        return found

    async def team_of(org: str) -> tuple[str, Mapping[str, Any] | None]:
        return org, await answer("/team/info", team_id=org)

    async def user_of(user: str) -> tuple[str, Mapping[str, Any] | None]:
        return user, await answer("/v2/user/info", user_id=user)

    async def keys_of(user: str) -> list[Any]:
        query = {"user_id": user, "return_full_object": "true", "size": _PAGE}
        page = await answer("/key/list", **query) or {}
        if page.get("total_pages", 1) > 1:
            raise ValueError(f"{user!r} has more keys than one page shows")
        return list(page.get("keys", ()))

    teams = dict(await asyncio.gather(*map(team_of, sorted(set(orgs)))))
    people = dict(await asyncio.gather(*map(user_of, sorted(set(users)))))
    listed = [page.get("keys", []) for page in teams.values() if page]
    listed += await asyncio.gather(*map(keys_of, sorted(set(users))))
    # One key is listed by its team and by its user; were it two, their hashes would differ.
    keys = {one["token"]: one for one in chain.from_iterable(listed)}
    return Proxy(
        teams={org: _team(page["team_info"]) for org, page in teams.items() if page},
        users=frozenset(user for user, found in people.items() if found and found.get("user_id") == user),
        keys=[
            Key(one["token"], one.get("key_alias"), one.get("team_id"), one.get("user_id"))
            for one in keys.values()
        ],
    )


def _team(info: Mapping[str, Any]) -> Team:
    members = [member["user_id"] for member in info["members_with_roles"]]
    return Team(info["team_alias"], info["max_budget"], members)
