"""Who ends, hangs and replaces instances while they work.

A seeded sequence of moves. Most kill one instance: soon after it started, at any moment, or just when events
were taken; some kill all at once, and the rest stop one in good order, let one hang until its place is given
away and then go on, or have one more join and leave.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from tests.chaos.instances import Instance
from tests.chaos.rebalances import generations
from tests.chaos.world import SESSION_TIMEOUT_S, World

_MOVES: Final = {
    "kill at any moment": 26,
    "kill while starting": 12,
    "kill when events were taken": 30,
    "kill all": 6,
    "kill after peace": 3,
    "stop": 8,
    "hang": 8,
    "come and go": 10,
}
_NOTICED_S: Final = SESSION_TIMEOUT_S + 4
_COUNT_EVERY_S: Final = 20.0
_USUAL_START_S: Final = 8.0
_WARM_UP_S: Final = 90.0
_SLOWEST_PACE: Final = 1.5


class Nemesis:
    """Moves against a world's fleet until enough was done.

    Args:
        world: What is worked against.
        chance: Decides everything that is left to chance.
        size: How many instances there usually are.
        kills: How many to kill at least.
        rebalances: How often the group must have been rebalanced at least.
    """

    def __init__(self, world: World, chance: Random, *, size: int, kills: int, rebalances: int) -> None:
        self._world = world
        self._fleet = world.fleet
        self._chance = chance
        self._size = size
        self._kills = kills
        self._rebalances = rebalances
        self._counted_at = 0.0
        self._pace = 1.0
        self.done: Counter[str] = Counter()
        self.rebalanced = 0
        self.hit_work = 0
        """Kills that came while something was in hand: waiting, not yet published, or not yet read."""
        self._moves: dict[str, Callable[[], Awaitable[None]]] = {
            "kill at any moment": self._kill_at_any_moment,
            "kill while starting": self._kill_while_starting,
            "kill when events were taken": self._kill_when_taken,
            "kill all": self._kill_all,
            "kill after peace": self._kill_after_peace,
            "stop": self._stop,
            "hang": self._hang,
            "come and go": self._come_and_go,
        }

    @property
    def kills(self) -> int:
        return self.done["kills"]

    @property
    def enough(self) -> bool:
        return self.kills >= self._kills and self.rebalanced >= self._rebalances

    async def run(self) -> None:
        """Do it until it is enough; a time limit is the caller's."""
        await self._warm_up()
        while not self.enough:
            names = [name for name in _MOVES if self._size > 1 or name != "kill all"]
            move = self._chance.choices(names, [_MOVES[name] for name in names])[0]
            await self._moves[move]()
            await self._fleet.replace_the_fallen()
            await self.count()

    async def _warm_up(self) -> None:
        """See how long this machine takes from a start to the first event: pauses grow with it."""
        started = time.monotonic()
        for _ in range(self._size):
            await self._fleet.start()
        await self._taken(within=_WARM_UP_S)
        taken = time.monotonic() - started
        self._pace = min(max(1.0, taken / _USUAL_START_S), _SLOWEST_PACE)

    async def count(self, *, now: bool = False) -> None:
        """Count the rebalances, now and then: it takes a look at the brokers' whole record."""
        if now or time.monotonic() - self._counted_at > _COUNT_EVERY_S or self.kills >= self._kills:
            self.rebalanced = await generations(self._world.kafka, self._world.group)
            self._counted_at = time.monotonic()

    # -- the moves -------------------------------------------------------------------------------------------

    async def _kill_at_any_moment(self) -> None:
        # One alone comes back to a group that still waits for its former self.
        await self._for_a_while(0.3, 3.0 if self._size > 1 else _NOTICED_S)
        await self._kill(self._anyone())
        # Now and then the others have to do without it.
        if self._chance.random() < 0.2:
            await self._for_a_while(1.0, _NOTICED_S)
        await self._fleet.start()

    async def _kill_while_starting(self) -> None:
        await self._kill(self._anyone())
        fresh = await self._fleet.start()
        await self._for_a_while(0.0, 2.5)
        await self._kill(fresh)
        await self._fleet.start()

    async def _kill_when_taken(self) -> None:
        """Wait for the group to be at work again, and strike there."""
        await self._taken(within=(_NOTICED_S + 5) * self._pace)
        await self._for_a_while(0.0, 0.3)
        await self._kill(self._anyone())
        await self._fleet.start()

    async def _kill_all(self) -> None:
        await self._for_a_while(0.3, 3.0)
        for instance in list(self._fleet.running):
            await self._kill(instance)
        for _ in range(self._size):
            await self._fleet.start()

    async def _kill_after_peace(self) -> None:
        """Let what the dead held in hand be taken up again (their leases have to end first), then strike."""
        await self._for_a_while(20.0, 45.0)
        await self._kill(self._anyone())
        await self._fleet.start()

    async def _stop(self) -> None:
        await self._for_a_while(0.3, 3.0)
        instance = self._anyone()
        self._fleet.gone(instance)
        code = await instance.stop()
        if code != 0:
            self._fleet.unexpected.append(f"instance {instance.number} ended with {code} when told to stop")
        self.done["stops"] += 1
        await self._fleet.start()

    async def _hang(self) -> None:
        """Let one hang past the group's patience while the others go on, then wake it amid their work."""
        instance = self._anyone()
        instance.hold()
        await self._for_a_while(_NOTICED_S, _NOTICED_S + 6)
        instance.go_on()
        self.done["hangs"] += 1
        await self._for_a_while(0.0, 4.0)

    async def _come_and_go(self) -> None:
        if self._size == 1:  # a SQLite file bears one instance: it goes and comes
            await self._stop()
            return
        guest = await self._fleet.start()
        await self._for_a_while(3.0, 12.0)
        self.done["joins"] += 1
        if self._chance.random() < 0.5:
            await self._kill(guest)
        else:
            self._fleet.gone(guest)
            await guest.stop()
            self.done["stops"] += 1

    async def _kill(self, instance: Instance) -> None:
        in_hand = self._world.glance.in_hand
        self._fleet.gone(instance)
        if await instance.kill():
            self.done["kills"] += 1
            self.hit_work += in_hand

    async def _taken(self, *, within: float) -> None:
        """Return when more events are known than now, or when that takes too long."""
        before = self._world.glance.taken
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while True:
                    await asyncio.sleep(0.02)  # between two looks at what another task sees
                    if self._world.glance.taken != before:
                        return

    def _anyone(self) -> Instance:
        return self._chance.choice(self._fleet.running)

    async def _for_a_while(self, least: float, most: float) -> None:
        # How long is chance; what the instances do meanwhile is the point, nothing is assumed of it.
        await asyncio.sleep(self._chance.uniform(least, most) * self._pace)
