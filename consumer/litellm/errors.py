# ruff: noqa: N818 - the classes are named by what they tell the caller
"""What can go wrong in a call to LiteLLM, told apart by what the caller may conclude from it.

The question after a failed write is never "which status was it" but "can it have happened all the same". So
the classes answer that, and `classify` is the one place that reads statuses and message texts. LiteLLM says
the same thing in three shapes (`{"error": {"message"}}`, `{"detail": ...}`, `{"detail": [{"loc", "msg"}]}`)
and with statuses that vary between versions, which is why the text decides and not the `type` or the status
alone.

No error's text holds an upstream message: those quote keys, list the e-mails of a team's members, and echo
what was sent.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import ClassVar


class LiteLLMError(Exception):
    """A call that did not end in the answer asked for.

    Attributes:
        endpoint: The path called, such as `/team/new`; never with its query.
        status: The HTTP status, or None where no answer came.
        retryable: Whether the same call may succeed later without anything being changed.
        may_have_applied: Whether LiteLLM may have carried out the call although it failed; read before
            writing again.
    """

    retryable: ClassVar[bool] = False
    may_have_applied: ClassVar[bool] = False

    def __init__(
        self, endpoint: str, reason: str, *, status: int | None = None, upstream: str | None = None
    ) -> None:
        prefix = f"LiteLLM {endpoint}" if status is None else f"LiteLLM {endpoint} answered {status}"
        super().__init__(f"{prefix}: {reason}")
        self.endpoint = endpoint
        self.status = status
        self._upstream = upstream  # for matching only: may hold keys and e-mails

    def says(self, start: str) -> bool:
        """Whether LiteLLM's own message starts so."""
        return self._upstream is not None and self._upstream.startswith(start)


class NotSent(LiteLLMError):
    """No connection came about: the call surely was not applied."""

    retryable = True


class Doubtful(LiteLLMError):
    """No usable answer after the call went out.

    A timeout, a 408, a disconnect, a 5xx, something other than LiteLLM's JSON.
    """

    retryable = True
    may_have_applied = True


class RateLimited(LiteLLMError):
    """LiteLLM asks to come back later (429).

    Attributes:
        retry_after_s: The seconds it asked for, or None.
    """

    retryable = True

    def __init__(
        self,
        endpoint: str,
        reason: str,
        *,
        status: int,
        upstream: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(endpoint, reason, status=status, upstream=upstream)
        self.retry_after_s = retry_after_s


class Unauthorized(LiteLLMError):
    """The master key is not accepted (401, 403).

    What an operator mends, so it is tried again like an outage.
    """

    retryable = True


class Rejected(LiteLLMError):
    """LiteLLM understood the call and refuses it for good."""


class NotFound(LiteLLMError):
    """LiteLLM says that it has no such thing.

    With its database down it says so of things that exist: proves nothing.
    """


class Existing(StrEnum):
    """What stands in the way of a create."""

    TEAM_ID = "team_id"
    MEMBER = "member"
    KEY_ALIAS = "key_alias"
    USER_ID = "user_id"
    USER_EMAIL = "user_email"
    UNIQUE_CONSTRAINT = "unique_constraint"
    """A concurrent create came first, and only LiteLLM's database noticed."""


class AlreadyExists(LiteLLMError):
    """What was to be made is there already, perhaps from an earlier try of ours: read it back and compare.

    Attributes:
        existing: What exists.
    """

    def __init__(
        self, endpoint: str, existing: Existing, *, status: int, upstream: str | None = None
    ) -> None:
        super().__init__(endpoint, f"{existing.value} exists already", status=status, upstream=upstream)
        self.existing = existing


# Anchored, and per endpoint, because the texts quote ids that others choose. Some come as the repr of a
# Python dict.
_QUOTED = r"^(?:\{'(?:error|message)': ['\"])?"
_EXISTING: Mapping[str, tuple[tuple[Existing, re.Pattern[str]], ...]] = {
    "/team/new": ((Existing.TEAM_ID, re.compile(_QUOTED + "Team id = .* already exists", re.DOTALL)),),
    "/team/member_add": ((Existing.MEMBER, re.compile(_QUOTED + "(?:User|All users are) already in team")),),
    "/user/new": (
        (Existing.USER_ID, re.compile(_QUOTED + "User with id .* already exists", re.DOTALL)),
        (Existing.USER_EMAIL, re.compile(_QUOTED + "User with email .* already exists", re.DOTALL)),
    ),
    "/key/generate": (
        (Existing.KEY_ALIAS, re.compile(_QUOTED + "Key with alias .* already exists", re.DOTALL)),
    ),
    "/key/update": (
        (Existing.KEY_ALIAS, re.compile(_QUOTED + "Key with alias .* already exists", re.DOTALL)),
    ),
}
_UNIQUE_CONSTRAINT = "Unique constraint failed"
# Some calls report a database that is down with a 400.
_DATABASE_DOWN = re.compile(
    r"Can't reach database server|No database connection|All connection attempts failed"
)
_ABSENT_AS_400 = re.compile(
    _QUOTED + r"(?:User not found in team|Team id=.* does not exist in db)", re.DOTALL
)
_NO_SUCH_ROUTE = "Not Found"  # what the web framework says of an unknown path, and LiteLLM of nothing


def upstream_message(body: object) -> str | None:
    """Find the message in an error answer of any of LiteLLM's three shapes.

    None where it has none of them.
    """
    if not isinstance(body, dict):
        return None
    match body:
        case {"error": {"message": str(message)}}:
            return message
        case {"detail": str(message)}:
            return message
        case {"detail": {"error": str(message)}} | {"detail": {"message": str(message)}}:
            return message
        case {"detail": [*problems]}:
            return "; ".join(str(problem.get("msg", "")) for problem in problems if isinstance(problem, dict))
        case _:
            return None


def classify(
    endpoint: str, status: int, message: str | None, *, retry_after_s: float | None = None
) -> LiteLLMError:
    """Say what an answer other than a success means.

    Args:
        endpoint: The path called.
        status: The answer's HTTP status.
        message: Its message by `upstream_message`; None where the answer is not LiteLLM's JSON.
        retry_after_s: The answer's `Retry-After`, in seconds.
    """
    if message is None:
        return Doubtful(endpoint, "the answer is not LiteLLM's JSON", status=status)
    if _DATABASE_DOWN.search(message) is not None:
        return Doubtful(endpoint, "its database is down", status=status, upstream=message)
    for existing, pattern in _EXISTING.get(endpoint, ()):
        if pattern.match(message):
            return AlreadyExists(endpoint, existing, status=status, upstream=message)
    if endpoint in _EXISTING and _UNIQUE_CONSTRAINT in message:
        return AlreadyExists(endpoint, Existing.UNIQUE_CONSTRAINT, status=status, upstream=message)
    return _by_status(endpoint, status, message, retry_after_s)


def _by_status(endpoint: str, status: int, message: str, retry_after_s: float | None) -> LiteLLMError:
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Unauthorized(endpoint, "the master key is not accepted", status=status, upstream=message)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(
            endpoint, "asked to come back later", status=status, upstream=message, retry_after_s=retry_after_s
        )
    if status == HTTPStatus.NOT_FOUND and message == _NO_SUCH_ROUTE:
        return Doubtful(endpoint, "no LiteLLM at this address", status=status, upstream=message)
    if status == HTTPStatus.NOT_FOUND or (
        status == HTTPStatus.BAD_REQUEST and _ABSENT_AS_400.match(message) is not None
    ):
        return NotFound(endpoint, "not found", status=status, upstream=message)
    is_final = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if is_final and status != HTTPStatus.REQUEST_TIMEOUT:  # which says nothing of what was done by then
        return Rejected(endpoint, "refused", status=status, upstream=message)
    return Doubtful(endpoint, "failed", status=status, upstream=message)
