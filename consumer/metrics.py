"""Every metric of Quartermaster, declared in one place with its meaning. Labels never hold ids.

`docs/metrics.md` is made from these declarations.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from consumer.harmless import escaped
from schemas.decode import PassedOver
from schemas.events import EventType

if TYPE_CHECKING:
    from consumer.ingest.batch import Applied

_Name = TypeVar("_Name", bound=str)

_PREFIX: Final = "quartermaster"
_UNKNOWN: Final = "unknown"
_EVENT_TYPES: Final = frozenset(EventType)
#: An upstream may invent type names without end; a time series each would be ours to pay for.
_MOST_UNKNOWN_TYPES: Final = 50
_LONGEST_TYPE_NAME: Final = 100
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCH_SIZES: Final = (1, 5, 10, 50, 100, 250, 500, 1000, 2500, 5000)


class EventResult(StrEnum):
    """What became of a record that was read."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    UNKNOWN = "unknown"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many events wait for one reason, and the age of the oldest in seconds."""

    reason: str
    count: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Declaration:
    """A metric as the documentation shows it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Metrics:
    """The metrics of one instance, in a registry of their own so that two may live in one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register every metric in `registry`."""
        self.registry = registry
        self.declarations: list[Declaration] = []
        self._unknown_names: set[str] = set()
        self._waiting_reasons: set[str] = set()
        self._lag_topics: set[str] = set()

        self._events = self._counter(
            "events",
            "Events read and decided, by what became of them.",
            type="`org.created`, `user.joined`, `job.completed`, or `unknown` (or unreadable)",
            result="`accepted`, `duplicate`, `unknown` or `dead_letter`",
        )
        self._unknown_types = self._counter(
            "unknown_types",
            "Events of a type that is not known, passed over.",
            type=f"the type as received, its first {_LONGEST_TYPE_NAME} characters; "
            f"`other` beyond {_MOST_UNKNOWN_TYPES} different ones",
        )
        self._null_records = self._counter(
            "null_records", "Records without value and `ce_` headers, passed over."
        )
        self._dead_letters = self._counter(
            "dead_letters", "Dead letters decided.", reason="`qm-reason` of the dead letter"
        )
        self._outcomes = self._counter(
            "outcomes", "Outcomes decided (stored together with their effect).", type="type of the outcome"
        )
        self._published = self._counter(
            "published",
            "Records acknowledged by Kafka.",
            stream="`provisioning`, `credits` or `dead_letter`",
        )
        self._publish_failures = self._counter(
            "publish_failures",
            "Records that Kafka refused or did not acknowledge; tried again unless refused for good.",
            stream="`provisioning`, `credits` or `dead_letter`",
            final="`true`: refused for good; `false`: tried again",
        )
        self._batch_size = self._histogram(
            "batch_events", "Records applied in one transaction.", buckets=_BATCH_SIZES
        )
        self._batch_seconds = self._histogram(
            "batch_seconds", "Seconds from a batch's first decode to its commit.", buckets=_SECONDS
        )
        self._offsets_out_of_range = self._counter(
            "offsets_out_of_range",
            "Partitions read from their earliest record because the committed offset was out of range.",
            topic="an inbound topic",
        )
        self._lag = self._gauge(
            "lag", "Records not applied yet on the partitions of this instance.", topic="an inbound topic"
        )
        self._assigned = self._gauge("assigned_partitions", "Partitions this instance reads; 0: standing by.")
        self._breaker_open = self._gauge(
            "breaker_open", "1 while too many bad records pause the topic, else 0.", topic="an inbound topic"
        )
        self._waiting = self._gauge(
            "waiting", "Events stored and not decided yet.", reason="what they wait for"
        )
        self._waiting_oldest = self._gauge(
            "waiting_oldest_seconds",
            "Age of the longest waiting event, in seconds.",
            reason="what it waits for",
        )
        self._outbox_pending = self._gauge(
            "outbox_pending", "Outcomes and dead letters stored and not acknowledged by Kafka yet."
        )
        self._litellm_requests = self._counter(
            "litellm_requests",
            "Calls of LiteLLM.",
            endpoint="path of the endpoint",
            status="the HTTP status, else `not_sent`, `timeout` or `disconnected`",
        )
        self._litellm_up = self._gauge(
            "litellm_up", "1 while LiteLLM is worth a try, 0 while provisioning waits for it to answer."
        )
        self._ready = self._gauge("ready", "1 while `/readyz` answers 200, else 0.")

    def applied(self, applied: "Applied") -> None:
        """Count what a batch came to, once its transaction is committed."""
        self.events(applied.accepted, EventResult.ACCEPTED)
        self.events(applied.duplicates, EventResult.DUPLICATE)
        self.events(applied.conflicts, EventResult.DEAD_LETTER)
        for event_type, count in applied.rejected.items():
            # What stands in a bad record is no label: it may be anything.
            known = event_type if event_type in _EVENT_TYPES else _UNKNOWN
            self.events({known: count}, EventResult.DEAD_LETTER)
        self.dead_letters(applied.dead_letters)
        self.outcomes(applied.outcomes)

    def passed_over(self, record: PassedOver) -> None:
        """Count a record that is neither an event of ours nor a bad one."""
        if record.type is None:
            self._null_records.inc()
        else:
            self.unknown_type(record.type)

    def events(self, counts: Mapping[_Name, int], result: EventResult) -> None:
        """Count events of each type that came to `result`; a type that can't be read is "unknown"."""
        for event_type, count in counts.items():
            self._events.labels(event_type, result).inc(count)

    def unknown_type(self, event_type: str) -> None:
        """Count an event of a type that is not known, by its name."""
        self._events.labels(_UNKNOWN, EventResult.UNKNOWN).inc()
        name = escaped(event_type[:_LONGEST_TYPE_NAME])
        if name not in self._unknown_names:
            if len(self._unknown_names) >= _MOST_UNKNOWN_TYPES:
                name = "other"
            self._unknown_names.add(name)
        self._unknown_types.labels(name).inc()

    def dead_letters(self, counts: Mapping[_Name, int]) -> None:
        """Count dead letters of each reason."""
        for reason, count in counts.items():
            self._dead_letters.labels(reason).inc(count)

    def outcomes(self, counts: Mapping[_Name, int]) -> None:
        """Count outcomes of each type, once their transaction is committed."""
        for outcome_type, count in counts.items():
            self._outcomes.labels(outcome_type).inc(count)

    def published(self, stream: str, count: int = 1) -> None:
        """Count records that Kafka acknowledged."""
        self._published.labels(stream).inc(count)

    def publish_failed(self, stream: str, count: int = 1, *, final: bool = False) -> None:
        """Count records that Kafka did not take; `final` where it never will."""
        self._publish_failures.labels(stream, str(final).lower()).inc(count)

    def batch(self, size: int, seconds: float) -> None:
        """Take note of one transaction of ingest."""
        self._batch_size.observe(size)
        self._batch_seconds.observe(seconds)

    def offset_out_of_range(self, topic: str) -> None:
        """Count a partition whose committed offset was out of range."""
        self._offsets_out_of_range.labels(topic).inc()

    def lag(self, records: Mapping[str, int]) -> None:
        """Set how many records of each topic are still to be applied; a topic not named has none."""
        for topic in self._lag_topics - records.keys():
            self._lag.labels(topic).set(0)
        for topic, count in records.items():
            self._lag.labels(topic).set(count)
        self._lag_topics |= records.keys()

    def assigned(self, partitions: int) -> None:
        """Set how many partitions this instance reads."""
        self._assigned.set(partitions)

    def breaker_open(self, topic: str, *, is_open: bool) -> None:
        """Set whether a topic is paused for its bad records."""
        self._breaker_open.labels(topic).set(is_open)

    def waiting(self, summary: Iterable[Waiting]) -> None:
        """Set what waits; a reason for which nothing waits any more goes back to 0."""
        now = {one.reason: one for one in summary}
        for reason in self._waiting_reasons - now.keys():
            self._waiting.labels(reason).set(0)
            self._waiting_oldest.labels(reason).set(0)
        for reason, one in now.items():
            self._waiting.labels(reason).set(one.count)
            self._waiting_oldest.labels(reason).set(one.oldest_seconds)
        self._waiting_reasons |= now.keys()

    def outbox_pending(self, records: int) -> None:
        """Set how many records are still to be published."""
        self._outbox_pending.set(records)

    def litellm_request(self, endpoint: str, status: str) -> None:
        """Count one call of LiteLLM."""
        self._litellm_requests.labels(endpoint, status).inc()

    def litellm_up(self, is_open: bool) -> None:  # noqa: FBT001 - the gate's hook
        """Set whether LiteLLM is worth a try."""
        self._litellm_up.set(is_open)

    def ready(self, *, is_ready: bool) -> None:
        """Set what `/readyz` answers."""
        self._ready.set(is_ready)

    def _declare(
        self,
        name: str,
        kind: Literal["counter", "gauge", "histogram"],
        meaning: str,
        labels: Mapping[str, str],
    ) -> str:
        full = f"{_PREFIX}_{name}"
        shown = f"{full}_total" if kind == "counter" else full
        self.declarations.append(Declaration(shown, kind, meaning, dict(labels)))
        return full

    def _counter(self, name: str, meaning: str, **labels: str) -> Counter:
        full = self._declare(name, "counter", meaning, labels)
        return Counter(full, meaning, tuple(labels), registry=self.registry)

    def _gauge(self, name: str, meaning: str, **labels: str) -> Gauge:
        full = self._declare(name, "gauge", meaning, labels)
        return Gauge(full, meaning, tuple(labels), registry=self.registry)

    def _histogram(self, name: str, meaning: str, *, buckets: Iterable[float]) -> Histogram:
        full = self._declare(name, "histogram", meaning, {})
        return Histogram(full, meaning, registry=self.registry, buckets=tuple(buckets))
