"""An event loop whose turns stay short, however many sockets are ready and however much each of them brings.

A turn is what happens between two looks at the sockets. Timers that are due run at its end, and so do
KEEPALIVEs: with timers of 1 s and 3 s (RFC 4271 section 10 has 30 s and 90 s) a long turn costs sessions.
asyncio looks at all ready sockets in one turn; a thousand peers that send or read a whole table at once
make that seconds. Here a turn gets as many ready sockets as it can serve in a fraction of a second. The
others are first in the next: epoll(7) puts what it has reported to the end of its list of ready
descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from collections.abc import Callable, Mapping
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey
from typing import Any, Final

from routed.histogram import Histogram

#: A turn that took longer gets fewer sockets the next time, seconds.
LONG_TURN: Final = 0.1
#: One that took less may get more.
SHORT_TURN: Final = 0.025
LEAST_EVENTS: Final = 4
#: Beyond this a larger number saves nothing: a turn costs as much as one event.
MOST_EVENTS: Final = 64
#: A turn that took so long is that of a process that hangs, seconds: with the default hold timer KEEPALIVEs
#: are due by then.
STUCK_TURN: Final = 30.0

_READ: Final = select.EPOLLIN if hasattr(select, "epoll") else 0
_WRITE: Final = select.EPOLLOUT if hasattr(select, "epoll") else 0


class Turns:
    """How long the loop's turns were."""

    def __init__(self) -> None:
        self.took = Histogram()
        """All since the start, seconds."""
        self.stuck_at = float("-inf")
        """When the last one that took `STUCK_TURN` or longer was over, by the clock that only goes on."""
        self.stuck_for = 0.0
        """How long that one took."""

    def record(self, took: float, now: float) -> None:
        """One turn is over."""
        self.took.observe(took)
        if took >= STUCK_TURN:
            self.stuck_at, self.stuck_for = now, took


class FairSelector(BaseSelector):
    """epoll(7), with a number of events at a time that follows from how long the last ones took."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds, never backwards."""
        self._clock = clock
        self._epoll = select.epoll()
        self._keys: dict[int, SelectorKey] = {}
        self._returned_at: float | None = None
        self.turns = Turns()
        self.limit = MOST_EVENTS
        """How many events `select` returns at most."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """See `BaseSelector.register`."""
        fd = _fileno(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} (descriptor {fd}) is registered already")
        key = SelectorKey(fileobj, fd, events, data)
        self._epoll.register(fd, _mask(events))
        self._keys[fd] = key
        return key

    def unregister(self, fileobj: Any) -> SelectorKey:
        """See `BaseSelector.unregister`."""
        key = self._keys.pop(self._find(fileobj))
        # A descriptor that was closed before left epoll by itself.
        with contextlib.suppress(OSError):
            self._epoll.unregister(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        """See `BaseSelector.modify`."""
        fd = self._find(fileobj)
        old = self._keys[fd]
        if events != old.events:
            self._epoll.modify(fd, _mask(events))
        key = self._keys[fd] = SelectorKey(old.fileobj, fd, events, data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """See `BaseSelector.select`; at most `limit` of those that are ready. Others are not forgotten."""
        if self._returned_at is not None:
            now = self._clock()
            self.turns.record(now - self._returned_at, now)
            self._adjust(now - self._returned_at)
        wait = -1.0 if timeout is None else max(0.0, timeout)
        try:
            found = self._epoll.poll(wait, self.limit)
        except InterruptedError:
            found = []
        keys = self._keys
        ready = []
        for fd, mask in found:
            key = keys.get(fd)
            if key is not None:
                # EPOLLERR and EPOLLHUP are neither: whoever waits for anything is to find out.
                events = (mask & ~_READ and EVENT_WRITE) | (mask & ~_WRITE and EVENT_READ)
                ready.append((key, events & key.events))
        self._returned_at = self._clock()
        return ready

    def close(self) -> None:
        """See `BaseSelector.close`."""
        self._epoll.close()
        self._keys.clear()

    def get_map(self) -> Mapping[Any, SelectorKey]:
        """See `BaseSelector.get_map`: by descriptor."""
        return self._keys

    def get_key(self, fileobj: Any) -> SelectorKey:
        """See `BaseSelector.get_key`."""
        return self._keys[self._find(fileobj)]

    def _adjust(self, turn: float) -> None:
        """After a turn that took so many seconds."""
        if turn > LONG_TURN:
            self.limit = max(LEAST_EVENTS, self.limit // 2)
        elif turn < SHORT_TURN and self.limit < MOST_EVENTS:
            self.limit = min(MOST_EVENTS, self.limit * 2)

    def _find(self, fileobj: Any) -> int:
        """The registered descriptor of an object that may be closed already. KeyError where there is none."""
        try:
            fd = _fileno(fileobj)
        except ValueError:
            for key in self._keys.values():
                if key.fileobj is fileobj:
                    return key.fd
            raise
        if fd not in self._keys:
            raise KeyError(f"{fileobj!r} (descriptor {fd}) is not registered")
        return fd


def _fileno(fileobj: Any) -> int:
    """The descriptor of a number or an object with `fileno`. ValueError where there is none."""
    fd = fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
    if fd < 0:
        raise ValueError(f"no descriptor: {fd}")
    return fd


def _mask(events: int) -> int:
    return (events & EVENT_READ and _READ) | (events & EVENT_WRITE and _WRITE)


class EventLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with a `FairSelector`."""

    def __init__(self) -> None:
        selector = FairSelector()
        super().__init__(selector)
        self.turns = selector.turns


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns | None:
    """What is known of a loop's turns; None where it is another kind of loop."""
    return loop.turns if isinstance(loop, EventLoop) else None


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The loop that a daemon runs on. Where there is no epoll(7) it is asyncio's own."""
    if not hasattr(select, "epoll"):
        return asyncio.new_event_loop()
    return EventLoop()
