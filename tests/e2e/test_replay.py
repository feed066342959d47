"""`quartermaster replay` beside running instances, as an operator uses it."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from storage.database import Database
from tests.e2e.world import World, event, eventually
from tests.replays.history import dump


@asynccontextmanager
async def nobody() -> AsyncIterator[tuple[str, list[str]]]:
    """LiteLLM's place, where every call is noted and none is answered."""
    calls: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append((await reader.readline()).decode())
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", calls
    finally:
        server.close()
        await server.wait_closed()


async def found(world: World, org: str, **more: Any) -> str:
    data = {"org_id": org, "name": "Acme", "owner_user_id": f"{org}-ann", "initial_credits": 50, **more}
    return await world.publish("org.created", data)


@pytest.mark.real("kafka")
async def test_running_instances_notice_nothing_and_nothing_is_done_twice(world: World) -> None:
    await world.run_ready()
    org = world.org()
    await found(world, org)
    for n in range(20):
        await world.publish("job.completed", {"org_id": org, "job_id": f"j{n}", "status": "completed"})
    await world.produce("job.completed", b"nonsense", key=org)
    await eventually(
        lambda: world.records("credits.outcomes"), lambda seen: len(seen) == 20, what="twenty charges"
    )
    await eventually(
        lambda: world.records("quartermaster.dead-letters"), lambda seen: len(seen) == 1, what="a dead letter"
    )

    admin = AIOKafkaAdminClient(bootstrap_servers=world.kafka)
    await admin.start()
    try:
        group = world.settings["QM_KAFKA_GROUP_ID"]

        async def stands() -> Any:
            (described,) = await admin.describe_consumer_groups([group])
            members = sorted(member[0] for member in described.groups[0][5])
            groups = [name for name, _ in await admin.list_consumer_groups() if world.name in name]
            return members, await admin.list_consumer_group_offsets(group), groups

        def all_committed(stand: Any) -> bool:
            return bool(sum(one.offset for one in stand[1].values()) == 22)

        before = await eventually(stands, all_committed, what="every offset is committed")
        assert before[0]
        said = await world.json_command("replay")
        assert {name: said[name] for name in ("new", "duplicate", "conflict", "invalid", "unknown")} == {
            "new": 0,
            "duplicate": 21,
            "conflict": 0,
            "invalid": 1,
            "unknown": 0,
        }
        assert await stands() == before
    finally:
        await admin.close()
    assert len(await world.records("credits.outcomes")) == 20
    assert len(await world.records("quartermaster.dead-letters")) == 1


async def test_a_dry_run_writes_nothing_and_calls_nobody(world: World) -> None:
    org = world.org()
    await world.command("db", "upgrade")
    await found(world, org)
    await world.produce_all(
        "job.completed",
        [
            (
                org,
                event(
                    "job.completed", {"org_id": org, "job_id": f"j{n}", "status": "completed"}, id_=f"e{n}"
                ),
            )
            for n in range(60)
        ],
    )
    database = await Database.connect(world.database_url)
    try:
        before = await dump(database)
        async with nobody() as (url, calls):
            said = json.loads(await world.command("replay", "--dry-run", "--json", litellm_url=url))
            text = await world.command("replay", "--dry-run", litellm_url=url)
            assert await dump(database) == before
            # The replay itself leaves LiteLLM to running instances.
            await world.command("replay", litellm_url=url)
            await world.command("replay", "--retry-failed", litellm_url=url)
            await world.command("replay", "--re-emit", litellm_url=url)
        assert calls == []
    finally:
        await database.close()
    assert (said["new"], said["credits"], said["credits_by_org"]) == (61, 50, {org: 50})
    assert "Nothing was written" in text
    assert "50 credit(s)" in text


async def test_a_failed_organization_has_another_round_and_its_jobs_are_charged(world: World) -> None:
    org = world.org()
    async with httpx.AsyncClient(
        base_url=world.settings["QM_LITELLM_URL"],
        headers={"Authorization": f"Bearer {world.settings['QM_LITELLM_MASTER_KEY']}"},
        timeout=30,
    ) as litellm:
        (await litellm.post("/team/new", json={"team_id": org, "team_alias": "theirs"})).raise_for_status()
        await world.run_ready()
        founded = await found(world, org)
        assert (await world.outcome_of(founded))["data"]["error_code"] == "team_conflict"
        job = await world.publish("job.completed", {"org_id": org, "job_id": "j", "status": "completed"})
        await world.until_waiting(org, 1)
        told = await world.json_command("replay", "--retry-failed", "--org", org, "--dry-run")
        assert (told["retried"], told["reasons"]) == (1, {"team_conflict": 1})
        (await litellm.post("/team/delete", json={"team_ids": [org]})).raise_for_status()
        said = await world.json_command("replay", "--retry-failed", "--org", org, "--wait")
    assert (said["retried"], said["waiting"]) == (1, 0)

    rounds = await eventually(
        lambda: world.outcomes("provisioning.outcomes"),
        lambda seen: len(seen) == 2,
        what="two rounds",
    )
    assert [(one["type"], one["round"], one["origin"]) for one in rounds] == [
        ("org.provisioning_failed", 1, "live"),
        ("org.provisioned", 2, "retry"),
    ]
    assert (await world.outcome_of(job))["type"] == "credits.deducted"


async def test_outcomes_are_published_again_byte_for_byte(world: World) -> None:
    await world.run_ready()
    org = world.org()
    await found(world, org)
    for n in range(5):
        await world.publish("job.completed", {"org_id": org, "job_id": f"j{n}", "status": "completed"})
    first = await eventually(
        lambda: world.records("credits.outcomes"), lambda seen: len(seen) == 5, what="five charges"
    )
    said = await world.json_command("replay", "--re-emit", "--org", org)
    assert said["types"] == {"credits.deducted": 5, "org.provisioned": 1}
    again = await eventually(
        lambda: world.records("credits.outcomes"), lambda seen: len(seen) == 10, what="each once more"
    )
    assert [(one.key, one.value, one.headers) for one in again[5:]] == [
        (one.key, one.value, one.headers) for one in first
    ]


async def test_interrupted_it_says_where_it_was_and_goes_on(world: World) -> None:
    await world.command("db", "upgrade")
    await world.produce_all(
        "job.completed",
        [
            (
                f"o{n % 5}",
                event(
                    "job.completed",
                    {"org_id": f"o{n % 5}", "job_id": f"j{n}", "status": "failed"},
                    id_=f"e{n}",
                ),
            )
            for n in range(400)
        ],
    )
    process = await asyncio.create_subprocess_exec(
        *world.program,
        "replay",
        "--rate",
        "100",
        env=world.environment({}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    database = await Database.connect(world.database_url)
    try:
        await eventually(
            lambda: dump(database), lambda seen: len(seen["identities"]) >= 30, what="thirty are applied"
        )
    finally:
        await database.close()
    process.send_signal(signal.SIGINT)
    out, errors = await process.communicate()
    assert process.returncode == 1, errors.decode()
    assert "the same command goes on from here" in out.decode()

    said = json.loads(await world.command("replay", "--json", "--rate", "0"))
    assert (said["new"], said["duplicate"], said["resumed"], said["finished"]) == (400, 0, True, True)


# One of each kind: refused by click, by us, and where it is read. tests/integration/cli has them all.
@pytest.mark.parametrize("dialect", ["sqlite"])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--rate", "-1"], "--rate"),
        (["--retry-failed", "--re-emit"], "two commands"),
        (["--from", "yesterday"], "yesterday"),
    ],
)
async def test_wrong_use_exits_with_2_and_says_why(
    world: World, options: list[str], named: str, dialect: str
) -> None:
    said = await world.command("replay", *options, expect=2)
    assert named in said.strip().splitlines()[-1]
