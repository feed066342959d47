"""Which Kafka, PostgreSQL and LiteLLM the tests talk to, and which of their own they may break.

For each part the first that is there: the address in its environment variable, a container where a Docker
daemon answers (not with ``QM_TEST_CONTAINERS=0``), the embedded part. ``QM_TEST_REQUIRE`` (comma-separated
names) makes a real one a condition: without it nothing runs, and no test that uses it may be skipped.

========================  =====================================================================
``QM_TEST_KAFKA``         HOST:PORT
``QM_TEST_POSTGRES``      postgresql://USER:PASSWORD@HOST:PORT/DATABASE; the user creates databases
``QM_TEST_LITELLM``       http://HOST:PORT; its master key in ``QM_TEST_LITELLM_KEY``
``QM_TEST_SERVERS``       the folder of the scripts that start servers of a test's own, to be
                          stopped, killed and hung: see `tests.parts.servers`
========================  =====================================================================
"""

import functools
import gc
import os
import warnings
from dataclasses import dataclass
from enum import StrEnum

import docker
from docker.errors import DockerException

REQUIRE = "QM_TEST_REQUIRE"
CONTAINERS = "QM_TEST_CONTAINERS"


class Source(StrEnum):
    """Where a part comes from, best proof first."""

    GIVEN = "given"
    CONTAINER = "container"
    EMBEDDED = "embedded"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Part:
    """A service the tests need: its variable, what stands in for it, and the fixtures that lead to it."""

    name: str
    variable: str
    stand_in: str | None
    fixtures: frozenset[str]
    in_containers: bool = True

    @property
    def given(self) -> str | None:
        return os.environ.get(self.variable) or None

    @property
    def source(self) -> Source:
        if self.given:
            return Source.GIVEN
        if self.in_containers and _docker_answers():
            return Source.CONTAINER
        return Source.EMBEDDED if self.stand_in else Source.ABSENT

    @property
    def is_real(self) -> bool:
        return self.source in {Source.GIVEN, Source.CONTAINER}

    def __str__(self) -> str:
        match self.source:
            case Source.GIVEN:
                # The address without what may be a password.
                return f"{self.name}: {str(self.given).rpartition('@')[2]} (from {self.variable})"
            case Source.CONTAINER:
                return f"{self.name}: container"
            case Source.EMBEDDED:
                return f"{self.name}: embedded ({self.stand_in})"
            case Source.ABSENT:
                docker_too = ", or start Docker" if self.in_containers else ""
                return f"{self.name}: none, its tests are skipped (set {self.variable}{docker_too})"


KAFKA = Part("kafka", "QM_TEST_KAFKA", "Tansu, in memory", frozenset({"kafka_address"}))
POSTGRES = Part("postgres", "QM_TEST_POSTGRES", None, frozenset({"postgres_url"}))
LITELLM = Part("litellm", "QM_TEST_LITELLM", "the stand-in", frozenset({"litellm"}))
SERVERS = Part(
    "servers", "QM_TEST_SERVERS", None, frozenset({"own_kafka", "own_postgres"}), in_containers=False
)
PARTS = {part.name: part for part in (KAFKA, POSTGRES, LITELLM, SERVERS)}


def required() -> frozenset[str]:
    """The names of the parts that must be real; ValueError for one that is none."""
    names = frozenset(filter(None, map(str.strip, os.environ.get(REQUIRE, "").split(","))))
    if unknown := names - PARTS.keys():
        raise ValueError(f"{REQUIRE} names {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return names


@functools.cache
def _docker_answers() -> bool:
    if os.environ.get(CONTAINERS) == "0":
        return False
    with warnings.catch_warnings():
        # The client leaves its socket open where nobody answers; what it left goes here, not in a test.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            client = docker.from_env(timeout=3)
            try:
                return bool(client.ping())
            finally:
                client.close()
        except (DockerException, OSError):
            return False
        finally:
            gc.collect()
