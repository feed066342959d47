"""What all commands have in common."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from consumer.cli.main import cli
from tests.integration.cli.conftest import Quartermaster

ROOT = Path(__file__).resolve().parents[3]


def every_command() -> list[tuple[str, ...]]:
    paths: list[tuple[str, ...]] = []

    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        if isinstance(command, click.Group):
            for name in command.list_commands(click.Context(command)):
                found = command.get_command(click.Context(command), name)
                assert found is not None
                walk(found, (*path, name))
        else:
            paths.append(path)

    walk(cli, ())
    return paths


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_teaches_with_an_example_and_takes_json(
    quartermaster: Quartermaster, path: tuple[str, ...]
) -> None:
    answer = quartermaster(*path, "--help")

    assert answer.code == 0
    assert "Example:\n" in answer.out
    assert f"quartermaster {' '.join(path)}" in answer.out.partition("Example:")[2]
    assert "--json" in answer.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("org", "nonsense"),
        ("org", "show"),
        ("org", "show", " a"),
        ("org", "show", "a\nb"),
        ("org", "show", "\udcff"),
        ("org", "show", "a" * 256),
        ("run", "--nonsense"),
        ("publish", "/no/such/file"),
    ],
)
def test_wrong_use_exits_2_on_standard_error(
    quartermaster: Quartermaster, arguments: tuple[str, ...]
) -> None:
    answer = quartermaster(*arguments)

    assert (answer.code, answer.out) == (2, "")
    assert "Usage: quartermaster" in answer.err


def test_a_wrong_setting_stops_a_command_with_one_line(
    quartermaster: Quartermaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QM_KEEP_DAYS", "ninety")

    answer = quartermaster("org", "show", "acme")

    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("Error: QM_KEEP_DAYS ")
    assert answer.err.count("\n") == 1


def test_run_names_every_setting_that_it_misses(
    quartermaster: Quartermaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QM_KEY_ENCRYPTION_KEY")

    answer = quartermaster("run")

    assert answer.code == 1
    for name in ("QM_LITELLM_URL", "QM_LITELLM_MASTER_KEY", "QM_KEY_ENCRYPTION_KEY"):
        assert name in answer.err


def test_python_m_consumer_is_the_same(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}

    done = subprocess.run(
        [sys.executable, "-m", "consumer", "ledger", "verify"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "Error: there is no database quartermaster.db: run `quartermaster db upgrade` first\n"
    )
