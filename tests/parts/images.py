"""The container images of docker-compose.yml, so that tests and compose run the same versions."""

from pathlib import Path

import yaml

_COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


def image_of(service: str) -> str:
    """The pinned image of a compose service."""
    services = yaml.safe_load(_COMPOSE.read_text(encoding="utf-8"))["services"]
    image: str = services[service]["image"]
    return image
