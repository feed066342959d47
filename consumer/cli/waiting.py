"""What waits and what failed, as commands show it: for whom, why, and until when."""

from dataclasses import dataclass
from typing import Any, Final, cast

from schemas.json_codec import parse_trusted_json
from schemas.timestamps import format_rfc3339
from storage.inbox import FailedSummary, InboxRow, InboxState, WaitReason

_WAITS_FOR: Final = {
    WaitReason.ORGANIZATION: "its organization",
    WaitReason.LITELLM: "LiteLLM, which is down",
    WaitReason.RETRY: "the next try",
    WaitReason.BEHIND: "an earlier event about the same",
    WaitReason.COMPENSATION: "what its tries made to be removed",
    WaitReason.TURN: "its turn",
    WaitReason.FAILED: "nothing: it failed",
}


@dataclass(frozen=True, slots=True)
class Failing:
    """Why a try failed; `message` is missing where a job's charge was refused."""

    step: str
    error_code: str
    message: str | None

    @property
    def line(self) -> str:
        """Return it as people read it."""
        about = f"{self.error_code} ({self.step})"
        return f"{about}: {self.message}" if self.message else about


def failing(failure: str | None) -> Failing | None:
    """Read what the database keeps of a failed try."""
    if failure is None:
        return None
    stored = cast("dict[str, str]", parse_trusted_json(failure.encode()))
    return Failing(stored["step"], stored["error_code"], stored.get("message"))


def named(row: InboxRow) -> tuple[str, str]:
    """Return source and id of a kept event."""
    envelope = cast("dict[str, Any]", parse_trusted_json(row.event))
    return envelope["source"], envelope["id"]


def waits_for(row: InboxRow) -> str:
    """Return what an event waits for, in words."""
    return _WAITS_FOR[row.reason]


def waiting_document(row: InboxRow) -> dict[str, object]:
    """Return the JSON form of an event that waits."""
    source, id_ = named(row)
    last = failing(row.failure)
    return {
        "type": row.type,
        "source": source,
        "id": id_,
        "reason": row.reason,
        "since": format_rfc3339(row.stored_at),
        "due_at": None if row.due_at is None else format_rfc3339(row.due_at),
        "subject": row.subject or None,
        "round": row.round,
        "attempts": row.attempts,
        "last_error": None if last is None or row.state is InboxState.FAILED else last.line,
        "number": row.inbox_id,
    }


def failed_document(summary: FailedSummary) -> dict[str, object]:
    """Return the JSON form of events that failed alike."""
    why = failing(summary.failure)
    return {
        "type": summary.type,
        "count": summary.count,
        "step": None if why is None else why.step,
        "error_code": None if why is None else why.error_code,
        "message": None if why is None else why.message,
        "oldest_since": format_rfc3339(summary.oldest_since),
    }
