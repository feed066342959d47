"""The garbage collector, kept out of the way of whoever handles events in great numbers."""

import contextlib
import gc
from collections.abc import Iterator

COLLECT_AFTER = 50_000
"""Allocations between two looks of the garbage collector: a batch makes no cycles to speak of."""


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
