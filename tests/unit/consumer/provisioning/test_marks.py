from typing import Any
from uuid import UUID

import pytest

from consumer.provisioning.marks import Mark

MARK = Mark("/quartermaster", "org", UUID(int=7), "hash")


def test_a_mark_is_read_as_it_was_written() -> None:
    assert Mark.of(MARK.added_to({})) == MARK
    adopted = Mark("/quartermaster", "org", UUID(int=7), "hash", adopted=True)
    assert Mark.of(adopted.added_to({})) == adopted


def test_other_metadata_stay() -> None:
    metadata = {"logging": [1], "quartermaster": "older"}
    marked = MARK.added_to(metadata)
    assert marked["logging"] == [1]
    assert metadata == {"logging": [1], "quartermaster": "older"}


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"quartermaster": None},
        {"quartermaster": "text"},
        {"quartermaster": {"source": "/q", "org_id": "org"}},
        {"quartermaster": {"source": "/q", "org_id": "org", "event": "no uuid", "key": "k"}},
        {"quartermaster": {"source": 1, "org_id": "org", "event": UUID(int=1).hex, "key": "k"}},
    ],
)
def test_what_we_could_not_have_written_is_no_mark(metadata: dict[str, Any]) -> None:
    assert Mark.of(metadata) is None


def test_a_mark_is_of_one_source_and_organization() -> None:
    assert MARK.is_of("/quartermaster", "org")
    assert not MARK.is_of("/other", "org")
    assert not MARK.is_of("/quartermaster", "other")
