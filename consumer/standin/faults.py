"""Failures on demand: what a network and a struggling proxy do to a call."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Fault:
    """What happens to the next calls of an endpoint.

    Attributes:
        endpoint: The path, such as `/team/new`; `*`: any.
        times: How many calls it hits.
        skip: How many calls it lets pass first.
        delay_s: Seconds before the answer.
        status: The status answered instead, with `body`; None: the call's own answer.
        body: Answered with `status`; by default an error of LiteLLM's shape.
        content_type: Of `body`.
        drop: Close the connection instead of answering.
        applied: Whether the call is carried out all the same, before the delay.
    """

    endpoint: str
    times: int = 1
    skip: int = 0
    delay_s: float = 0.0
    status: int | None = None
    body: bytes | None = None
    content_type: str = "application/json"
    drop: bool = False
    applied: bool = False

    @property
    def replaces_answer(self) -> bool:
        """Whether the caller sees something other than the call's own answer."""
        return self.drop or self.status is not None


@dataclass(slots=True)
class FaultPlan:
    """The faults still to come, in the order given; one call meets at most one."""

    _faults: list[Fault] = field(default_factory=list)

    def add(self, faults: Iterable[Fault]) -> None:
        """Plan further faults."""
        self._faults.extend(faults)

    def clear(self) -> None:
        """Forget what has not happened yet."""
        self._faults.clear()

    def next_for(self, endpoint: str) -> Fault | None:
        """Take the fault that this call meets, if any."""
        for fault in self._faults:
            if fault.endpoint not in {endpoint, "*"} or fault.times <= 0:
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None
