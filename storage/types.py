"""Column types that read the same on SQLite and PostgreSQL."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, DateTime, Integer, Text
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

#: Identifiers are compared and sorted by code point, as Python sorts them: both sides lock rows in the same
#: order.
BY_CODE_POINT = Text().with_variant(Text(collation="C"), "postgresql")

#: The key of a table that numbers its own rows. SQLite numbers only a column declared exactly INTEGER.
ROW_NUMBER = BigInteger().with_variant(Integer(), "sqlite")


@lru_cache(maxsize=256)  # the rows of a batch bear one moment
def datetime_to_text(moment: datetime) -> str:
    """The form kept on SQLite: UTC, of one width, so that text sorts as time does."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def datetime_from_text(text: str) -> datetime:
    """Read what `datetime_to_text` wrote."""
    return datetime.fromisoformat(text)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC: `timestamptz` on PostgreSQL, text of one width on SQLite.

    A naive datetime is refused: it would be read in whatever zone the machine has.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite, which has no type of its own for time."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Text())
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """From an aware datetime to what the driver takes."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone cannot be stored")
        return datetime_to_text(value) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From what the driver gives to an aware datetime in UTC."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return datetime_from_text(value)
        return value.astimezone(UTC)  # type: ignore[no-any-return]
