"""`quartermaster demo` from outside: a process, its output, what it leaves behind."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@contextlib.asynccontextmanager
async def demo(folder: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
    # A setting of the surroundings that would break the chain, were it read.
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "QM_TOPIC_DEAD_LETTERS": "org.created"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "consumer",
        "demo",
        *arguments,
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def readable_by_others(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o077)


async def test_once_shows_the_chain_and_exits_0(tmp_path: Path) -> None:
    async with demo(tmp_path, "--once", "--json") as process:
        out, err = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 0, err.decode()
    document = json.loads(out)
    assert (document["ok"], document["missing"]) == (True, [])
    assert document["organization"]["credits_balance"] == 0
    assert [entry["credits"] for entry in document["ledger"]] == [3, -1, -1, -1]
    assert [outcome["type"] for outcome in document["outcomes"]].count("credits.deducted") == 3
    assert b"sk-" not in out + err
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_stays_until_it_is_told_to_end_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with demo(tmp_path) as process:
        assert process.stdout is not None
        shown = ""
        async with asyncio.timeout(60):
            while "credits add" not in shown:
                line = await process.stdout.readline()
                assert line, "it ended too early"
                shown += line.decode()
        assert "Every expected outcome came" in shown
        broker = re.search(r"Kafka +127\.0\.0\.1:(\d+)", shown)
        assert broker is not None
        [folder] = left_in(tmp_path)
        assert readable_by_others(folder / ".env") is False

        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 30) == 0

    with socket.socket() as connection:
        assert connection.connect_ex(("127.0.0.1", int(broker[1]))) != 0
    assert left_in(tmp_path) == []


async def test_interrupted_before_the_end_it_exits_1_and_leaves_nothing(tmp_path: Path) -> None:
    async with demo(tmp_path) as process:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while not (await process.stdout.readline()).startswith(b"in "):
                pass
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 30)

    assert process.returncode == 1
    assert err.decode() == "Error: interrupted before every expected outcome came\n"
    assert left_in(tmp_path) == []
