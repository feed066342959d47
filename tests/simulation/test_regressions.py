"""What the simulation once found, each as the smallest story that shows it."""

import contextlib
from pathlib import Path

from aiokafka.errors import CommitFailedError, KafkaConnectionError

from tests.simulation.edges import Straight
from tests.simulation.facts import facts_of
from tests.simulation.kafka import Request
from tests.simulation.loop import SimLoop
from tests.simulation.world import World, simulate


def test_a_broker_that_leaves_between_two_questions_is_waited_for(tmp_path: Path, template: Path) -> None:
    """Seed 111: the topics were there, then the consumer's start was refused, and the process ended."""
    with contextlib.closing(SimLoop()) as loop:
        world = World(loop, tmp_path, template, seed=1)
        world.conductor = Straight(loop, {}, lambda _process: None)
        world.broker.fail(Request.METADATA, error=KafkaConnectionError("Connection refused"))

        async def story(world: World) -> None:
            process = world.start()
            world.publish("org.created", "o1", {"org_id": "acme", "name": "A", "owner_user_id": "olga"})
            await world.rest()
            await world.stop(process)

        simulate(loop, world, story)
        told = [type_ for type_, _round, _data in facts_of(world).outcomes.values()]
        world.close()
    assert told == ["org.provisioned"]


def test_offsets_that_could_not_be_committed_are_committed_though_nothing_more_comes(
    tmp_path: Path, template: Path
) -> None:
    """Seed 1893: the broker was away for the last commit, and the lag stood there until the next event."""
    with contextlib.closing(SimLoop()) as loop:
        world = World(loop, tmp_path, template, seed=1)
        world.conductor = Straight(loop, {}, lambda _process: None)
        world.broker.fail(Request.COMMIT, error=CommitFailedError())

        async def story(world: World) -> None:
            process = world.start()
            world.publish("org.created", "o1", {"org_id": "acme", "name": "A", "owner_user_id": "olga"})
            await world.rest()
            await world.stop(process)

        simulate(loop, world, story)
        world.close()
