"""What a comparison gives back."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """One program of a comparison: the first of a list is the baseline."""

    name: str
    events: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Events a second."""
        return self.events / self.seconds
