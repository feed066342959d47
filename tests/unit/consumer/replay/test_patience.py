import pytest

from consumer.replay.running import patiently
from storage.database import DatabaseUnavailable


class Away:
    """A database that comes back after so many tries."""

    def __init__(self, tries: int) -> None:
        self.tries = tries

    async def __call__(self) -> str:
        self.tries -= 1
        if self.tries >= 0:
            raise DatabaseUnavailable("away")
        return "back"


async def test_a_database_that_comes_back_is_waited_for() -> None:
    assert await patiently(Away(3), jitter=lambda: -1.0) == "back"


async def test_but_not_for_ever() -> None:
    now = iter(range(1000))
    with pytest.raises(DatabaseUnavailable):
        await patiently(Away(1000), patience_s=5, monotonic=lambda: float(next(now)), jitter=lambda: -1.0)
