from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.timestamps import format_rfc3339, from_kafka_ms, is_rfc3339, parse_rfc3339


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02t03:04:05z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.5+02:00", datetime(2026, 1, 2, 1, 4, 5, 500000, tzinfo=UTC)),
        ("2026-01-02T03:04:05.123456789Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2026-01-02T03:04:05-00:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
        ("1990-12-31T23:59:60Z", datetime(1991, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59-23:59", datetime.max.replace(tzinfo=UTC)),
        ("9999-12-31T23:59:60Z", datetime.max.replace(tzinfo=UTC)),
        ("0001-01-01T00:00:00+23:59", datetime.min.replace(tzinfo=UTC)),
        ("0000-02-29T00:00:00Z", datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_reads_rfc3339(text: str, moment: datetime) -> None:
    assert is_rfc3339(text)
    assert parse_rfc3339(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-02",
        "2026-01-02 03:04:05Z",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05,5Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:60:00Z",
        "2026-01-02T03:04:61Z",
        "2026-13-02T03:04:05Z",
        "2026-00-02T03:04:05Z",
        "2026-01-32T03:04:05Z",
        "2026-02-29T03:04:05Z",
        "2026-04-31T03:04:05Z",
        "2026-01-02T03:04:05+2:00",
        "2026-01-02T03:04:05+0200",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05Z\n",
        " 2026-01-02T03:04:05Z",
        "2026-W01-1T03:04:05Z",
        "20260102T030405Z",
        "٢٠٢٦-01-02T03:04:05Z",
        "1767323045",
        "2026-01-02T03:04:05." + "0" * 300 + "Z",
    ],
)
def test_refuses_all_else(text: str) -> None:
    assert not is_rfc3339(text)
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_rfc3339(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_was_written_reads_the_same(moment: datetime) -> None:
    text = format_rfc3339(moment)
    assert text.endswith("Z")
    assert parse_rfc3339(text) == moment


def test_writes_any_offset_as_utc() -> None:
    there = timezone(timedelta(hours=2))
    assert format_rfc3339(datetime(2026, 1, 2, 3, 4, 5, tzinfo=there)) == "2026-01-02T01:04:05.000000Z"


def test_reads_kafkas_milliseconds() -> None:
    assert from_kafka_ms(1_700_000_000_123) == datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=UTC)


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_number_a_producer_may_write_is_a_time(milliseconds: int) -> None:
    assert is_rfc3339(format_rfc3339(from_kafka_ms(milliseconds)))
