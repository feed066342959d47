"""What the simulation once found, each as the smallest story that shows it."""

import contextlib
from pathlib import Path

from aiokafka.errors import CommitFailedError, KafkaConnectionError, KafkaError

from tests.simulation.edges import Straight
from tests.simulation.facts import facts_of
from tests.simulation.kafka import Request
from tests.simulation.loop import SimLoop
from tests.simulation.world import World, simulate


def told_although(request: Request, error: KafkaError, folder: Path, template: Path) -> list[str]:
    """What is told of one organization where the broker refuses a request once; the world comes to rest."""
    with contextlib.closing(SimLoop()) as loop:
        world = World(loop, folder, template, seed=1)
        world.conductor = Straight(loop, {}, lambda _process: None)
        world.broker.fail(request, error=error)

        async def story(world: World) -> None:
            process = world.start()
            world.publish("org.created", "o1", {"org_id": "acme", "name": "A", "owner_user_id": "olga"})
            await world.rest()
            await world.stop(process)

        simulate(loop, world, story)
        told = [type_ for type_, _round, _data in facts_of(world).outcomes.values()]
        world.close()
    return told


def test_a_broker_that_leaves_between_two_questions_is_waited_for(tmp_path: Path, template: Path) -> None:
    """Seed 111: the topics were there, then the consumer's start was refused, and the process ended."""
    error = KafkaConnectionError("Connection refused")
    assert told_although(Request.METADATA, error, tmp_path, template) == ["org.provisioned"]


def test_offsets_that_could_not_be_committed_are_committed_though_nothing_more_comes(
    tmp_path: Path, template: Path
) -> None:
    """Seed 1893: the broker was away for the last commit, and the lag stood there until the next event."""
    told = told_although(Request.COMMIT, CommitFailedError(), tmp_path, template)
    assert told == ["org.provisioned"]
