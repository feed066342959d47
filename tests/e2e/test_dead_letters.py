"""From a record nobody could read to a charged job, by the operator's hand."""

import asyncio
import json
from typing import Any

from tests.e2e.world import World, event, eventually


async def letters(world: World, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await world.json_command("dead-letters", "list", *arguments)
    return found


async def until_dead(world: World, count: int) -> None:
    """Wait until so many dead letters are published: a dead letter is in the books before it is."""
    await eventually(
        lambda: world.records("quartermaster.dead-letters"),
        lambda some: len(some) == count,
        what=f"{count} dead letters",
    )


async def test_a_dead_letter_is_found_mended_and_charged_once(world: World) -> None:
    await world.run_ready()
    org = world.org()
    founded = await world.publish(
        "org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o", "initial_credits": 5}
    )
    await world.outcome_of(founded)
    bad = event("job.completed", {"org_id": org, "job_id": "j", "status": "done"}, id_="mended")
    await world.produce("job.completed", bad, key=org)
    await until_dead(world, 1)
    [found] = await letters(world)
    assert (found["reason"], found["topic"]) == ("invalid_data", world.topics["job.completed"])
    number = str(found["id"])

    # Still bad: it stays, and nothing is written.
    said = await world.command("dead-letters", "redrive", number, expect=1)
    assert "data.status" in said
    shown = await world.json_command("dead-letters", "show", number)
    assert shown["value"].encode() == bad
    assert shown["key"] == org

    mended = event("job.completed", {"org_id": org, "job_id": "j", "status": "completed"}, id_="mended")
    done = await world.command("dead-letters", "redrive", number, "--value", "-", "--json", stdin=mended)
    assert json.loads(done)["applied"] == 1
    outcome = await world.outcome_of("mended")
    assert (outcome["type"], outcome["origin"]) == ("credits.deducted", "redrive")
    again = await world.command("dead-letters", "redrive", number, "--value", "-", stdin=mended, expect=1)
    assert "it is not sent a second time" in again

    left, [kept], shown = await asyncio.gather(
        letters(world), letters(world, "--all"), world.json_command("org", "show", org)
    )
    assert left == []
    assert kept["redriven"] is True
    assert shown["credits_balance"] == 4
    records = await world.records("quartermaster.dead-letters")
    assert [record.value for record in records] == [bad]


async def test_two_operators_who_redrive_everything_at_once_charge_each_job_once(world: World) -> None:
    service = await world.run_ready(max_event_bytes="1024")
    org = world.org()
    founded = await world.publish("org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o"})
    await world.outcome_of(founded)
    await world.command("credits", "add", org, "100", "--reason", "start", "--id", f"s-{org}")
    jobs = [
        event(
            "job.completed",
            {"org_id": org, "job_id": f"j{n}", "status": "completed", "metadata": {"long": "x" * 1500}},
            id_=f"{org}-{n}",
        )
        for n in range(60)
    ]
    await world.produce_all("job.completed", [(org, job) for job in jobs])
    await until_dead(world, len(jobs))
    assert len(await letters(world)) == len(jobs)
    await service.stop()

    # The limit was too low: with a higher one they can be taken.
    said = await asyncio.gather(
        *(world.command("dead-letters", "redrive", "--all", "--json") for _ in range(3))
    )

    told = [json.loads(one) for one in said]
    assert sum(one["applied"] for one in told) == len(jobs)
    assert not any(one["still_bad"] for one in told)
    await world.run_ready()
    outcomes = await world.wait_for_outcomes("credits.outcomes", {f"{org}-{n}" for n in range(60)})
    assert sorted(one["data"]["sequence"] for one in outcomes.values()) == list(range(1, 61))
    assert (await world.json_command("org", "show", org))["credits_balance"] == 40
    assert (await world.json_command("ledger", "verify"))["ok"] is True
