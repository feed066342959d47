"""What a run of the benchmarks is told."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured, and where.

    Attributes:
        kafka: A broker's address.
        postgres: A PostgreSQL server's maintenance database; None: only SQLite is measured.
        litellm: A LiteLLM proxy; None: the stand-in.
        litellm_key: Its master key.
        events: How many events a backlog has.
        rounds: How often everything is run; medians are told.
        settle_s: How long broker and database get to calm down after loading, in seconds.
        full: The sizes that the goals name, however long that takes.
        record: The guard's mark is to be written anew.
    """

    kafka: str
    postgres: str | None
    litellm: str | None
    litellm_key: str
    events: int
    rounds: int
    settle_s: float = 2.0
    full: bool = False
    record: bool = False

    def say(self, line: str) -> None:
        """Tell how it goes, beside the tables."""
        print(line, file=sys.stderr, flush=True)
