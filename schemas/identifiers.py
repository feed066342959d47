"""The identifiers other systems gave: compared by code point, never changed."""

from typing import Annotated, Final

from pydantic import Field

IDENTIFIER_PATTERN: Final = r"^[^ \x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^ \x00-\x1f\x7f-\x9f])?$"
"""No character of Unicode category Cc anywhere, no space first or last."""

OrgId = Annotated[str, Field(min_length=1, max_length=255, pattern=IDENTIFIER_PATTERN)]
UserId = Annotated[str, Field(min_length=1, max_length=255, pattern=IDENTIFIER_PATTERN)]
JobId = Annotated[str, Field(min_length=1, max_length=255, pattern=IDENTIFIER_PATTERN)]
