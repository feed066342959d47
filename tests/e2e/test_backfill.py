"""The database is lost: from the topics, and beside what stands in LiteLLM, the books come back exactly."""

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import select

from storage import tables
from storage.database import Database
from tests.e2e.world import World, event, eventually


async def books(url: str) -> dict[str, Any]:
    """Give what is to come back exactly: every entry in its place, every balance, every outcome's id."""
    database = await Database.connect(url)
    try:
        async with database.reading() as tx:
            entries, orgs, outcomes = tables.ledger_entries, tables.organizations.c, tables.outcomes.c
            ledger = select(*(column for column in entries.c if column.name != "created_at"))
            state = select(orgs.org_id, orgs.status, orgs.balance, orgs.charges, orgs.entries)
            told = select(outcomes.outcome_id, outcomes.type, outcomes.org_id)
            return {
                name: sorted(tuple(map(str, row)) for row in await tx.execute(query))
                for name, query in {"ledger": ledger, "organizations": state, "outcomes": told}.items()
            }
    finally:
        await database.close()


async def live(world: World) -> int:
    """Let two organizations live for a while; return how many outcomes that makes."""
    count = 0
    for name in ("acme", "zenith"):
        org = world.org(name)
        data = {"org_id": org, "name": name, "owner_user_id": f"{org}-ann", "initial_credits": 12}
        await world.publish("org.created", data, id_=f"{org}-o")
        await world.publish("user.joined", {"org_id": org, "user_id": f"{org}-bob"}, id_=f"{org}-u")
        jobs = [
            event(
                "job.completed",
                # Some jobs are named twice, and there are more of them than credits.
                {
                    "org_id": org,
                    "job_id": f"j{n // 2 * 2}",
                    "status": "failed" if n % 5 == 0 else "completed",
                },
                id_=f"{org}-{n}",
            )
            for n in range(40)
        ]
        await world.produce_all("job.completed", [(org, one) for one in jobs])
        count += 2 + len(jobs)
    return count


async def told(world: World) -> int:
    return len(await world.records("provisioning.outcomes")) + len(await world.records("credits.outcomes"))


async def refused(world: World) -> int:
    told = [one["type"] for one in await world.outcomes("provisioning.outcomes")]
    return told.count("org.provisioning_failed")


async def keys_of(world: World) -> list[Any]:
    shown = [world.json_command("keys", "show", world.org(name)) for name in ("acme", "zenith")]
    return list(await asyncio.gather(*shown))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("adopts_at_once", [True, False])
async def test_from_nothing_the_books_come_back_exactly(
    world: World, another_database_url: str, *, adopts_at_once: bool
) -> None:
    service = await world.run_ready()
    count = await live(world)
    await eventually(lambda: told(world), lambda seen: seen == count, what=f"{count} outcomes")
    assert await service.stop() == 0
    lost = await books(world.database_url)
    keys = await keys_of(world)

    # From here on nobody knows of the first database.
    world.database_url = world.settings["QM_DATABASE_URL"] = another_database_url
    said = await world.json_command("replay", "--dry-run")
    assert (said["new"], said["duplicate"]) == (count, 0)
    charged = {world.org(name): 12 for name in ("acme", "zenith")}
    assert said["credits_by_org"] == charged
    assert (await world.json_command("replay"))["new"] == count

    if not adopts_at_once:
        # Keys that LiteLLM holds under our names, and that this database does not know, are not taken over.
        service = await world.run_ready()
        await eventually(lambda: refused(world), lambda seen: seen == 2, what="both organizations failed")
        failed = await world.json_command("replay", "--retry-failed", "--dry-run")
        assert (failed["retried"], failed["reasons"]) == (2, {"key_conflict": 2})
        assert await service.stop() == 0
    await world.run_ready(adopt_existing_teams="true")
    if not adopts_at_once:
        assert (await world.json_command("replay", "--retry-failed", "--wait"))["waiting"] == 0
    waited = await world.json_command("replay", "--wait")
    assert (waited["new"], waited["duplicate"], waited["waiting"]) == (0, count, 0)

    found = await books(another_database_url)
    assert found["ledger"] == lost["ledger"]
    assert found["organizations"] == lost["organizations"]
    if adopts_at_once:
        assert found["outcomes"] == lost["outcomes"]
    else:
        # The first round's failure is told, too.
        assert set(lost["outcomes"]) - set(found["outcomes"]) == {
            one for one in lost["outcomes"] if one[1] == "org.provisioned"
        }
    assert (await world.json_command("ledger", "verify"))["ok"]
    # Only the keys are others: no value can be read out of LiteLLM.
    again = await keys_of(world)
    assert {one["hash"] for one in again}.isdisjoint(one["hash"] for one in keys)
    assert json.dumps(again) != json.dumps(keys)
