"""How often to look for work that nobody tells of: often while there is some, seldom where there is none."""

from typing import Final

PATIENCE: Final = 5
"""After how many looks that found nothing the pauses grow."""
GROWTH: Final = 8
"""How many times its first length a pause becomes at most."""


class Idling:
    """The pauses of a worker that is woken by its own process, and has to look for what others bring.

    Args:
        first_s: The pause while there is something to do now and then, in seconds.
    """

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self._looks = 0

    def worked(self) -> None:
        """Say that there was something to do, or may be: the pauses are short again."""
        self._looks = 0

    def pause_s(self) -> float:
        """Give the pause after a look that found nothing, in seconds."""
        self._looks += 1
        doubled = min(max(self._looks - PATIENCE, 0), GROWTH.bit_length() - 1)
        return self._first_s * 2.0**doubled
