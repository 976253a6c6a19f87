"""What the kernel says, as the speaker sees it: workload routes, and the networks of our interfaces, become
paths of Loc-RIB, and ways to next hops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Final, Protocol

from routed.bgp.nlri import Family, from_network
from routed.bgp.path import SourceKind
from routed.bgp.route import Address
from routed.kernel.base import (
    AddressAdded,
    AddressRemoved,
    AlienHop,
    AlienRoute,
    Event,
    InterfaceAddress,
    LinkDown,
    LinkUp,
    MonitorProtocol,
    Prefix,
    RouteDown,
    RouteUp,
    Snapshot,
)
from routed.kernel_writer import KernelWriter
from routed.next_hops import NextHops

#: Not learned: what the kernel makes itself (redirects, connected routes), and a BIRD's, which we stand
#: in for.
IGNORED_PROTOCOLS: Final = frozenset({1, 2, 12})
#: Interfaces whose networks are never learned, beside those of `ignoredInterfaces`: those of workloads, and
#: the one that has an address for each cluster IP in use.
IGNORED_INTERFACES: Final = ("cali*", "kube-ipvs*")

#: Events taken in before the event loop turns: some milliseconds.
EVENTS_A_TURN: Final = 256


class LocalRoutes(Protocol):
    """Takes what is learned: the speaker."""

    def learn(
        self,
        family: Family,
        nlri: bytes,
        *,
        interface: str | None,
        gateway: Address | None,
        metric: int | None,
        kind: SourceKind,
    ) -> None:
        """Have a route in Loc-RIB."""

    def withdraw(self, family: Family, nlri: bytes, kind: SourceKind) -> None:
        """Take it back."""


class KernelLearner:
    """Follows the kernel's monitor."""

    def __init__(
        self,
        monitor: MonitorProtocol,
        speaker: LocalRoutes,
        writer: KernelWriter,
        next_hops: NextHops | None = None,
    ) -> None:
        """`next_hops` is told of the ways that the kernel has; None: nobody asks."""
        self._monitor = monitor
        self._speaker = speaker
        self._writer = writer
        self._next_hops = next_hops
        self._known: dict[Prefix, set[AlienRoute]] = {}
        self._networks = InterfaceNetworks(self._direct)

    def learn(self, snapshot: Snapshot) -> None:
        """Learn what is there already."""
        for link in snapshot.links:
            if link.up:
                self._link(link.name, up=True)
        for address in snapshot.addresses:
            self._address(address, there=True)
        for route in snapshot.routes:
            self._up(route)

    def ignore_interfaces(self, patterns: Iterable[str]) -> None:
        """Do not learn the networks of interfaces like these (`ignoredInterfaces`, shell patterns)."""
        self._networks.ignore((*patterns, *IGNORED_INTERFACES))

    async def run(self) -> None:
        """Learn changes as they happen; of a burst, so many before the event loop turns."""
        async for events in self._monitor.changes():
            for number, event in enumerate(events, 1):
                self._take(event)
                if number % EVENTS_A_TURN == 0:
                    await asyncio.sleep(0)

    def _take(self, event: Event) -> None:
        match event:
            case RouteUp(route):
                self._up(route)
            case RouteDown(route):
                self._down(route)
            case LinkUp(link):
                self._link(link.name, up=True)
            case LinkDown(link):
                self._link(link.name, up=False)
            case AddressAdded(address):
                self._address(address, there=True)
            case AddressRemoved(address):
                self._address(address, there=False)
            case _:
                pass  # of our own routes, or an overflow: the monitor has sent the differences
        self._writer.note(event)

    # Routes of others

    def _up(self, route: AlienRoute) -> None:
        if route.protocol not in IGNORED_PROTOCOLS:
            self._known.setdefault((route.family, route.nlri), set()).add(route)
            self._tell(route.family, route.nlri)

    def _down(self, route: AlienRoute) -> None:
        known = self._known.get((route.family, route.nlri))
        if known is not None and route in known:
            known.discard(route)
            if not known:
                del self._known[route.family, route.nlri]
            self._tell(route.family, route.nlri)

    def _tell(self, family: Family, nlri: bytes) -> None:
        """The best of the routes to a prefix is the one that counts, as it does for the kernel."""
        known = self._known.get((family, nlri))
        if not known:
            self._set(family, nlri, SourceKind.KERNEL, ())
            return
        best = min(known, key=lambda route: (route.metric or 0, route.interface or "", str(route.gateway)))
        self._set(family, nlri, SourceKind.KERNEL, best.hops, best.metric)

    # Links and their networks

    def _link(self, name: str, *, up: bool) -> None:
        if self._next_hops is not None:
            self._next_hops.link_changed(name, up=up)
        self._networks.link(name, up=up)

    def _address(self, address: InterfaceAddress, *, there: bool) -> None:
        if self._networks.address(address, there=there) and self._next_hops is not None:
            self._next_hops.own_address(address.address, there=there)

    def _direct(self, family: Family, nlri: bytes, interface: str | None) -> None:
        ways = () if interface is None else (AlienHop(interface),)
        self._set(family, nlri, SourceKind.DIRECT, ways)

    def _set(
        self,
        family: Family,
        nlri: bytes,
        kind: SourceKind,
        ways: tuple[AlienHop, ...],
        metric: int | None = None,
    ) -> None:
        """A local route has these ways now, or (none) is gone."""
        if self._next_hops is not None:
            self._next_hops.set_ways(family, nlri, kind, ways)
        if ways:
            only = ways[0] if len(ways) == 1 else AlienHop(None)
            self._speaker.learn(
                family, nlri, interface=only.interface, gateway=only.gateway, metric=metric, kind=kind
            )
        else:
            self._speaker.withdraw(family, nlri, kind)
        # Loc-RIB tells of its own changes; other ways of the same path are none.
        self._writer.update(family, (nlri,))


class Tell(Protocol):
    """Hears of a network of ours."""

    def __call__(self, family: Family, nlri: bytes, interface: str | None, /) -> None:
        """The interface it is on; None: it is gone."""


class InterfaceNetworks:
    """The networks that interfaces are on, by their addresses, as BIRD's `direct` protocol learns them: of
    interfaces that are up and not ignored, addresses of wider than link scope."""

    def __init__(self, tell: Tell) -> None:
        """`tell` hears of each network that comes, moves to another interface, or goes."""
        self._tell = tell
        self._ignored: tuple[str, ...] = IGNORED_INTERFACES
        self._up: set[str] = set()
        self._addresses: set[InterfaceAddress] = set()
        self._on: dict[str, Counter[Prefix]] = {}
        """The networks of each interface, each with the number of its addresses there, whatever its state."""
        self._interfaces: dict[Prefix, list[str]] = {}
        """The interfaces that count for each network; the first stands for it."""

    def ignore(self, patterns: tuple[str, ...]) -> None:
        """Shell patterns of the interfaces to leave out."""
        active = [name for name in self._on if self._active(name)]
        self._ignored = patterns
        for name in self._on:
            if name in active and not self._active(name):
                self._each(name, self._leave)
            elif name not in active and self._active(name):
                self._each(name, self._join)

    def link(self, name: str, *, up: bool) -> None:
        """An interface went up or down."""
        active = self._active(name)
        if up:
            self._up.add(name)
        else:
            self._up.discard(name)
        if active is not self._active(name):
            self._each(name, self._leave if active else self._join)

    def address(self, address: InterfaceAddress, *, there: bool) -> bool:
        """An address came or went. False where that was known."""
        if (address in self._addresses) is there:
            return False
        name = address.interface
        prefix = Family.of(address.network), from_network(address.network)
        host = address.peer or address.address
        counts = not (host.is_loopback or host.is_link_local or host.is_multicast)
        networks = self._on.setdefault(name, Counter())
        if there:
            self._addresses.add(address)
            networks[prefix] += counts
            if counts and networks[prefix] == 1 and self._active(name):
                self._join(prefix, name)
        else:
            self._addresses.discard(address)
            networks[prefix] -= counts
            if counts and not networks[prefix] and self._active(name):
                self._leave(prefix, name)
        if not networks[prefix]:
            del networks[prefix]
        if not networks:
            del self._on[name]
        return True

    def _active(self, name: str) -> bool:
        return name in self._up and not any(fnmatchcase(name, pattern) for pattern in self._ignored)

    def _each(self, name: str, what: Callable[[Prefix, str], None]) -> None:
        for prefix in list(self._on.get(name, ())):
            what(prefix, name)

    def _join(self, prefix: Prefix, name: str) -> None:
        names = self._interfaces.setdefault(prefix, [])
        names.append(name)
        if len(names) == 1:
            self._tell(*prefix, name)

    def _leave(self, prefix: Prefix, name: str) -> None:
        names = self._interfaces[prefix]
        first = names[0] == name
        names.remove(name)
        if first:
            self._tell(*prefix, names[0] if names else None)
        if not names:
            del self._interfaces[prefix]
