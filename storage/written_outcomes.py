"""Outcomes that this process has committed moments ago: who publishes them need not read them back."""

from collections.abc import Mapping
from typing import Final

MAX_BYTES: Final = 16 * 1024 * 1024
"""Some 15,000 outcomes, as many as a few batches decide."""


class WrittenOutcomes:
    """Values of outcomes by their number, each given out once; the oldest are forgotten beyond `max_bytes`.

    Guarantee: none, and none is needed. A number stands for one value for ever once it is committed, so what
    is here is what a look into the database would show, and what is not here is looked up there. Which
    outcomes are to be published, and in which order, only the outbox says.
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
        self._values |= values
        self._bytes += sum(map(len, values.values()))
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._values.pop(next(iter(self._values))))

    def take(self, number: int) -> bytes | None:
        """Give an outcome's value and forget it; None where it is not here."""
        value = self._values.pop(number, None)
        if value is not None:
            self._bytes -= len(value)
        return value
