"""Arguments that several commands take, checked as the events' own fields are."""

import re
import unicodedata
from datetime import UTC, date, datetime, time
from typing import Final
from uuid import UUID

import click

from schemas.identifiers import IDENTIFIER_PATTERN
from schemas.timestamps import parse_rfc3339

_IDENTIFIER: Final = re.compile(IDENTIFIER_PATTERN)
_LONGEST: Final = 255
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Identifier(click.ParamType[str]):
    """An `org_id`, `user_id` or `job_id` as events bear them."""

    name = "id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the identifier, or fail with what an identifier is."""
        if len(value) > _LONGEST or not _IDENTIFIER.fullmatch(value) or not _is_text(value):
            self.fail(
                "must be 1 to 255 characters of UTF-8, no control characters, no space first or last",
                param,
                ctx,
            )
        return value


class Line(click.ParamType[str]):
    """Text of one line for the books."""

    name = "text"

    def __init__(self, longest: int) -> None:
        """Take how many characters it may have at most."""
        self._longest = longest

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, or fail with what is wrong."""
        if not value.strip() or len(value) > self._longest:
            self.fail(f"must be 1 to {self._longest} characters", param, ctx)
        if any(unicodedata.category(character) == "Cc" for character in value) or not _is_text(value):
            self.fail("must be one line of text without control characters", param, ctx)
        return value


class TransactionId(click.ParamType[UUID]):
    """The id of a ledger entry."""

    name = "transaction_id"

    def convert(self, value: str | UUID, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        """Return the id, or fail."""
        try:
            return UUID(str(value))
        except ValueError:
            self.fail("must be a transaction id as `quartermaster ledger show` prints it", param, ctx)


class Moment(click.ParamType[datetime]):
    """A point in time: a timestamp of RFC 3339, or a date, which is its midnight in UTC."""

    name = "time"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time in UTC, or fail with the forms there are."""
        if isinstance(value, datetime):
            return value
        try:
            if _DATE.fullmatch(value):
                return datetime.combine(date.fromisoformat(value), time(), UTC)
            return parse_rfc3339(value)
        except ValueError:
            self.fail("must be a date (2026-03-01) or a time (2026-03-01T12:00:00Z)", param, ctx)


since_option = click.option(
    "--since", type=Moment(), help="Only from then on: 2026-03-01, or 2026-03-01T12:00:00Z."
)
until_option = click.option("--until", type=Moment(), help="Only before then.")

org_id_argument = click.argument("org_id", metavar="ORG_ID", type=Identifier())


def _is_text(value: str) -> bool:
    """Whether the argument was UTF-8: a lone surrogate is how Python shows one that was not."""
    return not any(unicodedata.category(character) == "Cs" for character in value)
