"""What all commands have in common."""

import os
import re
import shlex
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
def test_every_command_teaches_with_examples_that_it_takes(
    quartermaster: Quartermaster, path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = quartermaster(*path, "--help")

    assert answer.code == 0
    assert "--json" in answer.out
    examples = commands_in(re.split(r"(?m)^  Examples?:$", answer.out)[1].partition("\nOptions:")[0])
    assert any(tuple(words[: len(path)]) == path for words in examples)
    # Each is read as if it were given; what it would do is left out.
    monkeypatch.setattr(click.Command, "invoke", lambda *_: None)
    for words in examples:
        for word in words:
            if word.endswith((".json", ".jsonl")):
                (tmp_path / word).touch()
        taken = quartermaster(*words, stdin="")
        assert taken.code == 0, (words, taken.err)


def commands_in(text: str) -> list[list[str]]:
    """The words of each `quartermaster ...` in lines for a shell."""
    commands: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        # A substitution's own words are no matter here.
        lexer = shlex.shlex(re.sub(r"\$\(.*\)", "x", line), posix=True, punctuation_chars="|;&<>")
        lexer.whitespace_split = True
        reading = False
        for word in lexer:
            if word == "quartermaster" and not reading:
                commands.append([])
                reading = True
            elif set(word) <= set("|;&<>"):
                reading = False
            elif reading:
                commands[-1].append(word)
    return commands


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("org", "nonsense"),
        ("credits", "add", "acme"),
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


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"QM_LITELLM_URL": ""}, "QM_LITELLM_URL"),
        ({"QM_KEY_ENCRYPTION_KEY": "not-a-key-hidden"}, "QM_KEY_ENCRYPTION_KEY"),
        (
            {"QM_TOPIC_DEAD_LETTERS": "org.created", "QM_TOPIC_ORG_CREATED": "org.created"},
            "QM_TOPIC_DEAD_LETTERS",
        ),
        ({"QM_DATABASE_URL": "mysql://user:hidden@host/db"}, "QM_DATABASE_URL"),
        ({"QM_RETRY_FOR": "soon"}, "QM_RETRY_FOR"),
    ],
)
@pytest.mark.usefixtures("complete")
def test_a_wrong_setting_of_run_is_named_in_one_line(
    quartermaster: Quartermaster, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], named: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    answer = quartermaster("run")

    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("Error: ")
    assert named in answer.err
    assert "hidden" not in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.usefixtures("complete")
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--retry-failed", "--re-emit"), "two commands"),
        (("--reason", "x"), "--retry-failed"),
        (("--retry-failed", "--topic", "t"), "--topic"),
        (("--re-emit", "--from", "t:0=1"), "offsets"),
        (("--from", "yesterday"), "yesterday"),
        (("--from", "2026-01-01T00:00:00Z", "--from", "t:0=1"), "--from"),
        (("--from", "2026-02-01T00:00:00Z", "--to", "2026-01-01T00:00:00Z"), "--to"),
        (("--dry-run", "--wait"), "--wait"),
        (("--re-emit", "--wait"), "--wait"),
        (("--rate", "-1"), "--rate"),
    ],
)
def test_a_replay_used_wrong_says_why(
    quartermaster: Quartermaster, options: tuple[str, ...], named: str
) -> None:
    answer = quartermaster("replay", *options)

    assert (answer.code, answer.out) == (2, "")
    assert named in answer.err.strip().splitlines()[-1]


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that `run` and `replay` require is set; nobody is there."""
    monkeypatch.setenv("QM_LITELLM_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("QM_LITELLM_MASTER_KEY", "sk-nobody")


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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(quartermaster: Quartermaster, shell: str) -> None:
    script = quartermaster("completion", shell).out
    assert f"_QUARTERMASTER_COMPLETE={shell}_complete" in script
    assert quartermaster("completion", shell, "--json").json == {
        "shell": shell,
        "script": script.removesuffix("\n"),
    }


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["d"], ["demo", "doctor", "dead-letters", "db"]),
        (["dead-letters", "re"], ["redrive"]),
        (["dead-letters", "list", "--reason", "inv"], ["invalid_json", "invalid_envelope", "invalid_data"]),
        (["ledger", "show", "--un"], ["--until"]),
    ],
)
def test_bash_completes_commands_options_and_values(
    quartermaster: Quartermaster, tmp_path: Path, typed: list[str], offered: list[str]
) -> None:
    (tmp_path / "script").write_text(quartermaster("completion", "bash").out)
    asked = (
        'source ./script; COMP_WORDS=(quartermaster "$@"); COMP_CWORD=$#;'
        ' _quartermaster_completion "$PROGRAM"; printf \'%s\\n\' "${COMPREPLY[@]}"'
    )
    program = tmp_path / "quartermaster"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m consumer \"$@\"\n")
    program.chmod(0o755)

    done = subprocess.run(
        ["bash", "-c", asked, "bash", *typed],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PROGRAM": str(program)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.split() == offered
