"""An event loop in which time passes only when nothing else can happen, and processes can be stopped dead.

All processes of a simulated world share it. What belongs to which process is told by a context variable, so
that a process can be killed (none of its code runs again) or frozen (its code runs later, and late).
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

PROCESS: "ContextVar[SimProcess | None]" = ContextVar("process", default=None)


class Killed(BaseException):
    """The process has been killed; raised where it can't simply be left waiting for ever."""


class SimProcess:
    """One process of the simulated world: alive, frozen, or dead for good."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen = False
        self.held: list[asyncio.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []  # kept, so that nothing of a dead one is ever finalized
        self.on_death: list[Callable[[], None]] = []

    def kill(self) -> None:
        """Stop it as SIGKILL does: what it holds open is closed, and no handler of its own runs."""
        if not self.dead:
            self.dead = True
            self.held.clear()
            for clean_up in self.on_death:
                clean_up()

    def __repr__(self) -> str:
        return self.name


TICK_S = 1e-6


def nobody() -> Context:
    """The context of what belongs to no process: the world itself."""
    context = copy_context()
    context.run(PROCESS.set, None)
    return context


_numbers = itertools.count()


class _SimFuture(asyncio.Future[Any]):
    """A future that sets iterate over in the order of creation rather than of memory addresses."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._number = next(_numbers)

    def __hash__(self) -> int:
        return self._number


class _SimTask(asyncio.Task[Any]):
    def __init__(self, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = next(_numbers)
        super().__init__(coro, **options)
        self._log_destroy_pending = False
        process = PROCESS.get() if options.get("context") is None else options["context"].get(PROCESS)
        if process is not None:
            process.tasks.append(self)

    def __hash__(self) -> int:
        return self._number


class SimLoop(asyncio.BaseEventLoop):
    """Runs what is ready in order; then whatever `idle` lets go on; only then does time pass."""

    # The base class's own, unknown to its type stubs.
    _ready: deque[Any]
    _scheduled: list[Any]

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.idle: Callable[[], bool] = lambda: False
        """Asked when nothing is ready: lets something go on and says so, or has time pass."""
        self.set_task_factory(lambda _loop, coro, **options: _SimTask(coro, loop=self, **options))
        self.set_exception_handler(lambda _loop, context: self.complaints.append(context))
        self.complaints: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[Any]:
        return _SimFuture(loop=self)

    def thaw(self, process: SimProcess) -> None:
        """Let a frozen process go on with all it missed."""
        process.frozen = False
        held, process.held = process.held, []
        self._ready.extend(held)

    def _run_once(self) -> None:
        self._take_due()
        if not self._ready and not self.idle():
            self._pass_time()
        if not self._ready:
            return
        handle = self._ready.popleft()
        if handle._cancelled:
            return
        process = handle._context.get(PROCESS)
        if process is not None and process.dead:
            return
        if process is not None and process.frozen:
            process.held.append(handle)
            return
        handle._run()

    def _take_due(self) -> None:
        while self._scheduled and (self._scheduled[0]._cancelled or self._scheduled[0]._when <= self.now):
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)

    def pass_time(self) -> bool:
        """Move on to the next timer of a living process; say whether there is one."""
        while self._scheduled:
            first = self._scheduled[0]
            process = first._context.get(PROCESS)
            if first._cancelled or (process is not None and process.dead):
                heapq.heappop(self._scheduled)._scheduled = False
                continue
            # A little later, as always: a timer that is set for what is left of a wait, rounded to nothing,
            # would otherwise find that no time has passed.
            self.now = max(self.now, first._when) + TICK_S
            return True
        return False

    def _pass_time(self) -> None:
        if not self.pass_time():
            raise AssertionError("the simulated world stands still: nothing is ready and no timer is set")

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is nobody asleep."""
