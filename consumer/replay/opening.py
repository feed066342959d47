"""Beginning a replay, or going on with one that was interrupted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.replay.reading import Span, find_spans, partitions_of, partitions_to_read
from consumer.replay.running import Run
from consumer.replay.selection import Selection
from consumer.replay.tally import Tally
from producers.kafka_client import KafkaConnection
from storage import replays
from storage.database import Clock, Database, database_now
from storage.replays import PartitionPlace, ReplayState

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """A replay in hand.

    Attributes:
        run: How the database knows it.
        spans: What is left to read.
        passed: Offsets passed in earlier runs.
        total: Offsets to pass in all runs together.
        begun_at: When the first run began; None: it is this one.
    """

    run: Run
    spans: Mapping[TopicPartition, Span]
    passed: int
    total: int
    begun_at: datetime | None


async def spans_of(
    consumer: AIOKafkaConsumer, connection: KafkaConnection, selection: Selection
) -> dict[TopicPartition, Span]:
    """Say what a selection reads, as the topics stand now.

    Raises:
        KafkaUnreachable: No broker answers, or a topic is not there.
        WrongSelection: An offset names a partition that is not there.
    """
    there = await partitions_of(connection, selection.topics)
    return await find_spans(consumer, selection, partitions_to_read(selection, there))


async def open_replay(
    database: Database,
    consumer: AIOKafkaConsumer,
    connection: KafkaConnection,
    selection: Selection,
    *,
    restart: bool,
    clock: Clock = database_now,
    new_token: Callable[[], UUID] = uuid4,
) -> Opened:
    """Take a replay in hand: from where it was interrupted, unless `restart`; any other run of it ends.

    Raises:
        KafkaUnreachable: No broker answers, or a topic is not there.
        WrongSelection: An offset names a partition that is not there.
        DatabaseUnavailable: The database does not answer.
    """
    spans = await spans_of(consumer, connection, selection)
    replay_id, token = selection.digest(connection.bootstrap_servers), new_token()

    async def take(tx: AsyncConnection) -> ReplayState | None:
        state = None if restart else await replays.take_over(tx, replay_id, token)
        if state is not None and _still_there(state, spans):
            return state
        if state is not None:
            log.warning("topics_made_anew", action="beginning from the start")
        places = [
            PartitionPlace(one.topic, one.partition, span.start, span.start, span.end)
            for one, span in spans.items()
        ]
        await replays.begin(tx, replay_id, token, places, tally=Tally().to_json(), now=await clock(tx))
        return None

    state = await database.run(take)
    if state is None:
        total = sum(map(len, spans.values()))
        return Opened(Run(replay_id=replay_id, token=token, tally=Tally()), spans, 0, total, None)
    left = {
        TopicPartition(place.topic, place.partition): Span(place.next_offset, place.end_offset)
        for place in state.places
    }
    return Opened(
        Run(replay_id=replay_id, token=token, tally=Tally.from_json(state.tally)),
        left,
        sum(place.next_offset - place.first_offset for place in state.places),
        sum(place.end_offset - place.first_offset for place in state.places),
        state.begun_at,
    )


def _still_there(state: ReplayState, spans: Mapping[TopicPartition, Span]) -> bool:
    """Whether the topics are those that the replay was begun with: logs only grow at their end."""
    return all(
        (span := spans.get(TopicPartition(place.topic, place.partition))) is not None
        and span.end >= place.end_offset
        for place in state.places
    )
