"""Hostile records through a real broker and the process: each is answered, and memory stays bounded."""

import asyncio
import gzip
import json
import struct
import uuid
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiokafka.producer.message_accumulator
import aiokafka.producer.producer
import aiokafka.record.default_records
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from tests.e2e.world import Service, World, event, eventually
from tests.hostile.test_looking import EVERYTHING, IN_IDS, steering

pytestmark = [
    pytest.mark.real("kafka"),
    pytest.mark.parametrize("dialect", ["sqlite"]),
    pytest.mark.timeout(300),
]
PATIENCE_S = 200.0
TOPIC = "job.completed"
LONG = "😀" * 255

Headers = list[tuple[str, bytes | None]]


class Name(str):
    """A header's name that is written as the bytes it was made of."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return super().encode("latin-1")


@pytest.fixture(autouse=True)
def any_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own builder takes no `Name`."""
    for module in (aiokafka.producer.producer, aiokafka.producer.message_accumulator):
        monkeypatch.setattr(module, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)


def gzip_at_once(data: bytes) -> bytes:
    """As gzip makes it, and as small, of bytes that repeat for long: what comes again is compressed once.

    Most of the test would else be spent on the making of its bomb.
    """
    parts, last, made = [b"\x1f\x8b\x08\0\0\0\0\0\2\xff"], b"", b""
    for begin in range(0, len(data), 2**20):
        chunk = data[begin : begin + 2**20]
        if chunk != last:
            packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
            last, made = chunk, packer.compress(chunk) + packer.flush(zlib.Z_FULL_FLUSH)
        parts.append(made)
    end = b"\3\0" + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
    return b"".join([*parts, end])


@pytest.fixture
def bombs_made_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = b"head" + b" " * 5_000_000 + b"tail"
    assert gzip.decompress(gzip_at_once(sample)) == sample
    monkeypatch.setattr(aiokafka.record.default_records, "gzip_encode", gzip_at_once)


@asynccontextmanager
async def producing(world: World, codec: str | None = None) -> AsyncIterator[AIOKafkaProducer]:
    """A producer without limits of its own: what is taken is the broker's to say."""
    producer = AIOKafkaProducer(
        bootstrap_servers=world.kafka,
        compression_type=codec,
        max_request_size=2**31 - 1,
        max_batch_size=2**31 - 1,
        linger_ms=50,
        request_timeout_ms=120_000,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def founded(world: World, org: str, credits_: int = 1000) -> None:
    data = {
        "org_id": org,
        "name": EVERYTHING[2:],
        "owner_user_id": f"{org[:200]}-o",
        "initial_credits": credits_,
    }
    outcome = await world.outcome_of(await world.publish("org.created", data), patience=PATIENCE_S)
    assert outcome["type"] == "org.provisioned", outcome


def job(org: str, job_id: str, id_: str, **data: Any) -> bytes:
    return event(TOPIC, {"org_id": org, "job_id": job_id, "status": "completed", **data}, id_=id_)


async def dead_letters(world: World, count: int) -> dict[tuple[int, int], Any]:
    """Wait for so many; give them by the partition and offset that they were read at."""

    async def look() -> dict[tuple[int, int], Any]:
        found = {}
        for record in await world.records("quartermaster.dead-letters"):
            headers = dict(record.headers)
            place = (int(headers["qm-original-partition"]), int(headers["qm-original-offset"]))
            found[place] = record
        return found

    found: dict[tuple[int, int], Any] = await eventually(
        look, lambda seen: len(seen) >= count, what=f"{count} dead letters", patience=PATIENCE_S
    )
    assert len(found) == count
    return found


def memory_mb(service: Service) -> int:
    """The most memory that the process ever held."""
    for line in Path(f"/proc/{service.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no VmHWM")


async def test_records_come_compressed_as_upstream_likes(world: World) -> None:
    await world.run_ready()
    org = world.org()
    await founded(world, org)
    causes = set()
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        async with producing(world, codec) as producer:
            sent = []
            for number in range(50):
                id_ = f"{codec}-{number}"
                causes.add(id_)
                headers: Headers = (
                    [("é\u202e", b"\xff"), (Name("not-utf8-\xff"), None)] if number % 5 == 0 else []
                )
                value = job(org, id_, id_, error_message=EVERYTHING[2:], metadata={"pad": "x" * 500})
                sent.append(
                    await producer.send(
                        world.topics[TOPIC], value, key=b"\xff\xfe\x00", partition=0, headers=headers
                    )
                )
            await asyncio.gather(*sent)
    outcomes = await world.wait_for_outcomes("credits.outcomes", causes, patience=PATIENCE_S)
    assert {one["type"] for one in outcomes.values()} == {"credits.deducted"}
    assert await dead_letters(world, 0) == {}


@pytest.mark.usefixtures("bombs_made_fast")
@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4"])
async def test_guarantee_8_a_batch_that_expands_to_gigabytes_takes_nobody_down(
    world: World, codec: str
) -> None:
    service = await world.run_ready()
    org = world.org()
    await founded(world, org)
    before = memory_mb(service)
    # What a broker takes by default: a megabyte as sent.
    size = {"gzip": 900, "lz4": 220, "zstd": 1000}[codec] * 1_000_000
    async with producing(world, codec) as producer:
        bomb = await producer.send_and_wait(world.topics[TOPIC], b" " * size, partition=0)
        behind = await producer.send_and_wait(world.topics[TOPIC], job(org, "behind", "behind"), partition=0)
    assert (await world.outcome_of("behind", patience=PATIENCE_S))["type"] == "credits.deducted"
    letters = await dead_letters(world, 1)
    letter = letters[0, bomb.offset]
    headers = dict(letter.headers)
    assert headers["qm-reason"] == b"too_large"
    assert b"expands to more than" in headers["qm-error"]
    assert letter.value is None
    assert behind.offset == bomb.offset + 1
    assert service.process.returncode is None
    assert memory_mb(service) - before < 300
    await service.ready()


async def test_every_bound_from_end_to_end(world: World) -> None:
    """Every value at its bound is answered, and every one beyond it is a dead letter with its own bytes."""
    service = await world.run_ready("--no-breaker")
    org = IN_IDS.replace("\u2028", "") + world.name  # LiteLLM keeps no line separator
    org += "😀" * (255 - len(org))
    await founded(world, org, credits_=2**53 - 1)
    good: dict[str, bytes] = {}
    bad: dict[str, tuple[str, bytes | None, Headers]] = {}

    def takes(id_: str, **data: Any) -> None:
        good[id_] = job(org, data.pop("job_id", id_), id_, **data)

    takes("😀" * 512, job_id=LONG, user_id=LONG)
    takes(
        "usage",
        usage={"total_tokens": 2**53 - 1, "total_cost_usd": f"{'9' * 12}.{'9' * 12}", "avg_latency_ms": 0},
    )
    takes("error", error_message=EVERYTHING[2:], job_type=EVERYTHING[2:])
    takes("large", job_type="x" * 520_000)
    deep = b'"metadata":' + b'{"a":' * 61 + b"[]" + b"}" * 61
    good["deep"] = job(org, "deep", "deep").replace(b'"status"', deep + b',"status"')
    digits = b'"metadata":{"n":1.' + b"1" * 500_000 + b"}"
    good["digits"] = job(org, "digits", "digits").replace(b'"status"', digits + b',"status"')
    small = b'"usage":{"avg_latency_ms":1e-999999}'
    good["small"] = job(org, "small", "small").replace(b'"status"', small + b',"status"')
    many = b'"metadata":{"n":[' + b",".join([b"1.5"] * 125_000) + b"]}"
    good["many"] = job(org, "many", "many").replace(b'"status"', many + b',"status"')

    def breaks(name: str, reason: str, value: bytes | None, headers: Headers | None = None) -> None:
        bad[name] = (reason, value, headers or [])

    valid = job(org, "j", "bad")
    breaks("deeper", "invalid_json", good["deep"].replace(b"[]", b"[[]]"))
    breaks(
        "a million digits", "too_large", valid.replace(b'"status"', b'"n":' + b"1" * 1_000_000 + b',"status"')
    )
    breaks(
        "half of them", "invalid_json", valid.replace(b'"status"', b'"n":' + b"1" * 500_000 + b',"status"')
    )
    breaks("a long id", "invalid_envelope", job(org, "j", "😀" * 513))
    breaks("a long job", "invalid_data", job(org, LONG + "x", "bad"))
    breaks("a count", "invalid_data", job(org, "j", "bad", usage={"total_tokens": 2**53}))
    breaks("not UTF-8", "invalid_json", valid.replace(b"/platform", b"\xff"))
    breaks("a megabyte", "too_large", b"\x1f\x8b" * 523_900)
    breaks("a null", "invalid_envelope", None, [("ce_id", b"\xff")])
    breaks("a flood", "invalid_json", b"{", [(f"x-{number}\u202e", b"v") for number in range(10_000)])
    breaks("a large header", "invalid_json", b"[", [("x", b"\x00" * 1_048_250)])
    breaks("no header", "invalid_json", b"]", [("", None), ("", b""), (Name("\xff"), b"\xff")])

    offsets: dict[int, str] = {}
    async with producing(world) as producer:
        for id_, value in good.items():
            floods: Headers = [(f"x-{number}", b"") for number in range(10_000)] if id_ == "usage" else []
            await producer.send_and_wait(
                world.topics[TOPIC], value, key=b"\xff" * 9, partition=0, headers=floods
            )
        for name, (_, value, headers) in bad.items():
            sent = await producer.send_and_wait(
                world.topics[TOPIC], value, key=b"\xfe\x00", partition=0, headers=headers
            )
            offsets[sent.offset] = name

    outcomes = await world.wait_for_outcomes("credits.outcomes", set(good), patience=PATIENCE_S)
    assert {one["type"] for one in outcomes.values()} == {"credits.deducted"}
    assert outcomes["😀" * 512]["data"]["job_id"] == LONG
    assert outcomes["error"]["data"]["job_type"] == EVERYTHING[2:]
    assert str(outcomes["small"]["data"]["usage"]["avg_latency_ms"]) == "1E-999999"

    letters = await dead_letters(world, len(bad))
    for (_, offset), letter in letters.items():
        name = offsets[offset]
        reason, value, headers = bad[name]
        told = dict(letter.headers)
        assert told["qm-reason"].decode() == reason, name
        assert letter.key == b"\xfe\x00"
        if "qm-value-omitted" in told:
            assert letter.value is None
            assert name in {"a megabyte", "a million digits", "a large header"}
        else:
            assert letter.value == value, name
        if "qm-headers-omitted" in told:
            assert name == "a large header"
        elif name == "no header":
            assert list(letter.headers[:3]) == [("", None), ("", b""), ("?", b"\xff")]
        else:
            assert list(letter.headers[: len(headers)]) == headers, name
    assert "qm-headers-omitted" in dict(letters[0, _offset_of(offsets, "a large header")].headers)

    await service.ready()
    log = service.log.read_text()
    assert not steering(log)
    assert all(isinstance(json.loads(line), dict) for line in log.splitlines())
    assert memory_mb(service) < 700
    shown = await world.command("org", "show", org)
    assert not steering(shown)
    assert (await world.json_command("ledger", "verify"))["ok"]


def _offset_of(offsets: dict[int, str], wanted: str) -> int:
    return next(offset for offset, name in offsets.items() if name == wanted)


async def test_large_events_by_the_dozen_in_one_small_batch_are_taken_in_turns(world: World) -> None:
    """Half a megabyte each, of numbers alone: slow to read, and thirty times as large once they are read."""
    service = await world.run_ready()
    org = world.org()
    await founded(world, org)
    many = b'"metadata":{"n":[' + b",".join([b"1.5"] * 125_000) + b"]}"
    causes = {f"m{number}-{uuid.uuid4().hex[:6]}" for number in range(30)}
    async with producing(world, "zstd") as producer:
        sent = [
            await producer.send(
                world.topics[TOPIC], job(org, id_, id_).replace(b'"status"', many + b',"status"'), partition=0
            )
            for id_ in sorted(causes)
        ]
        await asyncio.gather(*sent)
    outcomes = await world.wait_for_outcomes("credits.outcomes", causes, patience=PATIENCE_S)
    assert len(outcomes) == 30
    assert memory_mb(service) < 1200
    lost = [line for line in service.log.read_text().splitlines() if "offsets_not_committed" in line]
    assert not lost
