# ruff: noqa: N818 - the classes are named by what they tell the caller
"""Why an attempt did not succeed, whether to try it again, and when."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Self, cast

from consumer.litellm.errors import (
    AlreadyExists,
    Doubtful,
    LiteLLMError,
    NotSent,
    RateLimited,
    Rejected,
    Unauthorized,
)
from consumer.litellm.text import is_kept
from schemas.json_codec import dump_json, parse_trusted_json

FIRST_PAUSE: Final = timedelta(seconds=0.5)
LONGEST_PAUSE: Final = timedelta(seconds=60)


class ErrorCode(StrEnum):
    """What an outcome of failed provisioning says was wrong."""

    LITELLM_UNAVAILABLE = "litellm_unavailable"
    LITELLM_UNAUTHORIZED = "litellm_unauthorized"
    LITELLM_REJECTED = "litellm_rejected"
    TEAM_CONFLICT = "team_conflict"
    USER_CONFLICT = "user_conflict"
    KEY_CONFLICT = "key_conflict"
    ORG_NOT_FOUND = "org_not_found"
    ORG_NOT_ACTIVE = "org_not_active"
    INTERNAL = "internal"


class Step(StrEnum):
    """What was being done when an attempt failed."""

    ORGANIZATION = "organization"
    USER = "user"
    TEAM = "team"
    MEMBERSHIP = "membership"
    KEY = "key"
    VERIFICATION = "verification"


class Conflict(Exception):
    """Something that is not ours stands where ours should: final.

    Args:
        code: Which conflict.
        message: In our own words; it is published.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def must_be_kept(*texts: str) -> None:
    """Make sure that LiteLLM stores these as they are, before anything is made under them.

    Raises:
        Conflict: It would store another id, which nobody would find again.
    """
    if not all(map(is_kept, texts)):
        raise Conflict(
            ErrorCode.LITELLM_REJECTED, "LiteLLM does not keep a line separator in an id or a model"
        )


class Unsettled(Exception):
    """LiteLLM's answers contradict each other or what was written: its database may be down, or others write.

    Tried again like an outage. The message is in our own words; it is published.
    """


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed, as stored and published: no secret, no e-mail, nothing of an answer's text."""

    step: str
    error_code: ErrorCode
    message: str

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        stored = cast("dict[str, str]", parse_trusted_json(text.encode()))
        return cls(stored["step"], ErrorCode(stored["error_code"]), stored["message"])

    def to_json(self) -> str:
        """Write it for the database."""
        return dump_json(
            {"step": self.step, "error_code": self.error_code.value, "message": self.message}
        ).decode()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an error.

    Attributes:
        failure: What to tell if this was the last try.
        final: Whether another try could not mend it.
        outage: Whether LiteLLM as a whole may be down, which a probe decides.
        retry_after: The pause LiteLLM asked for.
    """

    failure: Failure
    final: bool = False
    outage: bool = False
    retry_after: timedelta | None = None


def judge(error: Exception, step: Step) -> Verdict:  # noqa: PLR0911 - a table
    """Say what an error that ended an attempt means."""
    match error:
        case Conflict():
            return Verdict(Failure(step, error.code, str(error)), final=True)
        case Rejected():
            return Verdict(Failure(step, ErrorCode.LITELLM_REJECTED, str(error)), final=True)
        case Unauthorized():
            return Verdict(Failure(step, ErrorCode.LITELLM_UNAUTHORIZED, str(error)), outage=True)
        case RateLimited():
            most = LONGEST_PAUSE.total_seconds()  # what is asked for may be more than any time span holds
            asked = None if error.retry_after_s is None else timedelta(seconds=min(error.retry_after_s, most))
            return Verdict(Failure(step, ErrorCode.LITELLM_UNAVAILABLE, str(error)), retry_after=asked)
        case NotSent() | Doubtful():
            return Verdict(Failure(step, ErrorCode.LITELLM_UNAVAILABLE, str(error)), outage=True)
        case LiteLLMError() | Unsettled():
            # What is left contradicts what is known: a 404 for what was just made, an "exists" that cannot be
            # read. A LiteLLM without its database speaks so.
            outage = not isinstance(error, AlreadyExists)
            return Verdict(Failure(step, ErrorCode.LITELLM_UNAVAILABLE, str(error)), outage=outage)
        case _:
            # The text of an unknown error may hold anything.
            message = f"unexpected {type(error).__name__}"
            return Verdict(Failure(step, ErrorCode.INTERNAL, message))


def pause(attempts: int, random: Callable[[], float]) -> timedelta:
    """Give the pause after so many tries: doubling, jittered over its upper half, at most a minute.

    Args:
        attempts: Tries so far, 1 or more.
        random: A number from 0 up to 1.
    """
    whole: timedelta = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 16))
    return whole * (0.5 + random() / 2)


def next_try(
    now: datetime,
    *,
    attempts: int,
    deadline: datetime,
    retry_after: timedelta | None,
    random: Callable[[], float],
) -> datetime | None:
    """Say when to try again; None: the retry time has run out.

    Args:
        now: When the last try ended.
        attempts: Tries so far.
        deadline: When the retry time runs out; one last try is made then.
        retry_after: The pause LiteLLM asked for.
        random: A number from 0 up to 1.
    """
    if now >= deadline:
        return None
    wait = pause(attempts, random)
    if retry_after is not None:
        wait = max(wait, min(retry_after, LONGEST_PAUSE))
    return min(now + wait, deadline)
