"""What each published event has come to, read back from Kafka."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from producers.kafka_client import KafkaConnection
from producers.samples import Sample
from schemas.json_codec import parse_json

DEAD_LETTER: Final = "dead letter"


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """A sample as it went in; `expected` is what it is to come to: nothing for a repeat."""

    id: str
    title: str
    type: str
    expected: str | None

    @classmethod
    def of(cls, sample: Sample) -> "PublishedEvent":
        """Take what is to be shown of a sample."""
        envelope: Any = parse_json(sample.value)
        expected = DEAD_LETTER if sample.dead_letter else sample.outcome
        return cls(envelope["id"], sample.title, sample.type, expected)


@dataclass(frozen=True, slots=True)
class SeenOutcome:
    """An outcome or dead letter as it stands on Kafka; `cause` is the id of the event it follows from."""

    cause: str
    type: str
    says: str


class Expectations:
    """Compares what came with what was to come."""

    def __init__(self, events: Sequence[PublishedEvent]) -> None:
        """Expect what the events say."""
        self._open = {event.id: event for event in events if event.expected is not None}
        self._wrong: list[str] = []

    def came(self, outcome: SeenOutcome) -> None:
        """Take note of an outcome; a repeat changes nothing."""
        event = self._open.pop(outcome.cause, None)
        if event is not None and event.expected != outcome.type:
            self._wrong.append(f"{event.id}: {outcome.type} instead of {event.expected} ({outcome.says})")

    @property
    def complete(self) -> bool:
        """Whether every event has come to something, expected or not."""
        return not self._open

    @property
    def unmet(self) -> list[str]:
        """What did not come or came otherwise, a line each; nothing: all is as expected."""
        return [*self._wrong, *(f"{event.id}: no {event.expected}" for event in self._open.values())]


async def read_outcomes(
    connection: KafkaConnection, topics: Sequence[str], *, partitions: int
) -> AsyncGenerator[SeenOutcome]:
    """Read outcomes and dead letters from the beginning, for as long as somebody asks for the next."""
    consumer = AIOKafkaConsumer(
        **connection.client_options(), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for topic in topics for number in range(partitions)])
        async for record in consumer:
            yield _seen(record)
    finally:
        await consumer.stop()


def _seen(record: ConsumerRecord) -> SeenOutcome:
    headers = {name: value.decode() for name, value in record.headers}
    if "qm-reason" in headers:
        says = f"{headers['qm-reason']}: {headers['qm-error']}"
        return SeenOutcome(headers.get("qm-event-id", ""), DEAD_LETTER, says)
    envelope: Any = parse_json(record.value)
    return SeenOutcome(
        envelope["causationid"], envelope["type"], _in_words(envelope["type"], envelope["data"])
    )


def _in_words(outcome: str, data: Mapping[str, Any]) -> str:
    """Say in a few words what an outcome tells; never a key."""
    match outcome:
        case "org.provisioned":
            return f"team and owner's key are there, {data['credits_balance']} credits"
        case "user.provisioned":
            return f"key {data['key']['hash'][:8]}... for {data['user_id']}"
        case "credits.deducted":
            return f"{data['credits']} taken, {data['balance_after']} left"
        case "credits.deduction_skipped":
            return str(data["reason"])
        case "credits.deduction_failed":
            return f"{data['reason']}: {data['required']} needed, {data['available']} there"
        case _:
            return str(data.get("error_code", ""))
