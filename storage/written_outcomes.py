"""Outcomes that this process has committed moments ago: who publishes them need not read them back."""

from collections.abc import Mapping
from typing import Final

MAX_BYTES: Final = 16 * 1024 * 1024
"""Some 15,000 outcomes, as many as a few batches decide."""


class WrittenOutcomes:
    """Values of outcomes by their number, each given out once.

    What is here is what a look into the database would show: a committed number has one value for good.
    That ends where the server is replaced by one that lacks the last commits, such as a standby: `forget` it
    all then. What is not here is looked up. Which outcomes are to be published, and in which order, only the
    outbox says.

    Args:
        max_bytes: Beyond that the oldest are forgotten.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._values: dict[int, bytes] = {}

    def __len__(self) -> int:
        """How many are here."""
        return len(self._values)

    def add(self, values: Mapping[int, bytes]) -> None:
        """Remember these, in their order; only after the transaction that wrote them has committed."""
        for number in self._values.keys() & values.keys():
            self.take(number)  # given again after a fail-over, it is another outcome
        self._values |= values
        self._bytes += sum(map(len, values.values()))
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._values.pop(next(iter(self._values))))

    def forget(self) -> None:
        """Forget all of it."""
        self._values.clear()
        self._bytes = 0

    def take(self, number: int) -> bytes | None:
        """Give an outcome's value and forget it; None where it is not here."""
        value = self._values.pop(number, None)
        if value is not None:
            self._bytes -= len(value)
        return value
