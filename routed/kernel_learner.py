"""What others put into the kernel, as the speaker sees it: workload routes become paths of Loc-RIB."""

from __future__ import annotations

from typing import Final

from routed.bgp.path import SourceKind
from routed.bgp.speaker import Speaker
from routed.kernel.base import (
    AlienRoute,
    Event,
    MonitorProtocol,
    Overflow,
    Prefix,
    RouteDown,
    RouteUp,
    Snapshot,
)
from routed.kernel_writer import KernelWriter

#: Not learned: what the kernel makes itself (redirects, connected routes), and a BIRD's, which we stand
#: in for.
IGNORED_PROTOCOLS: Final = frozenset({1, 2, 12})


class KernelLearner:
    """Follows the kernel's monitor."""

    def __init__(self, monitor: MonitorProtocol, speaker: Speaker, writer: KernelWriter) -> None:
        self._monitor = monitor
        self._speaker = speaker
        self._writer = writer
        self._known: dict[Prefix, set[AlienRoute]] = {}

    def learn(self, snapshot: Snapshot) -> None:
        """Learn what is there already."""
        for route in snapshot.routes:
            self._up(route)

    async def run(self) -> None:
        """Learn changes as they happen."""
        async for events in self._monitor.changes():
            for event in events:
                self._take(event)

    def _take(self, event: Event) -> None:
        self._writer.note(event)
        match event:
            case RouteUp(route):
                self._up(route)
            case RouteDown(route):
                self._down(route)
            case Overflow():
                pass  # the monitor has sent the differences; the FIB was told by `note`

    def _up(self, route: AlienRoute) -> None:
        if route.protocol not in IGNORED_PROTOCOLS:
            self._known.setdefault((route.family, route.nlri), set()).add(route)
            self._tell(route)

    def _down(self, route: AlienRoute) -> None:
        known = self._known.get((route.family, route.nlri))
        if known is not None and route in known:
            known.discard(route)
            if not known:
                del self._known[route.family, route.nlri]
            self._tell(route)

    def _tell(self, changed: AlienRoute) -> None:
        """The best of the routes to a prefix is the one that counts, as it does for the kernel."""
        known = self._known.get((changed.family, changed.nlri))
        if not known:
            self._speaker.withdraw(changed.family, changed.nlri, SourceKind.KERNEL)
            return
        best = min(known, key=lambda route: (route.metric or 0, route.interface or "", str(route.gateway)))
        self._speaker.learn(
            best.family, best.nlri, interface=best.interface, gateway=best.gateway, metric=best.metric
        )
