"""The breaker: a topic full of bad records is stopped before it fills the dead-letter topic.

One value object a topic, driven by what is seen; it knows no Kafka and no clock of its own.
"""

from collections import deque

WINDOW = 200
"""How many of a topic's latest records are looked at."""

TRIAL = 10
"""How many records an open breaker lets through at a time, and how many good ones in a row close it."""


class Breaker:
    """The state of one inbound topic: closed, or open since too many of its last 200 records were bad."""

    def __init__(self, *, bad_limit: int, pause: float) -> None:
        """Start closed.

        Args:
            bad_limit: how many bad records among the last 200 open it.
            pause: seconds between two trials while it is open.
        """
        self._bad_limit = bad_limit
        self._pause = pause
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._bad = 0
        self._good_in_trial = 0
        self._next_trial: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the topic is stopped."""
        return self._next_trial is not None

    def observe(self, *, bad: bool, now: float) -> bool:
        """Take note of one record that is let through; tell whether the topic is stopped behind it."""
        if self.is_open:
            self._good_in_trial = 0 if bad else self._good_in_trial + 1
            if self._good_in_trial >= TRIAL:
                self._close()
            return self.is_open
        if len(self._recent) == WINDOW:
            self._bad -= self._recent[0]
        self._recent.append(bad)
        self._bad += bad
        if self._bad >= self._bad_limit:
            self._good_in_trial = 0
            self._next_trial = now + self._pause
        return self.is_open

    def observe_good(self, count: int) -> None:
        """Take note of `count` good records in a row; for a breaker that is closed."""
        for _ in range(min(count, WINDOW)):
            if not self._bad:
                return  # they leave the window before whatever is bad comes into it, noted or not
            self.observe(bad=False, now=0.0)

    def trial_due(self, now: float) -> bool:
        """Tell whether an open breaker may let its next ten records through."""
        return self._next_trial is not None and now >= self._next_trial

    def trial_over(self, now: float) -> None:
        """Set the next trial where this one did not close the breaker."""
        if self.is_open:
            self._next_trial = now + self._pause

    def _close(self) -> None:
        self._next_trial = None
        self._recent.clear()
        self._bad = 0
