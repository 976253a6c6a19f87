"""A log line for what may happen thousands of times: said at once at first, then counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVarTuple

What = TypeVarTuple("What")


class Seldom(Generic[*What]):
    """Calls `say(count, *what)` for the first `burst` calls in a span of `seconds`, each with a count of 1;
    then once at the end of each span, with the number of calls in it and the last one's arguments."""

    __slots__ = ("_burst", "_held", "_last", "_loop", "_said", "_say", "_seconds", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        say: Callable[[int, *What], None],
        *,
        burst: int,
        seconds: float,
    ) -> None:
        self._loop = loop
        self._say = say
        self._burst = burst
        self._seconds = seconds
        self._said = 0
        self._held = 0
        self._last: tuple[*What] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def holding(self) -> bool:
        """True while calls are only counted."""
        return self._said >= self._burst

    def __call__(self, *what: *What) -> None:
        """It has happened."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._span_over)
        if self._said < self._burst:
            self._said += 1
            self._say(1, *what)
        else:
            self._held += 1
            self._last = what

    def close(self) -> None:
        """Say what is held back, and count no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._said = 0
        self._say_held()

    def _span_over(self) -> None:
        self._timer = None
        if self._held:
            # It goes on: the next span begins without a burst.
            self._timer = self._loop.call_later(self._seconds, self._span_over)
            self._say_held()
        else:
            self._said = 0

    def _say_held(self) -> None:
        held, self._held = self._held, 0
        if held and self._last is not None:
            self._say(held, *self._last)
