"""From a plan that goes wrong to the smallest one found that still does: a report one can read."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.simulation.schedules import Plan, Verdict


def shrink(plan: Plan, run: Callable[[Plan], Verdict], *, tries: int = 300) -> Verdict:
    """Leave out what the violation does not need: instances, faults, events, one after another.

    Returns:
        The verdict on the smallest plan found, which is in violation as the one given.
    """
    smallest = run(plan)
    assert smallest.violations, "only what goes wrong can be made smaller"
    found = True
    while found:
        found = False
        for smaller in _smaller(smallest.plan):
            if tries <= 0:
                return smallest
            tries -= 1
            verdict = run(smaller)
            if verdict.violations:
                smallest, found = verdict, True
                break
    return smallest


def _smaller(plan: Plan) -> Iterator[Plan]:
    if plan.instances > 1:
        yield replace(plan, instances=plan.instances - 1)
    # Halves first: most of a plan has nothing to do with what went wrong.
    for name in ("faults", "events"):
        items = getattr(plan, name)
        size = len(items) // 2
        while size >= 1:
            for start in range(0, len(items), size):
                yield replace(plan, **{name: items[:start] + items[start + size :]})
            size //= 2
