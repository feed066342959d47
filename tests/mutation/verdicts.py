"""Mutants, and what can become of them."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from tests.mutation.survivors import Change


class Verdict(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    LOOPED = "looped"  # ran out of its time twice, the second time alone and with more of it
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


Choice = Callable[[Sequence[Mutant]], Sequence[Mutant]]
"""Which of all mutants are to be tried; those that have their verdict are not."""


def sampled(count: int, seed: int) -> Choice:
    """Choose so many at random, the same ones for the same seed."""

    def choose(mutants: Sequence[Mutant]) -> Sequence[Mutant]:
        return random.Random(seed).sample(mutants, min(count, len(mutants)))

    return choose


def but(killed: Mapping[Change, int]) -> Choice:
    """Choose all, and take for killed what was killed before."""

    def choose(mutants: Sequence[Mutant]) -> Sequence[Mutant]:
        left = Counter(killed)
        chosen = []
        for one in mutants:
            known = left[one.change] > 0
            left[one.change] -= known
            chosen.append(replace(one, verdict=Verdict.KILLED) if known else one)
        return chosen

    return choose
