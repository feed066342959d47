from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from schemas.transactions import charge_id, grant_id, operator_entry_id


def test_the_ids_stay_what_they_are_for_good() -> None:
    assert charge_id("org-1", "job-1") == UUID("51cd3a71-4aee-521e-859c-ca578d19d50f")
    assert grant_id("org-1") == UUID("8592884c-c9a7-59ad-86c3-8eba9a87c670")
    assert operator_entry_id("command-1") == UUID("43f0ebdc-b038-5e4c-9468-1cde00713751")


def test_ids_for_different_purposes_differ() -> None:
    assert len({grant_id("a"), operator_entry_id("a"), charge_id("a", "a"), charge_id("a", "")}) == 4


@given(
    st.tuples(st.text(max_size=4), st.text(max_size=4)), st.tuples(st.text(max_size=4), st.text(max_size=4))
)
def test_no_two_jobs_share_a_charge(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (charge_id(*one) == charge_id(*other)) is (one == other)


def test_the_places_of_the_parts_count() -> None:
    assert charge_id("a", "b-c") != charge_id("a-b", "c")
