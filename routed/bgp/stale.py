"""Routes of a peer that are stale, in use all the same: kept while its session is down (RFC 4724, RFC 9494),
or not yet sent again while it sends everything again (RFC 7313). What ends each wait, and what comes then.

 wait         from                          ends well with               else, when its time is over
 RESTART      the session went down         the session is up again      LONG_LIVED, or the routes go
 LONG_LIVED   RESTART was over              End-of-RIB                   the routes go
 END_OF_RIB   the session is up again       End-of-RIB                   what is still stale goes
 REFRESH      BoRR                          EoRR                         what is still stale goes
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from routed.bgp.nlri import Family
from routed.bgp.path import Source
from routed.bgp.rib import LocRib

if TYPE_CHECKING:
    from routed.bgp.peer import Peer

#: How long a peer that came back may take for its End-of-RIB before its stale routes go, seconds.
END_OF_RIB_TIME: Final = 120.0
#: How long a peer may take to send everything again before what it did not send goes, seconds.
REFRESH_TIME: Final = 300.0


class Wait(enum.Enum):
    """What is waited for."""

    RESTART = "the restart time"
    LONG_LIVED = "the long-lived stale time"
    END_OF_RIB = "the time for End-of-RIB"
    REFRESH = "the time for a route refresh"


class StaleRoutes:
    """Of one peer, in each family."""

    def __init__(
        self,
        ribs: Mapping[Family, LocRib],
        sources: dict[Family, Source],
        peer: Peer,
        changed: Callable[[Peer, str], None],
    ) -> None:
        """`sources` are the peer's; one whose routes go while its session is not Established is taken out.
        `changed` is told, for people, what became of stale routes whose time was over."""
        self._ribs = ribs
        self._sources = sources
        self._peer = peer
        self._changed = changed
        self._timers: dict[tuple[Wait, Family], asyncio.TimerHandle] = {}
        self._long_lived_times: Mapping[Family, int] = {}

    @property
    def restarting(self) -> bool:
        """True while there is a timer for routes of an earlier session."""
        return any(wait is not Wait.REFRESH for wait, _ in self._timers)

    def is_long_lived(self, family: Family) -> bool:
        """True while the long-lived stale time of a family runs."""
        return (Wait.LONG_LIVED, family) in self._timers

    def down(self, family: Family, seconds: float | None, long_lived_times: Mapping[Family, int]) -> None:
        """The session is over, and its routes stay: for so many seconds, and then, where there is one, for
        the long-lived time (seconds, by family). None: until somebody else ends it."""
        self._long_lived_times = long_lived_times
        rib, source = self._ribs[family], self._sources[family]
        if (Wait.END_OF_RIB, family) in self._timers and not long_lived_times.get(family):
            # RFC 4724 section 4.2: what was stale before is not kept another time. Long-lived stale routes
            # are, but their time goes on from where it was.
            rib.sweep_stale(source)
        self._cancel(Wait.END_OF_RIB, family)
        self._cancel(Wait.REFRESH, family)
        rib.mark_stale(source)
        if seconds is not None:
            self._start(Wait.RESTART, family, seconds)

    def up(self, family: Family, *, preserved: bool) -> None:
        """The session is up again, with the same router. `preserved`: it says that it went on forwarding."""
        waited = any((wait, family) in self._timers for wait in Wait)
        self._cancel(Wait.RESTART, family)
        if not preserved:
            # RFC 4724 section 4.2: its old routes lead nowhere.
            self._ribs[family].sweep_stale(self._sources[family])
            self.forget(family)
        elif waited:
            self._start(Wait.END_OF_RIB, family, END_OF_RIB_TIME)

    def forget(self, family: Family) -> None:
        """There are no stale routes of a family any more."""
        for wait in Wait:
            self._cancel(wait, family)

    def cancel(self) -> None:
        """Wait for nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def end_of_rib(self, family: Family) -> None:
        """The peer's table of a family is whole: what it did not send again is gone."""
        if (Wait.REFRESH, family) not in self._timers:
            self._ribs[family].sweep_stale(self._sources[family])
            self.forget(family)

    def begin_refresh(self, family: Family) -> None:
        """BoRR: the peer begins to send everything again (RFC 7313 section 4)."""
        self._ribs[family].mark_stale(self._sources[family])
        self._start(Wait.REFRESH, family, REFRESH_TIME)

    def end_refresh(self, family: Family) -> None:
        """EoRR; without a BoRR before it is ignored."""
        if (Wait.REFRESH, family) in self._timers:
            self._ribs[family].sweep_stale(self._sources[family])
            self._cancel(Wait.REFRESH, family)

    def _start(self, wait: Wait, family: Family, seconds: float) -> None:
        self._cancel(wait, family)
        loop = asyncio.get_running_loop()
        self._timers[wait, family] = loop.call_later(seconds, self._expired, wait, family)

    def _cancel(self, wait: Wait, family: Family) -> None:
        timer = self._timers.pop((wait, family), None)
        if timer is not None:
            timer.cancel()

    def _expired(self, wait: Wait, family: Family) -> None:
        self._cancel(wait, family)
        rib, source = self._ribs[family], self._sources[family]
        seconds = self._long_lived_times.get(family) if wait is Wait.RESTART else None
        if seconds:
            rib.make_long_lived(source)
            if (Wait.LONG_LIVED, family) not in self._timers:
                self._start(Wait.LONG_LIVED, family, seconds)
            self._changed(self._peer, f"stale routes are a last resort now, for {seconds} s")
            return
        if any((other, family) in self._timers for other in (Wait.RESTART, Wait.END_OF_RIB)):
            rib.sweep_long_lived(source)  # others are of a later session, and have time left
        elif self._peer.established:
            rib.sweep_stale(source)
            self.forget(family)
        else:
            self._drop(family)
        self._changed(self._peer, f"stale routes dropped: {wait.value} is over")

    def _drop(self, family: Family) -> None:
        self.forget(family)
        self._ribs[family].drop(self._sources.pop(family))
