"""What happens while Kafka, the database or LiteLLM is away: nothing is lost, and it is said once."""

import asyncio
import json
import signal
import socket

import pytest
from sqlalchemy.engine import make_url

from consumer.standin import StandIn
from tests.e2e.world import Service, World, eventually
from tests.faults.tcp_proxy import TcpProxy


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def said(service: Service, event: str) -> int:
    return sum(json.loads(line).get("event") == event for line in service.log.read_text().splitlines())


async def test_without_a_broker_it_waits_unready_and_says_so_once(world: World) -> None:
    service = await world.start(kafka_bootstrap_servers=f"127.0.0.1:{closed_port()}")
    await eventually(
        service.reasons,
        lambda found: any("broker" in reason for reason in found),
        what="the broker among the reasons",
    )
    assert await service.stop() == 0
    assert said(service, "broker_unavailable") == 1


async def test_without_its_topics_it_waits_and_creates_none(world: World) -> None:
    missing = f"missing.{world.name}"
    service = await world.start(topic_org_created=missing)
    await eventually(
        service.reasons,
        lambda found: any(missing in reason for reason in found),
        what="the missing topic among the reasons",
    )
    await world.create_topics(missing)
    await service.ready()
    assert said(service, "topics_missing") == 1


async def test_without_its_database_it_waits_unready_and_says_so_once(world: World) -> None:
    url = f"postgresql+asyncpg://nobody:hidden-word@127.0.0.1:{closed_port()}/none"
    service = await world.start(database_url=url)
    await eventually(
        service.reasons,
        lambda found: any("database" in reason for reason in found),
        what="the database among the reasons",
    )
    assert await service.stop(signal.SIGINT) == 0
    assert said(service, "database_unavailable") == 1
    assert "hidden-word" not in service.log.read_text()


@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_guarantee_9_a_database_that_goes_away_costs_no_event(world: World, dialect: str) -> None:
    url = make_url(world.database_url)
    async with TcpProxy(url.host or "127.0.0.1", url.port or 5432) as wire:
        through = url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
        service = await world.run_ready(database_url=through)
        org = world.org()
        founded = await world.publish(
            "org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o", "initial_credits": 50}
        )
        await world.outcome_of(founded)
        await wire.cut()
        jobs = {
            await world.publish("job.completed", {"org_id": org, "job_id": f"j{n}", "status": "completed"})
            for n in range(20)
        }
        await eventually(
            service.reasons,
            lambda found: any("database" in reason for reason in found),
            what="the database among the reasons",
        )
        await wire.mend()
        charged = await world.wait_for_outcomes("credits.outcomes", jobs)
        assert {one["type"] for one in charged.values()} == {"credits.deducted"}
        await service.ready()
    assert (await world.json_command("org", "show", org))["credits_balance"] == 30


async def test_guarantee_4_litellm_away_stops_nothing_else(world: World) -> None:
    async with StandIn() as standin:
        service = await world.run_ready(litellm_url=standin.url, litellm_master_key=standin.master_key)
        org = world.org()
        founded = await world.publish(
            "org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o", "initial_credits": 5}
        )
        await world.outcome_of(founded)
    other = world.org("other")
    late = await world.publish("org.created", {"org_id": other, "name": "B", "owner_user_id": f"{other}-o"})
    job = await world.publish("job.completed", {"org_id": org, "job_id": "j", "status": "completed"})
    assert (await world.outcome_of(job))["type"] == "credits.deducted"
    assert not await service.reasons(), "LiteLLM being down does not make unready"
    await eventually(service.waiting, lambda count: count == 1, what="the organization waits")
    assert late not in {one["causationid"] for one in await world.outcomes("provisioning.outcomes")}


async def test_litellm_that_comes_back_serves_what_waited(world: World) -> None:
    port = closed_port()
    service = await world.run_ready(
        litellm_url=f"http://127.0.0.1:{port}", litellm_master_key="sk-standin-master"
    )
    org = world.org()
    founded = await world.publish("org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o"})
    await eventually(service.waiting, lambda count: count == 1, what="the organization waits")
    async with StandIn(port=port, master_key="sk-standin-master"):
        outcome = await world.outcome_of(founded)
    assert outcome["type"] == "org.provisioned"


async def test_when_the_retry_time_runs_out_it_fails_and_says_why(world: World) -> None:
    await world.run_ready(
        litellm_url=f"http://127.0.0.1:{closed_port()}",
        litellm_master_key="sk-standin-master",
        retry_for="1",
        dependency_wait="1",
    )
    org = world.org()
    founded = await world.publish("org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o"})
    job = await world.publish("job.completed", {"org_id": org, "job_id": "j", "status": "completed"})
    failed = await world.outcome_of(founded)
    assert failed["type"] == "org.provisioning_failed"
    assert failed["data"]["error_code"] == "litellm_unavailable"
    assert failed["data"]["compensation"] == "not_needed"
    assert failed["data"]["orphans"] == []
    assert failed["data"]["attempts"] >= 1
    refused = await world.outcome_of(job)
    assert (refused["type"], refused["data"]["reason"]) == ("credits.deduction_failed", "org_not_active")


async def test_a_topic_of_bad_records_is_stopped_alone_and_recovers(world: World) -> None:
    service = await world.run_ready(breaker_bad="20", breaker_pause="1")
    org = world.org()
    await world.produce_all("user.joined", [(org, b"{")] * 60, partition=0)
    topic = world.topics["user.joined"]
    await eventually(
        service.reasons,
        lambda found: any(topic in reason for reason in found),
        what="the stopped topic among the reasons",
    )
    founded = await world.publish("org.created", {"org_id": org, "name": "A", "owner_user_id": f"{org}-o"})
    await world.outcome_of(founded)
    letters = await world.records("quartermaster.dead-letters")
    assert 20 <= len(letters) < 60, "not all of them are written"
    joined = await world.publish("user.joined", {"org_id": org, "user_id": f"{org}-u"}, id_="behind")
    for _ in range(12):
        await world.produce("user.joined", b'{"type":"unknown"}', key=org, partition=0)
    await service.ready()
    await world.outcome_of(joined)
    assert len(await world.records("quartermaster.dead-letters")) == 60


@pytest.mark.parametrize("dialect", ["postgresql"])
@pytest.mark.timeout(240)
async def test_instances_come_and_go_and_effects_happen_once(world: World, dialect: str) -> None:
    orgs = [world.org(f"o{n}") for n in range(4)]
    founding = {
        await world.publish(
            "org.created", {"org_id": org, "name": org, "owner_user_id": f"{org}-o", "initial_credits": 200}
        )
        for org in orgs
    }
    first = await world.run_ready()
    second = await world.run_ready()
    jobs: set[str] = set()
    for round_ in range(4):
        for org in orgs:
            for n in range(25):
                data = {"org_id": org, "job_id": f"j{round_}-{n}", "status": "completed"}
                jobs.add(await world.publish("job.completed", data))
        if round_ == 0:
            await first.kill()
        if round_ == 1:
            await world.run_ready()
        if round_ == 2:
            assert await second.stop() == 0
    await world.wait_for_outcomes("provisioning.outcomes", founding, patience=90)
    charged = await world.wait_for_outcomes("credits.outcomes", jobs, patience=90)
    assert {one["type"] for one in charged.values()} == {"credits.deducted"}
    for org in orgs:
        shown = await world.json_command("org", "show", org)
        assert (shown["credits_used"], shown["credits_balance"]) == (100, 100)
    assert (await world.json_command("ledger", "verify"))["ok"] is True


@pytest.mark.parametrize("dialect", ["sqlite"])
async def test_a_second_run_on_the_same_file_refuses_to_start(world: World, dialect: str) -> None:
    await world.run_ready()
    second = await world.start()
    async with asyncio.timeout(30):
        assert await second.process.wait() == 1
    assert "another" in second.log.read_text()


async def test_guarantee_7_no_secret_in_logs_outcomes_or_dead_letters(world: World) -> None:
    service = await world.run_ready(log_level="DEBUG")
    org = world.org()
    founded = await world.publish(
        "org.created",
        {"org_id": org, "name": "A", "owner_user_id": f"{org}-o", "owner_email": f"{org}@example.org"},
    )
    joined = await world.publish("user.joined", {"org_id": org, "user_id": f"{org}-u"})
    await world.wait_for_outcomes("provisioning.outcomes", {founded, joined})
    await world.produce("org.created", b"{", key=org)
    await eventually(
        lambda: world.records("quartermaster.dead-letters"),
        lambda found: len(found) == 1,
        what="one dead letter",
    )
    keys = [(await world.json_command("keys", "show", org, *user))["key"] for user in ((), (f"{org}-u",))]
    secrets = [*keys, world.settings["QM_LITELLM_MASTER_KEY"], world.settings["QM_KEY_ENCRYPTION_KEY"]]
    written = [service.log.read_bytes()]
    for topic in ("provisioning.outcomes", "credits.outcomes", "quartermaster.dead-letters"):
        for record in await world.records(topic):
            written += [record.value or b"", *(value for _, value in record.headers)]
    everything = b"\n".join(written)
    assert [secret for secret in secrets if secret.encode() in everything] == []
