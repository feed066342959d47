"""What ingest says of itself: the facts that readiness and metrics are made from."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class IngestStatus:
    """Facts about the consumer, each written by ingest alone; times are seconds on the monotonic clock."""

    missing_topics: tuple[str, ...] = ()
    """Topics of the settings that don't exist."""
    broker_error: str | None = None
    """Why no broker answers, at the start."""
    database_away: bool = False
    """A batch is in hand and the database does not answer."""
    applying_since: float | None = None
    """Since when the database has been asked to take a batch; None: it is not being asked."""
    broker_seen_at: float | None = None
    """When the broker last answered a question of ours."""
    member_at: float | None = None
    """When we were last seen to be a member of the group; None: we can't read yet."""
    lag: int = 0
    """Records not yet applied, over all assigned partitions, when the broker last answered."""
    progress_at: float = 0.0
    """When a batch was last applied, or when there was last nothing to do."""
    open_breakers: set[str] = field(default_factory=set)
    """Topics stopped by their breaker."""
