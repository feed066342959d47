"""What calls answer while the proxy's database is down.

Errors of several statuses, and 404s that are not true.
"""

from typing import Final

from consumer.standin import errors
from consumer.standin.errors import ApiError

_UNTRUE_404: Final = frozenset({"/team/info", "/team/delete", "/team/member_add"})
_NEEDS_NONE: Final = frozenset({"/health/readiness", "/health/liveliness", "/v1/models", "/models"})
_UNAVAILABLE: Final = frozenset(
    {"/team/member_update", "/team/member_delete", "/key/block", "/key/unblock", "/v2/team/list"}
)


def answer_without_database(path: str) -> ApiError | None:
    """Give the failure of this call; None where it goes on and finds nothing."""
    if path in _UNTRUE_404 | _NEEDS_NONE:
        return None
    if path in _UNAVAILABLE:
        return errors.authentication_database_down()
    if path == "/key/update":  # the one that blames the caller
        return errors.authentication(400, errors.DATABASE_DOWN)
    return errors.database_down()
