"""Kill the process again and again while events pour in; the books and LiteLLM must not show it."""

import asyncio
import random
from collections import Counter

import httpx
import pytest

from tests.e2e.world import World, event
from tests.parts.choice import KAFKA

ORGANIZATIONS = 6
JOBS_EACH = 60
CREDITS = 50
KILLS = 8 if KAFKA.is_real else 3
"""The proof is made on real parts; on embedded ones a few kills show that nothing obvious broke."""


@pytest.mark.timeout(300)
async def test_guarantees_1_2_and_3_effects_happen_once_though_killed_at_any_point(world: World) -> None:
    """Guarantees 1, 2 and 3: nothing lost, everything once, first appearances in the order decided."""
    chance = random.Random(20260301)
    orgs = [world.org(f"org{n}") for n in range(ORGANIZATIONS)]
    founding = {f"f-{org}": org for org in orgs}
    joining = {f"u-{org}": org for org in orgs}
    jobs: dict[str, str] = {}
    for id_, org in founding.items():
        data = {"org_id": org, "name": org, "owner_user_id": f"{org}-o", "initial_credits": CREDITS}
        await world.produce("org.created", event("org.created", data, id_=id_), key=org)
    for id_, org in joining.items():
        await world.produce(
            "user.joined", event("user.joined", {"org_id": org, "user_id": f"{org}-u"}, id_=id_), key=org
        )
    batch = []
    for n in range(JOBS_EACH):
        for org in orgs:
            id_ = f"j-{org}-{n}"
            jobs[id_] = org
            data = {"org_id": org, "job_id": f"job{n}", "status": "completed"}
            value = event("job.completed", data, id_=id_)
            batch += [(org, value)] * chance.choice([1, 1, 2])
    await world.produce_all("job.completed", batch)

    for _ in range(KILLS):
        service = await world.start()
        # How long it lives is chance: somewhere from its start to amid its work.
        await asyncio.sleep(1.0 + chance.random() * 2.5)
        await service.kill()
    await world.run_ready()

    provisioned = await world.wait_for_outcomes("provisioning.outcomes", {*founding, *joining}, patience=120)
    charged = await world.wait_for_outcomes("credits.outcomes", set(jobs), patience=120)

    assert {one["type"] for one in provisioned.values()} == {"org.provisioned", "user.provisioned"}
    types = Counter((jobs[id_], one["type"]) for id_, one in charged.items())
    assert types == Counter(
        {(org, "credits.deducted"): CREDITS for org in orgs}
        | {(org, "credits.deduction_failed"): JOBS_EACH - CREDITS for org in orgs}
    )
    for org in orgs:
        ids_by_cause: dict[str, set[str]] = {}
        sequences: list[int] = []
        for one in await world.outcomes("credits.outcomes"):
            if one["subject"] != org:
                continue
            ids = ids_by_cause.setdefault(one["causationid"], set())
            if not ids and "sequence" in one["data"]:
                sequences.append(one["data"]["sequence"])
            ids.add(one["id"])
        assert all(len(ids) == 1 for ids in ids_by_cause.values()), "a repeat bears the same id"
        assert sequences == list(range(1, CREDITS + 1)), "first appearances stand in the order decided"
        team = await _team(world, org)
        members = {m["user_id"] for m in team["team_info"]["members_with_roles"]} - {"default_user_id"}
        assert members == {f"{org}-o", f"{org}-u"}
        assert Counter(key["user_id"] for key in team["keys"]) == {f"{org}-o": 1, f"{org}-u": 1}
    assert (await world.json_command("ledger", "verify"))["ok"] is True


async def _team(world: World, org: str) -> dict[str, object]:
    async with httpx.AsyncClient(base_url=world.settings["QM_LITELLM_URL"]) as client:
        answer = await client.get(
            "/team/info",
            params={"team_id": org},
            headers={"Authorization": f"Bearer {world.settings['QM_LITELLM_MASTER_KEY']}"},
        )
    assert answer.status_code == 200, answer.text
    team: dict[str, object] = answer.json()
    return team
