"""What holds for any record: on the fuzzer's corpus, and on whatever Hypothesis thinks of."""

import json
import random
import uuid
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.dead_letters import Header
from schemas.decode import IncomingRecord, PassedOver, Rejected, decode
from schemas.event import InboundEvent, identity_digest
from schemas.fingerprint import fingerprint
from schemas.json_codec import parse_json
from schemas.outcomes import OutcomeType, outcome_id
from tests.hostile.fuzz import CORPUS
from tests.hostile.properties import STRUCTURED, anew, check, record_of
from tests.hostile.reference import read_json
from tests.hostile.spelling import spell
from tests.hostile.upstream import Upstream

THOROUGH = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_the_corpus(path: Path) -> None:
    check(record_of(path.read_bytes()))


@THOROUGH
@given(st.binary(max_size=300))
def test_any_bytes(raw: bytes) -> None:
    check(record_of(raw))


@THOROUGH
@given(st.integers(0, 2**64), st.integers(1, 40))
def test_any_record_of_an_upstream_gone_wrong(seed: int, records: int) -> None:
    upstream = Upstream(seed)
    for _ in range(records):
        sent = upstream.next()
    check(IncomingRecord("in", 0, 1, sent.timestamp_ms, sent.key, sent.value, sent.headers))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
NAMES = st.sampled_from(
    [
        "org_id",
        "job_id",
        "status",
        "usage",
        "credits",
        "metadata",
        "specversion",
        "id",
        "source",
        "type",
        "data",
    ]
)


class Literal(float):
    """A number that is written as it was spelled."""

    def __new__(cls, text: str) -> Self:
        literal = super().__new__(cls, 0.0)
        literal.text = text
        return literal

    text: str

    def __repr__(self) -> str:
        return self.text


NUMBERS = st.builds(
    lambda whole, rest: Literal(f"{whole}{rest}"),
    st.integers(-(10**20), 10**20) | st.integers(-9, 9),
    st.sampled_from(("", ".0", ".50", "e0", "E+2", "e-7", ".123456789012345678901e5", "e999999", ".000e-12")),
)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | TEXT, inner, max_size=5),
    max_leaves=20,
)


def written(value: Any) -> bytes:
    if isinstance(value, dict):
        return (
            b"{"
            + b",".join(json.dumps(name).encode() + b":" + written(one) for name, one in value.items())
            + b"}"
        )
    if isinstance(value, list):
        return b"[" + b",".join(map(written, value)) + b"]"
    return repr(value).encode() if isinstance(value, Literal) else json.dumps(value).encode()


@THOROUGH
@given(
    VALUES, st.sampled_from([(), (STRUCTURED,), (("ce_specversion", b"1.0"), ("ce_type", b"job.completed"))])
)
def test_any_json(value: Any, headers: tuple[Header, ...]) -> None:
    check(IncomingRecord("in", 0, 1, 0, None, written(value), headers))


@given(st.dictionaries(TEXT, VALUES, max_size=5), st.integers(0, 2**32))
def test_the_same_data_have_one_fingerprint_however_they_are_spelled(data: dict[str, Any], seed: int) -> None:
    text, chance = written(data), random.Random(seed)
    one, other = parse_json(text), parse_json(spell(anew(read_json(text), chance), chance))
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    assert fingerprint("t", one) == fingerprint("t", other)


BROKEN: dict[str, tuple[str, dict[str, Any]]] = {
    # Each breaks its own check; in the contract's order.
    "size": ("too_large", {}),
    "json": ("invalid_json", {}),
    "type": ("unknown_type", {"type": "unheard.of"}),
    "envelope": ("invalid_envelope", {"id": ""}),
    "data": ("invalid_data", {"data": {"org_id": "o", "job_id": " ", "status": "completed"}}),
}


@given(broken=st.sets(st.sampled_from(sorted(BROKEN)), min_size=1), binary=st.booleans())
def test_the_first_check_that_fails_is_the_reason(broken: set[str], *, binary: bool) -> None:
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": "e",
        "source": "/s",
        "type": "job.completed",
        "data": {"org_id": "o", "job_id": "j", "status": "completed"},
    }
    for name in broken:
        attributes.update(BROKEN[name][1])
    data = attributes.pop("data")
    if binary:
        value = spell(data)
        headers: tuple[Header, ...] = tuple(
            (f"ce_{name}", text.encode()) for name, text in attributes.items()
        )
    else:
        value, headers = spell({**attributes, "data": data}), (STRUCTURED,)
    if "json" in broken:
        value += b"}"
    meaning = decode(
        IncomingRecord("in", 0, 0, 0, None, value, headers), max_bytes=1 if "size" in broken else 10_000
    )
    order = ["size", "type", "json", "envelope", "data"] if binary else list(BROKEN)
    first = next(name for name in order if name in broken)
    assert isinstance(meaning, Rejected | PassedOver)
    found = meaning.why if isinstance(meaning, PassedOver) else meaning.reason.value
    assert found == BROKEN[first][0]


@given(TEXT, TEXT, st.sampled_from(sorted(OutcomeType)), st.integers(1, 2**31))
def test_an_outcomes_id_is_what_the_contract_says(
    source: str, id_: str, type_: OutcomeType, round_: int
) -> None:
    name = json.dumps([source, id_, type_.value, round_], ensure_ascii=False, separators=(",", ":"))
    assert outcome_id(source, id_, type_, round_) == uuid.uuid5(uuid.NAMESPACE_URL, name)


@given(TEXT, TEXT, TEXT, TEXT)
def test_two_identities_are_one_exactly_where_both_strings_are(
    source: str, id_: str, other_source: str, other_id: str
) -> None:
    same = (source, id_) == (other_source, other_id)
    assert (identity_digest(source, id_) == identity_digest(other_source, other_id)) is same
    # Not even where the two strings together are the same.
    if source and id_:
        assert identity_digest(source, id_) != identity_digest(source + id_[0], id_[1:])


def test_all_three_kinds_of_meaning_come_up() -> None:
    upstream = Upstream(1)
    kinds = {
        type(decode(IncomingRecord("in", 0, 0, 0, None, sent.value, sent.headers), max_bytes=10_000))
        for sent in (upstream.next() for _ in range(300))
    }
    assert kinds == {InboundEvent, PassedOver, Rejected}
