"""Changed prefixes, gathered into one event a second: a table of a million routes is a few events."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from routed.bgp.nlri import Family, to_text
from routed.bgp.rib import LocRib
from routed.observe.events import EventKind, EventLog

#: Changes within this time are one event, seconds.
GATHER_TIME: Final = 1.0
#: Prefixes that an event names, of each family; more are counted.
NAMED: Final = 500


class RouteChanges:
    """Tells the event log what changed in Loc-RIB."""

    def __init__(self, ribs: Mapping[Family, LocRib], events: EventLog) -> None:
        self._ribs = ribs
        self._events = events
        self._named: dict[Family, dict[bytes, None]] = {family: {} for family in Family}
        self._changes: dict[Family, int] = dict.fromkeys(Family, 0)
        self._timer: asyncio.TimerHandle | None = None
        self.total = dict.fromkeys(Family, 0)
        """How many changes there were since the start, by family."""

    def changed(self, family: Family, nlri: Sequence[bytes]) -> None:
        """Loc-RIB may have changed for these prefixes."""
        self._changes[family] += len(nlri)
        self.total[family] += len(nlri)
        named = self._named[family]
        if len(named) < NAMED:
            named.update(dict.fromkeys(nlri[: NAMED - len(named)]))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_TIME, self.publish)

    def publish(self) -> None:
        """Say what was gathered, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for family, count in self._changes.items():
            if not count:
                continue
            routes = self._ribs[family].routes
            named, self._named[family] = self._named[family], {}
            self._changes[family] = 0
            announced = [to_text(one, family) for one in named if one in routes]
            withdrawn = [to_text(one, family) for one in named if one not in routes]
            self._events.publish(
                EventKind.ROUTES,
                f"IP{family.name[2:].lower()}: {count} changes"
                if count > 1
                else f"{(announced or withdrawn)[0]} {'announced' if announced else 'withdrawn'}",
                family=family.name.lower(),
                changes=count,
                announced=announced,
                withdrawn=withdrawn,
                all_named=len(named) == count,
            )

    def close(self) -> None:
        """No timer is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
