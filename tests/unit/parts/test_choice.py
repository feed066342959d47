"""How the tests choose the parts they run on."""

import pytest

from tests.parts import choice
from tests.parts.choice import KAFKA, LITELLM, POSTGRES, SERVERS, Source, required


@pytest.fixture(autouse=True)
def nothing_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in choice.PARTS.values():
        monkeypatch.delenv(part.variable, raising=False)
    monkeypatch.setattr(choice, "_docker_answers", lambda: False)


def test_without_anything_parts_are_embedded_where_there_is_an_embedded_one() -> None:
    assert [part.source for part in (KAFKA, POSTGRES, LITELLM)] == [
        Source.EMBEDDED,
        Source.ABSENT,
        Source.EMBEDDED,
    ]
    assert not any(part.is_real for part in (KAFKA, POSTGRES, LITELLM))


def test_docker_goes_before_embedded_parts_and_a_given_address_before_docker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "_docker_answers", lambda: True)
    monkeypatch.setenv("QM_TEST_KAFKA", "127.0.0.1:9092")
    assert (KAFKA.source, POSTGRES.source) == (Source.GIVEN, Source.CONTAINER)
    assert KAFKA.is_real
    assert POSTGRES.is_real


def test_the_header_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QM_TEST_POSTGRES", "postgresql://tester:hunter2@127.0.0.1:5432/postgres")
    assert str(POSTGRES) == "postgres: 127.0.0.1:5432/postgres (from QM_TEST_POSTGRES)"


def test_required_parts_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QM_TEST_REQUIRE", "kafka, litellm")
    assert required() == {"kafka", "litellm"}
    monkeypatch.delenv("QM_TEST_REQUIRE")
    assert required() == frozenset()


def test_a_required_part_that_does_not_exist_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QM_TEST_REQUIRE", "kafka,redis")
    with pytest.raises(ValueError, match="redis"):
        required()


def test_servers_to_break_are_given_or_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_docker_answers", lambda: True)
    assert SERVERS.source is Source.ABSENT
    assert str(SERVERS) == "servers: none, its tests are skipped (set QM_TEST_SERVERS)"
    monkeypatch.setenv("QM_TEST_SERVERS", "../shared")
    assert SERVERS.is_real
