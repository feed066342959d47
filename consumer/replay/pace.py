"""Holding back, so that whoever works beside us has room."""

import time
from collections.abc import Callable


class Pace:
    """Says when to go on, so that no more than `rate` a second pass on average.

    What was not used is not saved up: after a rest it begins again, without a burst.
    """

    def __init__(self, rate: float | None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin now; without a rate nothing is held back."""
        self._rate = rate
        self._monotonic = monotonic
        self._free_at = monotonic()

    def spend(self, count: int) -> float:
        """Take note that so many pass now; return for how many seconds to wait before the next."""
        if self._rate is None:
            return 0.0
        now = self._monotonic()
        self._free_at = max(now, self._free_at) + count / self._rate
        return self._free_at - now
