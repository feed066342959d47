"""Mutants, and what can become of them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.mutation.survivors import Change


class Verdict(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    LOOPED = "looped"  # ran out of its time twice, the second time alone and with four times as much
    SURVIVED = "survived"
    UNREACHED = "unreached"  # by any witness
    UNTRIED = "untried"  # the run was over before

    @property
    def noticed(self) -> bool:
        """Whether the tests notice such a mutant."""
        return self in {Verdict.KILLED, Verdict.LOOPED}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mutant and what became of it."""

    name: str
    target: str
    change: Change
    verdict: Verdict = Verdict.UNTRIED


class BrokenTestsError(Exception):
    """The tests fail, or do not reach what is mutated, before anything is mutated."""


def sampled(count: int, seed: int) -> Callable[[Sequence[Mutant]], Sequence[Mutant]]:
    """Choose so many at random, the same ones for the same seed."""

    def choose(mutants: Sequence[Mutant]) -> Sequence[Mutant]:
        return random.Random(seed).sample(mutants, min(count, len(mutants)))

    return choose
