"""The garbage collector, kept out of the way of whoever handles events in great numbers, or starts."""

import contextlib
import gc
from collections.abc import Iterator

COLLECT_AFTER = 50_000
"""Allocations between two looks of the garbage collector: a batch makes no cycles to speak of."""


@contextlib.contextmanager
def garbage_after(*, for_good: bool) -> Iterator[None]:
    """Keep the collector still while modules load: it would walk all of them, many times, and find nothing.

    Args:
        for_good: The process is ours alone, and what it has loaded stays out of the collector's sight.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if for_good:
            gc.freeze()
        if enabled:
            gc.enable()


@contextlib.contextmanager
def garbage_rarely() -> Iterator[None]:
    """Keep the collector out of the hot path: what stands now stays, what a batch makes is freed by count."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
