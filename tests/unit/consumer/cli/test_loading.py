"""What a command does not load: at a terminal its imports are most of what one waits for."""

import subprocess
import sys

import pytest

HEAVY = {"aiohttp", "aiokafka", "alembic", "cryptography", "httpx", "joserfc", "rich", "structlog"}
SPARED = {
    "--help": {*HEAVY, "asyncio", "pydantic", "sqlalchemy"},
    "job show --help": HEAVY,
    "ledger show --help": HEAVY,
    "db upgrade --help": HEAVY,
    "dead-letters redrive --help": HEAVY,
    "publish --help": HEAVY - {"aiokafka"},
    # structlog brings rich along.
    "replay --help": {"aiohttp", "alembic", "cryptography", "httpx", "joserfc"},
    "run --help": {"alembic", "joserfc"},
}


def loaded_by(*arguments: str) -> set[str]:
    """The top-level packages that the process of a command imports."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "consumer", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = [line for line in ran.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("command", SPARED)
def test_a_command_loads_no_more_than_it_needs(command: str) -> None:
    loaded = loaded_by(*command.split())
    assert "consumer" in loaded
    assert not loaded & SPARED[command]
