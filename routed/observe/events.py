"""What happens, as it happens: events, kept for a while and handed to those who listen.

An event is a few facts, not a log line and not a JSON document: those who listen make of it what they need.
Texts in it may come from peers and records; whoever shows them sees to it that they are shown as data.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import merge
from operator import attrgetter
from typing import Final

#: Events kept for those who ask what was before; and of those that name many prefixes, 30 kB each.
KEPT: Final = 2048
ROUTES_KEPT: Final = 64
#: Of wrong records: thousands at once may be, and are not to push the sessions' history out.
PROBLEMS_KEPT: Final = 512
#: Events that wait for one listener, at most; more are counted, and lost to it.
WAITING: Final = 4096


class EventKind(enum.StrEnum):
    """What happened. The values are those of the API, of MQTT topics and of `routed events --kind`."""

    STARTED = "started"
    STOPPING = "stopping"
    CONVERGED = "converged"
    DRAINING = "draining"
    DRAIN_ENDED = "drain-ended"
    PEER_ADDED = "peer-added"
    PEER_REMOVED = "peer-removed"
    SESSION_UP = "session-up"
    SESSION_DOWN = "session-down"
    PEER_SHUT_DOWN = "peer-shut-down"
    PEER_BROUGHT_UP = "peer-brought-up"
    PEER_REFRESHED = "peer-refreshed"
    STALE_ROUTES = "stale-routes"
    BAD_UPDATE = "bad-update"
    ROUTES = "routes"
    """Prefixes whose paths in Loc-RIB changed, many in one event."""
    DATASTORE_LOST = "datastore-lost"
    DATASTORE_BACK = "datastore-back"
    RECORDS_READ = "records-read"
    PROBLEM = "problem"
    PROBLEM_SOLVED = "problem-solved"
    KERNEL_ERROR = "kernel-error"
    MISSED = "missed"
    """A listener was too slow; `fields["events"]` were not handed to it. Never kept."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    number  counts from 1 since the start of the process
    time    seconds since 1970, of the system's clock
    peer    the peering's name, where it is about one
    text    one line for people
    fields  what else there is to know; values that JSON has (numbers, texts, lists, mappings)
    """

    number: int
    time: float
    kind: EventKind
    text: str
    peer: str | None = None
    fields: Mapping[str, object] = field(default_factory=dict)


class Subscription:
    """One listener: an asynchronous iterator of events. End it with `close`."""

    def __init__(self, log: EventLog, kinds: frozenset[EventKind] | None, waiting: int) -> None:
        self._log = log
        self._kinds = kinds
        self._most = waiting
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self.missed = 0
        """Events that were not handed over, since the last one that was."""
        self.missed_in_all = 0

    def wants(self, kind: EventKind) -> bool:
        """True for a kind that was asked for."""
        return self._kinds is None or kind in self._kinds

    def put(self, event: Event) -> None:
        """Have an event wait for the listener, unless too many do."""
        if len(self._queue) >= self._most:
            self.missed += 1
            self.missed_in_all += 1
            return
        self._queue.append(event)
        self._wake.set()

    def close(self) -> None:
        """Hear of nothing any more; the iteration ends."""
        self._closed = True
        self._log.unsubscribe(self)
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._queue:
                yield self._queue.popleft()
                if self.missed and not self._queue:
                    missed, self.missed = self.missed, 0
                    yield Event(
                        0, time.time(), EventKind.MISSED, f"{missed} events missed", fields={"events": missed}
                    )
            if self._closed:
                return
            self._wake.clear()
            await self._wake.wait()


class EventLog:
    """The events of one process: the latest ones, and who listens."""

    def __init__(self, kept: int = KEPT, clock: Callable[[], float] = time.time) -> None:
        self._kept: deque[Event] = deque(maxlen=kept)
        routes: deque[Event] = deque(maxlen=ROUTES_KEPT)
        problems: deque[Event] = deque(maxlen=min(kept, PROBLEMS_KEPT))
        self._apart = {
            EventKind.ROUTES: routes,
            EventKind.PROBLEM: problems,
            EventKind.PROBLEM_SOLVED: problems,
        }
        self._all_kept = (self._kept, routes, problems)
        self._clock = clock
        self._listeners: list[Subscription] = []
        self.counts: dict[EventKind, int] = {}
        """How many of each kind there were since the start."""
        self.last_number = 0

    def publish(self, kind: EventKind, text: str, peer: str | None = None, **fields: object) -> Event:
        """Something happened."""
        self.last_number += 1
        event = Event(self.last_number, self._clock(), kind, text, peer, fields)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._apart.get(kind, self._kept).append(event)
        for listener in self._listeners:
            if listener.wants(kind):
                listener.put(event)
        return event

    def latest(
        self,
        *,
        after: int = 0,
        kinds: Iterable[EventKind] | None = None,
        peer: str | None = None,
        most: int | None = None,
    ) -> list[Event]:
        """Events that are still kept, oldest first: those with a number above `after`, of these kinds, about
        this peer; the latest `most` of them."""
        wanted = None if kinds is None else frozenset(kinds)
        found = [
            event
            for event in merge(*self._all_kept, key=attrgetter("number"))
            if event.number > after
            and (wanted is None or event.kind in wanted)
            and (peer is None or event.peer == peer)
        ]
        return found if most is None else found[max(0, len(found) - most) :]

    def subscribe(self, kinds: Iterable[EventKind] | None = None, *, waiting: int = WAITING) -> Subscription:
        """Listen from now on, to these kinds or to all. At most `waiting` events wait for the listener."""
        subscription = Subscription(self, None if kinds is None else frozenset(kinds), waiting)
        self._listeners.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """What `Subscription.close` does here."""
        if subscription in self._listeners:
            self._listeners.remove(subscription)

    def close(self) -> None:
        """No more events: every listener's iteration ends."""
        for listener in list(self._listeners):
            listener.close()
