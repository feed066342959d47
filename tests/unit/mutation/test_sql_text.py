import pytest

from tests.mutation.sql_text import slips


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("DELETE FROM t WHERE a < 1", {"DELETE FROM t WHERE a <= 1", "DELETE FROM t WHERE TRUE OR a < 1"}),
        (
            "SELECT a FROM t ORDER BY a",
            {"SELECT a FROM t", "SELECT a FROM t ORDER BY a DESC"},
        ),
        ("ORDER BY a DESC LIMIT 5", {" LIMIT 5", "ORDER BY a DESC", "ORDER BY a ASC LIMIT 5"}),
        ('INSERT INTO t ON CONFLICT ("a") DO NOTHING RETURNING a', {"INSERT INTO t RETURNING a"}),
        (
            "UPDATE t SET a = a + 1 WHERE b = 2 AND c IS NULL",
            {
                "UPDATE t SET a <> a + 1 WHERE b = 2 AND c IS NULL",
                "UPDATE t SET a = a + 1 WHERE b <> 2 AND c IS NULL",
                "UPDATE t SET a = a - 1 WHERE b = 2 AND c IS NULL",
                "UPDATE t SET a = a + 1 WHERE b = 2 OR c IS NULL",
                "UPDATE t SET a = a + 1 WHERE b = 2 AND c IS NOT NULL",
                "UPDATE t SET a = a + 1 WHERE TRUE OR b = 2 AND c IS NULL",
            },
        ),
        ("SELECT a FROM t FOR UPDATE SKIP LOCKED", {"SELECT a FROM t", "SELECT a FROM t FOR UPDATE"}),
    ],
)
def test_every_slip_is_made_once_and_alone(sql: str, expected: set[str]) -> None:
    assert set(slips(sql)) == expected
    assert len(list(slips(sql))) == len(expected)


@pytest.mark.parametrize("text", ["a < b AND c", "order by the first", "", "Where it is NOT so"])
def test_what_is_no_sql_is_left_alone(text: str) -> None:
    assert list(slips(text)) == []
