"""The one path, from outside: events in, LiteLLM provisioned, credits deducted, outcomes out."""

import asyncio
import json

import httpx

from tests.e2e.world import World, event, eventually


async def team_of(world: World, org_id: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=world.settings["QM_LITELLM_URL"]) as client:
        return await client.get(
            "/team/info",
            params={"team_id": org_id},
            headers={"Authorization": f"Bearer {world.settings['QM_LITELLM_MASTER_KEY']}"},
        )


async def test_an_organization_its_user_and_its_jobs(world: World) -> None:
    await world.run_ready()
    org = world.org()
    founded = await world.publish(
        "org.created",
        {
            "org_id": org,
            "name": "Acme",
            "owner_user_id": f"{org}-ann",
            "initial_credits": 2,
            "max_budget_usd": "25.00",
        },
    )
    joined = await world.publish("user.joined", {"org_id": org, "user_id": f"{org}-bob"})
    jobs = [
        await world.publish("job.completed", {"org_id": org, "job_id": f"j{n}", "status": status})
        for n, status in enumerate(["completed", "failed", "completed", "completed"])
    ]
    provisioned = await world.wait_for_outcomes("provisioning.outcomes", {founded, joined})
    charged = await world.wait_for_outcomes("credits.outcomes", set(jobs))

    about_org = provisioned[founded]
    assert about_org["type"] == "org.provisioned"
    assert about_org["subject"] == org
    assert about_org["data"]["created"] is True
    assert about_org["data"]["max_budget_usd"] in {"25", "25.0", "25.00"}
    assert about_org["data"]["credits_balance"] == 2
    assert about_org["data"]["owner"]["key"]["name"] == "default"
    assert "encrypted" not in about_org["data"]["owner"]["key"]
    assert provisioned[joined]["type"] == "user.provisioned"
    assert [charged[job]["type"] for job in jobs] == [
        "credits.deducted",
        "credits.deduction_skipped",
        "credits.deducted",
        "credits.deduction_failed",
    ]
    assert [charged[job]["data"].get("sequence") for job in jobs] == [1, None, 2, None]

    books = await world.json_command("org", "show", org)
    assert (books["credits_granted"], books["credits_used"], books["credits_balance"]) == (2, 2, 0)
    assert {user["user_id"] for user in books["users"]} == {f"{org}-ann", f"{org}-bob"}
    assert (await world.json_command("ledger", "verify"))["ok"] is True

    key = (await world.json_command("keys", "show", org))["key"]
    async with httpx.AsyncClient(base_url=world.settings["QM_LITELLM_URL"]) as client:
        answer = await client.post(
            "/chat/completions",
            json={"model": "fake", "messages": [{"role": "user", "content": "hi"}]},
            headers={"Authorization": f"Bearer {key}"},
        )
    assert answer.status_code == 200, answer.text
    team = (await team_of(world, org)).json()
    assert {k["token"] for k in team["keys"]} == {
        about_org["data"]["owner"]["key"]["hash"],
        provisioned[joined]["data"]["key"]["hash"],
    }


async def test_what_is_delivered_again_has_no_effect_and_no_outcome(world: World) -> None:
    await world.run_ready()
    org = world.org()
    founded = await world.publish(
        "org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o", "initial_credits": 5}
    )
    await world.outcome_of(founded)
    value = event("job.completed", {"org_id": org, "job_id": "j", "status": "completed"}, id_="once")
    respelled = json.dumps(dict(reversed(json.loads(value).items())), indent=2).encode()
    for again in (value, value, respelled):
        await world.produce("job.completed", again, key=org)
    other = await world.publish("job.completed", {"org_id": org, "job_id": "last", "status": "completed"})
    await world.outcome_of(other)
    outcomes = await world.outcomes("credits.outcomes")
    assert [one["causationid"] for one in outcomes] == ["once", other]
    assert (await world.json_command("org", "show", org))["credits_balance"] == 3


async def test_dependents_that_come_first_wait_and_are_served_in_order(world: World) -> None:
    await world.run_ready()
    org = world.org()
    jobs = [
        await world.publish("job.completed", {"org_id": org, "job_id": f"j{n}", "status": "completed"})
        for n in range(5)
    ]
    joined = await world.publish("user.joined", {"org_id": org, "user_id": f"{org}-u"})
    await world.until_waiting(org, 6)
    founded = await world.publish(
        "org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o", "initial_credits": 3}
    )
    charged = await world.wait_for_outcomes("credits.outcomes", set(jobs))
    assert [charged[job]["data"].get("sequence") for job in jobs] == [1, 2, 3, None, None]
    provisioned = await world.wait_for_outcomes("provisioning.outcomes", {founded, joined})
    assert provisioned[joined]["type"] == "user.provisioned"


async def test_dependents_of_an_organization_that_never_comes(world: World) -> None:
    await world.run_ready(dependency_wait="1")
    org = world.org()
    job = await world.publish("job.completed", {"org_id": org, "job_id": "j", "status": "failed"})
    joined = await world.publish("user.joined", {"org_id": org, "user_id": f"{org}-u"})
    refused = await world.outcome_of(job)
    assert (refused["type"], refused["data"]["reason"]) == ("credits.deduction_failed", "org_not_found")
    assert refused["data"]["available"] is None
    failed = await world.outcome_of(joined)
    assert (failed["type"], failed["data"]["error_code"]) == ("user.provisioning_failed", "org_not_found")


async def test_bad_input_becomes_a_dead_letter_with_its_bytes_and_stops_nothing(world: World) -> None:
    await world.run_ready()
    org = world.org()
    await world.produce(
        "job.completed", b'{"broken', key=org, headers=[("trace", b"x"), ("qm-reason", b"forged")]
    )
    await world.produce("job.completed", None, key=org)
    await world.produce("job.completed", event("other.type", {}, id_="o"), key=org)
    founded = await world.publish("org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o"})
    await world.outcome_of(founded)
    [letter] = await eventually(
        lambda: world.records("quartermaster.dead-letters"),
        lambda found: len(found) == 1,
        what="one dead letter",
    )
    headers = dict(letter.headers)
    assert letter.value == b'{"broken'
    assert letter.key == org.encode()
    assert headers["trace"] == b"x"
    assert headers["qm-reason"] == b"invalid_json"
    assert headers["qm-original-topic"] == world.topics["job.completed"].encode()


async def test_the_same_identity_with_other_data_is_a_conflict_and_changes_nothing(world: World) -> None:
    await world.run_ready()
    org = world.org()
    founded = await world.publish(
        "org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o", "initial_credits": 5}
    )
    await world.outcome_of(founded)
    first = await world.publish(
        "job.completed", {"org_id": org, "job_id": "a", "status": "completed"}, id_="same"
    )
    await world.outcome_of(first)
    await world.publish("job.completed", {"org_id": org, "job_id": "b", "status": "completed"}, id_="same")
    [letter] = await eventually(
        lambda: world.records("quartermaster.dead-letters"),
        lambda found: len(found) == 1,
        what="one dead letter",
    )
    assert dict(letter.headers)["qm-reason"] == b"id_conflict"
    assert (await world.json_command("org", "show", org))["credits_balance"] == 4


async def test_a_second_org_created_changes_nothing_and_shows_what_stands(world: World) -> None:
    await world.run_ready()
    org = world.org()
    first = await world.publish(
        "org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o", "initial_credits": 5}
    )
    await world.outcome_of(first)
    second = await world.publish(
        "org.created", {"org_id": org, "name": "B", "owner_user_id": f"{org}-x", "initial_credits": 9}
    )
    outcome = await world.outcome_of(second)
    assert outcome["type"] == "org.provisioned"
    data = outcome["data"]
    assert (data["created"], data["name"], data["credits_balance"]) == (False, "A", 5)
    assert data["owner"]["user_id"] == f"{org}-o"


async def test_sigterm_finishes_and_leaves_with_0(world: World) -> None:
    service = await world.run_ready()
    org = world.org()
    await world.publish("org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o"})
    async with asyncio.timeout(30):
        assert await service.stop() == 0


async def test_operators_grants_are_made_once_and_come_out(world: World) -> None:
    await world.run_ready()
    org = world.org()
    founded = await world.publish("org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o"})
    await world.outcome_of(founded)
    for _ in range(2):
        await world.command("credits", "add", org, "7", "--reason", "good will", "--id", f"g-{org}")
    await world.command("credits", "adjust", org, "-2", "--reason", "slip", "--id", f"a-{org}")
    await world.command("credits", "adjust", org, "-9", "--reason", "too much", "--id", f"b-{org}", expect=1)
    outcomes = await eventually(
        lambda: world.outcomes("credits.outcomes"), lambda found: len(found) >= 2, what="two outcomes"
    )
    assert [(one["type"], one["data"]["credits"]) for one in outcomes] == [
        ("credits.granted", 7),
        ("credits.adjusted", -2),
    ]
    assert "causationid" not in outcomes[0]
    assert outcomes[0]["origin"] == "operator"
    entries = await world.json_command("ledger", "show", org)
    assert [(e["kind"], e["credits"], e["balance_after"]) for e in entries] == [
        ("grant", 7, 7),
        ("adjustment", -2, 5),
    ]
