"""docker-compose.yml and what belongs to it: pinned, healthy in the right order, closed, without secrets."""

import re
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumer.settings import REQUIRED_TO_RUN, Settings, load_settings

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
LASTING = sorted(name for name, service in SERVICES.items() if service["restart"] != "no")


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    subprocess.run([ROOT / "deploy" / "make-env", path], check=True)
    return path


def variables(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_an_image_is_pinned_to_a_full_version(name: str) -> None:
    if name == "quartermaster":
        assert SERVICES[name]["build"] == "."
        return
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?", tag)


def test_litellm_is_the_measured_release() -> None:
    assert SERVICES["litellm"]["image"].endswith(":v1.106.2")


def test_the_image_of_the_dockerfile_is_pinned() -> None:
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", bases[0])


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_service_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_a_service_waits_for_can_come_true(name: str) -> None:
    for dependency, condition in SERVICES[name].get("depends_on", {}).items():
        expected = "service_healthy" if dependency in LASTING else "service_completed_successfully"
        assert condition == {"condition": expected}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_port_is_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_no_secret_stands_in_the_file() -> None:
    """Each comes from the environment; what stands in for it says that it is none."""
    secret = re.compile(r"PASSWORD|_KEY$|DATABASE_URL$")
    stand_in = re.compile(
        r"for-development-only|" + re.escape(b64encode(b"for development, never a secret!").decode())
    )
    found = 0
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if secret.search(variable):
                found += 1
                given = re.findall(r"\$\{\w+:-([^}]*)\}", value)
                assert given, f"{variable} must come from the environment"
                assert any(stand_in.search(one) for one in given), f"{variable}: {given}"
    assert found >= 6


def test_the_topics_are_the_six_of_the_settings() -> None:
    script = SERVICES["topics"]["command"][-1]
    names = {
        str(Settings.model_fields[name].default)
        for name in Settings.model_fields
        if name.startswith("topic_")
    }
    assert len(names) == 6
    words = set(script.replace("\\\n", " ").replace(";", " ").split())
    assert names <= words
    assert "--partitions 6" in script


def test_the_container_is_given_longer_than_the_shutdown_takes() -> None:
    grace = SERVICES["quartermaster"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Settings.model_fields["shutdown_timeout"].default


def test_every_variable_has_a_value_in_the_generated_env(env_file: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    needed = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    assert needed <= variables(env_file).keys()


def test_the_generated_env_serves_a_quartermaster_outside_docker(env_file: Path) -> None:
    settings = load_settings(require=REQUIRED_TO_RUN, env_file=env_file)
    assert settings.kafka_bootstrap_servers == f"127.0.0.1:{variables(env_file)['KAFKA_PORT']}"
    assert settings.litellm_url == f"http://127.0.0.1:{variables(env_file)['LITELLM_PORT']}"


def test_the_generated_env_is_private_random_and_never_overwritten(env_file: Path, tmp_path: Path) -> None:
    assert env_file.stat().st_mode & 0o077 == 0
    before = env_file.read_bytes()
    again = subprocess.run([ROOT / "deploy" / "make-env", env_file], check=False, capture_output=True)
    assert again.returncode == 1
    assert env_file.read_bytes() == before
    other = tmp_path / "other"
    subprocess.run([ROOT / "deploy" / "make-env", other], check=True)
    assert variables(other)["QM_KEY_ENCRYPTION_KEY"] != variables(env_file)["QM_KEY_ENCRYPTION_KEY"]


def test_docker_compose_itself_takes_the_file(env_file: Path) -> None:
    docker = shutil.which("docker")
    if (
        not docker
        or subprocess.run([docker, "compose", "version"], check=False, capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed")
    subprocess.run(
        [
            docker,
            "compose",
            "--file",
            ROOT / "docker-compose.yml",
            "--env-file",
            env_file,
            "config",
            "--quiet",
        ],
        check=True,
    )
