"""The short form of `python -m tests.replays`: a replay killed at random points loses and doubles nothing."""

from random import Random

import pytest

from tests.parts.kafka import TopicFactory
from tests.replays.history import PARTITIONS, books, differences, prepare, publish
from tests.replays.killing import environment, replay, replay_killed

EVENTS = 2_000


@pytest.mark.timeout(240)
async def test_a_replay_killed_anywhere_ends_with_the_same_books(
    kafka_address: str, database_url: str, another_database_url: str, topic_factory: TopicFactory
) -> None:
    (topic,) = await topic_factory.create("history", partitions=PARTITIONS)
    await publish(kafka_address, topic, EVENTS, seed=7)
    env = environment(kafka_address, topic, database_url)
    await prepare(database_url, 1_000_000)
    killed = await replay_killed(
        env, topic, database_url, events=EVENTS, kills=4, random=Random(7), more=("--rate", "2500")
    )
    assert killed.kills >= 3
    stood = await books(database_url)
    # Once more: all of it is known, and nothing is done.
    again = await replay(env, topic)
    assert (again["new"], again["resumed"]) == (0, False)
    assert differences(stood, await books(database_url)) == []

    await prepare(another_database_url, 1_000_000)
    whole = await replay(environment(kafka_address, topic, another_database_url), topic, "--rate", "0")
    assert differences(stood, await books(another_database_url)) == []
    assert whole["new"] == killed.said["new"]
    assert killed.said["resumed"]
