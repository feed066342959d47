"""Whether an instance is ready, decided from plain facts: `(facts) -> reasons against it`."""

from dataclasses import dataclass
from typing import Final

STALLED_AFTER_S: Final = 60.0
"""How long work may wait without any of it being done before that counts against readiness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about an instance at one moment.

    Attributes:
        member: it belongs to the consumer group: partitions assigned, or standing by without any.
        database_error: why the database does not answer; None where it does.
        broker_error: why no broker answers; None where one does.
        missing_topics: topics of the settings that do not exist.
        lag_stalled_s: seconds with records to read and none read.
        outbox_stalled_s: seconds with records to publish and none acknowledged.
        open_breakers: topics paused for their bad records.
        stopping: it is shutting down.
    """

    member: bool
    database_error: str | None = None
    broker_error: str | None = None
    missing_topics: tuple[str, ...] = ()
    lag_stalled_s: float = 0.0
    outbox_stalled_s: float = 0.0
    open_breakers: tuple[str, ...] = ()
    stopping: bool = False


def reasons_against(facts: Facts) -> list[str]:
    """Return why the instance is not ready, a line each; none: it is ready.

    LiteLLM is not asked: while it is down events wait in the database, which is as it should be.
    """
    reasons = []
    if facts.stopping:
        reasons.append("shutting down")
    if facts.database_error is not None:
        reasons.append(f"database: {facts.database_error}")
    if facts.broker_error is not None:
        reasons.append(f"broker: {facts.broker_error}")
    if facts.missing_topics:
        reasons.append(f"topics missing: {', '.join(sorted(facts.missing_topics))}")
    if not facts.member:
        reasons.append("not in the consumer group")
    if facts.lag_stalled_s >= STALLED_AFTER_S:
        reasons.append(f"records to read, none read for {facts.lag_stalled_s:.0f} s")
    if facts.outbox_stalled_s >= STALLED_AFTER_S:
        reasons.append(f"records to publish, none acknowledged for {facts.outbox_stalled_s:.0f} s")
    reasons.extend(f"breaker open: {topic}" for topic in sorted(facts.open_breakers))
    return reasons
