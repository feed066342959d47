"""Commands that talk to Kafka and LiteLLM: `publish` and `doctor`."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumer.standin import StandIn
from tests.integration.cli.conftest import Answer, Quartermaster
from tests.parts.choice import KAFKA

if TYPE_CHECKING:
    from tests.parts.kafka import Topics

PARTITIONS = 6
USER = {"type": "user.joined", "data": {"org_id": "acme", "user_id": "u-1"}}
JOB = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/up",
    "type": "job.completed",
    "data": {"org_id": "acme", "job_id": "j-1", "status": "completed"},
}


@pytest.fixture
def on_kafka(kafka_address: str, topics: "Topics", monkeypatch: pytest.MonkeyPatch) -> "Topics":
    monkeypatch.setenv("QM_KAFKA_BOOTSTRAP_SERVERS", kafka_address)
    monkeypatch.setenv("QM_KAFKA_IDEMPOTENCE", str(KAFKA.is_real).lower())
    for name, value in topics.environment().items():
        monkeypatch.setenv(name, value)
    return topics


@pytest.fixture
def apart(quartermaster: Quartermaster) -> Callable[..., "asyncio.Future[Answer]"]:
    """Run a command in a thread, with an event loop of its own as on the command line."""

    def run(*arguments: str, stdin: str | None = None) -> "asyncio.Future[Answer]":
        return asyncio.ensure_future(asyncio.to_thread(lambda: quartermaster(*arguments, stdin=stdin)))

    return run


async def records(address: str, *names: str) -> list[tuple[str, bytes, bytes]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
    await consumer.start()
    try:
        found = []
        for name in names:
            partitions = [TopicPartition(name, number) for number in range(PARTITIONS)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            left = sum((await consumer.end_offsets(partitions)).values())
            while left:
                record = await asyncio.wait_for(consumer.getone(), 10)
                found.append((record.topic, record.key, record.value))
                left -= 1
        return found
    finally:
        await consumer.stop()


async def test_events_go_to_the_topic_of_their_type(
    apart: Callable[..., "asyncio.Future[Answer]"], on_kafka: "Topics", kafka_address: str
) -> None:
    lines = f"{json.dumps(USER)}\n\n{json.dumps(JOB)}\n"

    answer = await apart("publish", "-", "--json", stdin=lines)

    assert answer.code == 0, answer.err
    assert answer.json["published"] == 2
    assert [one["topic"] for one in answer.json["events"]] == [on_kafka.user_joined, on_kafka.job_completed]
    user, job = await records(kafka_address, on_kafka.user_joined, on_kafka.job_completed)
    assert user[:2] == (on_kafka.user_joined, b"acme")
    assert json.loads(user[2])["specversion"] == "1.0"
    assert job == (on_kafka.job_completed, b"acme", json.dumps(JOB).encode())


async def test_one_bad_line_and_nothing_is_produced(
    apart: Callable[..., "asyncio.Future[Answer]"], on_kafka: "Topics", kafka_address: str, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(f"{json.dumps(USER)}\nnot json\n{json.dumps(USER | {'data': {}})}\n")

    answer = await apart("publish", str(file))

    assert (answer.code, answer.out) == (1, "")
    assert "line 2: " in answer.err
    assert "line 3: " in answer.err
    assert "2 bad line(s), nothing was produced" in answer.err
    assert await records(kafka_address, on_kafka.user_joined) == []


async def test_a_dry_run_produces_nothing(
    apart: Callable[..., "asyncio.Future[Answer]"], on_kafka: "Topics", kafka_address: str
) -> None:
    answer = await apart("publish", "-", "--dry-run", stdin=json.dumps(USER))

    assert (answer.code, answer.out) == (0, "1 event(s) are in order; nothing was produced.\n")
    assert await records(kafka_address, on_kafka.user_joined) == []


def test_publishing_without_a_broker_fails_in_one_line(
    quartermaster: Quartermaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QM_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")

    answer = quartermaster("publish", "-", stdin=json.dumps(USER))

    assert answer.code == 1
    assert answer.err.startswith("Error: no Kafka broker answers")
    assert answer.err.count("\n") == 1


async def test_a_healthy_surrounding_passes_the_doctor(
    apart: Callable[..., "asyncio.Future[Answer]"],
    on_kafka: "Topics",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with StandIn() as proxy:
        monkeypatch.setenv("QM_LITELLM_URL", proxy.url)
        monkeypatch.setenv("QM_LITELLM_MASTER_KEY", proxy.master_key)
        assert (await apart("db", "upgrade")).code == 0

        answer = await apart("doctor", "--json")

    assert answer.code == 0, answer.out
    assert answer.json["ok"] is True
    checks = [check["check"] for check in answer.json["checks"]]
    assert checks[:2] == ["settings", "kafka"]
    assert checks[-3:] == ["database", "migrations", "litellm"]
    assert len(checks) == 11


async def test_the_doctor_names_each_thing_that_fails(
    apart: Callable[..., "asyncio.Future[Answer]"], kafka_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QM_KAFKA_BOOTSTRAP_SERVERS", kafka_address)
    monkeypatch.setenv("QM_TOPIC_ORG_CREATED", "nobody-made-this-topic")
    async with StandIn() as proxy:
        monkeypatch.setenv("QM_LITELLM_URL", proxy.url)
        monkeypatch.setenv("QM_LITELLM_MASTER_KEY", "sk-another-key-entirely")
        answer = await apart("doctor")

    lines = answer.out.splitlines()
    assert answer.code == 1
    assert "FAIL  topic nobody-made-this-topic: is not there, or may not be seen" in lines
    assert any(line.startswith("FAIL  database: ") for line in lines)
    assert any(line.startswith("FAIL  litellm: ") for line in lines)
    assert "sk-another-key-entirely" not in answer.out + answer.err


def test_the_doctor_stops_at_settings_that_can_not_be_read(
    quartermaster: Quartermaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QM_HTTP_PORT", "eighty")

    answer = quartermaster("doctor")

    assert answer.code == 1
    assert answer.out.startswith("FAIL  settings: QM_HTTP_PORT ")
    assert answer.out.count("\n") == 1
