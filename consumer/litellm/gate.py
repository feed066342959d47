"""A gate before all tries against LiteLLM, so that an outage spends no event's attempts.

It stands open until someone reports a failure; then one probe decides whether LiteLLM is up at all. While it
is not, the gate is closed and probes with growing, jittered pauses until one succeeds.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from consumer.litellm.errors import LiteLLMError
from consumer.pauses import growing_pauses

log = structlog.get_logger(__name__)

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
"""Both before their jitter, in seconds."""


class HealthGate:
    """Whether LiteLLM is worth a try, for all workers of this instance.

    `run` must be running for the gate to move. Everything that is not a function of its arguments is passed
    in.

    Args:
        probe: Returns where LiteLLM, our key and its database are up; raises `LiteLLMError` otherwise.
        random: A number from 0 up to 1.
        sleep: Waits so many seconds.
        clock: Monotonic seconds.
        on_change: Called with the state when `run` begins, and whenever the gate opens or closes.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        *,
        random: Callable[[], float],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        self._probe = probe
        self._random = random
        self._clock = clock
        self._sleep = sleep
        self._on_change = on_change
        self._open = asyncio.Event()
        self._open.set()
        self._reported = asyncio.Event()
        self._closed_at: float | None = None
        self._last_error: LiteLLMError | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls may be tried."""
        return self._open.is_set()

    @property
    def last_error(self) -> LiteLLMError | None:
        """What the last failed probe met while the gate is closed; None while it is open."""
        return self._last_error

    @property
    def closed_for_s(self) -> float:
        """Seconds since the gate closed; 0 while it is open."""
        return 0.0 if self._closed_at is None else self._clock() - self._closed_at

    def report_failure(self) -> None:
        """Have LiteLLM probed.

        A call failed in a way that may mean that it is down. Cheap, and may be repeated.
        """
        self._reported.set()

    async def wait_open(self) -> None:
        """Return as soon as the gate is open."""
        await self._open.wait()

    async def run(self) -> None:
        """Move the gate until cancelled."""
        self._changed()
        while True:
            await self._reported.wait()
            pauses = growing_pauses(self._random, first=FIRST_PAUSE_S, most=LONGEST_PAUSE_S)
            while not await self._is_up():
                self._close()
                await self._sleep(next(pauses))
            # Failures reported meanwhile were of calls begun before this probe.
            self._reported.clear()
            self._reopen()

    async def _is_up(self) -> bool:
        try:
            await self._probe()
        except LiteLLMError as error:
            self._last_error = error
            return False
        return True

    def _close(self) -> None:
        if self._open.is_set():
            log.warning("litellm_unavailable", error=str(self._last_error), action="waiting for it")
            self._open.clear()
            self._closed_at = self._clock()
            self._changed()

    def _reopen(self) -> None:
        self._last_error = None
        if not self._open.is_set():
            log.info("litellm_back", after_s=round(self.closed_for_s, 1))
            self._closed_at = None
            self._open.set()
            self._changed()

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change(self.is_open)
