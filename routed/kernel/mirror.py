"""A copy of the links, addresses and alien routes, kept up by netlink messages: pure, messages in, events
out.

The kernel does not tell all (`fib_sync_down_dev`, `fib_flush`): IPv4 routes through a link that goes down,
vanishes or loses its last IPv4 address, and those whose preferred source address goes, are dropped without a
word. The mirror drops what it knows to be gone. Where a message has more than one reading it asks for a fresh
dump (`doubtful`) rather than guess.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from routed.bgp.nlri import Family
from routed.kernel.base import (
    MAIN_TABLE,
    AddressAdded,
    AddressRemoved,
    AlienHop,
    AlienRoute,
    Event,
    InterfaceAddress,
    Link,
    LinkDown,
    LinkUp,
    OwnNextHopGone,
    OwnRouteChanged,
    OwnRoutesInDoubt,
    Prefix,
    RouteDown,
    RouteUp,
    Snapshot,
)
from routed.kernel.decode import (
    RTM_F_CLONED,
    KernelAddress,
    KernelLink,
    KernelRoute,
    Path,
    decode_address,
    decode_link,
    decode_next_hop,
    decode_route,
)
from routed.kernel.encode import RTN_UNICAST
from routed.kernel.netlink import (
    NLM_F_REPLACE,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEXTHOP,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    Message,
)

RTPROT_KERNEL = 2

#: What the kernel replaces by: family, NLRI, metric (and TOS, but routes with one are left out). IPv4 routes
#: added with NLM_F_APPEND share a place, and so do IPv6 connected routes of one prefix on several links
#: (fe80::/64).
_Place = tuple[Family, bytes, int]
_AddressKey = tuple[int, bytes, int, bytes]


class _Entry(NamedTuple):
    """One alien route: which one of its place it is, and how it was reported."""

    protocol: int
    paths: tuple[Path, ...]
    prefsrc: bytes | None
    reported: AlienRoute


class Mirror:
    """The state, and the events that each message makes of it.

    `own_protocol` is the protocol of our routes, `own_port` the netlink port that installs them (0: none
    does)."""

    def __init__(self, *, own_protocol: int, own_port: int = 0, table: int = MAIN_TABLE) -> None:
        self.doubtful = False
        """A fresh dump is needed: what was said has more than one reading."""
        self._own_protocol = own_protocol
        self._own_port = own_port
        self._table = table
        self._links: dict[int, Link] = {}
        self._addresses: dict[_AddressKey, tuple[InterfaceAddress, bool]] = {}
        self._routes: dict[_Place, list[_Entry]] = {}
        self._by_link: dict[int, set[_Place]] = {}
        self._sources: Counter[bytes] = Counter()
        """Preferred source addresses of routes that others than the kernel made."""
        self._handlers: dict[int, Callable[[Message], Iterator[Event]]] = {
            RTM_NEWLINK: self._new_link,
            RTM_DELLINK: self._del_link,
            RTM_NEWADDR: self._new_address,
            RTM_DELADDR: self._del_address,
            RTM_NEWROUTE: self._new_route,
            RTM_DELROUTE: self._del_route,
            RTM_DELNEXTHOP: self._del_next_hop,
        }

    def apply(self, message: Message) -> list[Event]:
        """Take in one notification."""
        handler = self._handlers.get(message.type)
        return [] if handler is None else list(handler(message))

    def load_links(self, links: Iterable[KernelLink]) -> None:
        """Take in dumped links. To be loaded first: routes and addresses name links by index."""
        for link in links:
            self._links[link.ifindex] = Link(link.name, link.ifindex, link.up)

    def load_addresses(self, addresses: Iterable[KernelAddress]) -> None:
        """Take in dumped addresses."""
        for address in addresses:
            self._addresses[_address_key(address)] = (self._interface_address(address), address.tentative)

    def load_routes(self, routes: Iterable[KernelRoute]) -> None:
        """Take in dumped routes; ours, and those that are no unicast routes, are left out."""
        for route in routes:
            if self._is_alien(route):
                self._add(route)

    def snapshot(self) -> Snapshot:
        """All that is known."""
        return Snapshot(
            tuple(self._links.values()),
            tuple(address for address, _ in self._addresses.values()),
            tuple(entry.reported for entries in self._routes.values() for entry in entries),
        )

    # Links

    def _new_link(self, message: Message) -> Iterator[Event]:
        link = decode_link(message.body)
        if link is None:
            return
        old = self._links.get(link.ifindex)
        new = Link(link.name, link.ifindex, link.up)
        self._links[new.index] = new
        if old is not None and old.name != new.name:
            yield from self._rename(old, new)
        elif new.up and (old is None or not old.up):
            yield LinkUp(new)
        elif old is not None and old.up and not new.up:
            yield from self._lose_routes(new)
            yield LinkDown(new)

    def _del_link(self, message: Message) -> Iterator[Event]:
        link = decode_link(message.body)
        old = None if link is None else self._links.pop(link.ifindex, None)
        if old is None:
            return
        for key in [key for key in self._addresses if key[0] == old.index]:
            yield AddressRemoved(self._addresses.pop(key)[0])
        if old.up:
            gone = Link(old.name, old.index, False)
            yield from self._lose_routes(gone)
            yield LinkDown(gone)

    def _rename(self, old: Link, new: Link) -> Iterator[Event]:
        """A link's new name: for those who know links by name, one is gone and another is there."""
        for key, (address, tentative) in list(self._addresses.items()):
            if key[0] == new.index:
                renamed = replace(address, interface=new.name)
                self._addresses[key] = (renamed, tentative)
                yield AddressRemoved(address)
                yield AddressAdded(renamed)
        for place in self._by_link.get(new.index, ()):
            for position, entry in enumerate(self._routes[place]):
                now = self._describe(place, entry.protocol, entry.reported.scope, entry.paths)
                if now != entry.reported:
                    self._routes[place][position] = entry._replace(reported=now)
                    yield RouteDown(entry.reported)
                    yield RouteUp(now)
        if old.up:
            yield LinkDown(Link(old.name, old.index, False))
        if new.up:
            yield LinkUp(new)

    def _lose_routes(self, link: Link, family: Family | None = None) -> Iterator[Event]:
        """The kernel drops all routes (of one family) that have no next hop but through the link."""
        behind: list[Prefix] = []
        for place in list(self._by_link.get(link.index, ())):
            if family not in (None, place[0]):
                continue
            for entry in list(self._routes[place]):
                if all(path.ifindex == link.index for path in entry.paths):
                    behind.append(place[:2])
                    yield self._remove(place, entry)
                elif any(path.ifindex == link.index for path in entry.paths):
                    self.doubtful = True
        yield OwnRoutesInDoubt(link.name, tuple(behind))

    # Addresses

    def _new_address(self, message: Message) -> Iterator[Event]:
        found = decode_address(message.body)
        if found is None:
            return
        key = _address_key(found)
        old = self._addresses.get(key)
        address = self._interface_address(found)
        self._addresses[key] = (address, found.tentative)
        if old is None or (old[1] and not found.tentative):
            yield AddressAdded(address)

    def _del_address(self, message: Message) -> Iterator[Event]:
        found = decode_address(message.body)
        old = None if found is None else self._addresses.pop(_address_key(found), None)
        if found is None or old is None:
            return
        yield AddressRemoved(old[0])
        if found.address.version != 4:
            return
        if self._sources[found.address.packed]:
            self.doubtful = True  # routes from that source are gone, unless another link has the address too
        link = self._links.get(found.ifindex)
        left = any(key[0] == found.ifindex and len(key[1]) == 4 for key in self._addresses)
        if link is not None and link.up and not left:
            yield from self._lose_routes(link, Family.IPV4)

    def _interface_address(self, found: KernelAddress) -> InterfaceAddress:
        name = self._name(found.ifindex) or ""
        return InterfaceAddress(name, found.address, found.prefix_length, found.peer)

    # Routes

    def _new_route(self, message: Message) -> Iterator[Event]:
        route = self._decode(message)
        if route is None:
            return
        place = _place(route)
        there = self._routes.get(place, [])
        replaces = bool(message.flags & NLM_F_REPLACE)
        if not self._is_alien(route):
            if route.protocol == self._own_protocol and not self._is_our_doing(message):
                yield OwnRouteChanged(route.family, route.nlri)
            if replaces and there:
                yield from self._replace(place, there, None)
        elif replaces:
            if not there:
                # It took the place of a route that is not mirrored: may be ours.
                yield OwnRouteChanged(route.family, route.nlri)
            yield from self._replace(place, there, route)
        else:
            yield from self._insert(place, there, route)

    def _replace(self, place: _Place, there: list[_Entry], route: KernelRoute | None) -> Iterator[Event]:
        """The kernel put `route` (None: one that is not mirrored) in place of one of `there`."""
        if len(there) > 1 or (
            there and route is not None and _has_gateway(there[0].paths) != _has_gateway(route.paths)
        ):
            # IPv6 looks for a route that is as able to be one of several (ECMP) first, then for any.
            self.doubtful = True
            return
        if there:
            yield self._remove(place, there[0])
        if route is not None:
            yield RouteUp(self._add(route))

    def _insert(self, place: _Place, there: list[_Entry], route: KernelRoute) -> Iterator[Event]:
        paths = set(route.paths)
        for entry in there:
            if entry.protocol == route.protocol and set(entry.paths) == paths:
                return  # said already, by a dump
            if route.family is Family.IPV6 and _has_gateway(entry.paths) and paths > set(entry.paths):
                yield self._remove(place, entry)  # one more next hop: IPv6 tells of all
                break
        yield RouteUp(self._add(route))

    def _del_route(self, message: Message) -> Iterator[Event]:
        route = self._decode(message)
        if route is None:
            return
        if route.protocol == self._own_protocol:
            if not self._is_our_doing(message) and not self._fell_with_link(message, route):
                yield OwnRouteChanged(route.family, route.nlri)
            return
        place = _place(route)
        there = self._routes.get(place, [])
        paths = set(route.paths)
        for entry in there:
            if entry.protocol == route.protocol and set(entry.paths) == paths:
                yield self._remove(place, entry)
                return
        if there and route.type == RTN_UNICAST:
            self.doubtful = True  # one of several next hops, or one that was never told of

    def _del_next_hop(self, message: Message) -> Iterator[Event]:
        found = decode_next_hop(message.body)
        if found is not None and found[0] == self._own_protocol and not self._is_our_doing(message):
            yield OwnNextHopGone(found[1])

    def _decode(self, message: Message) -> KernelRoute | None:
        route = decode_route(message.body)
        if route is None or route.table != self._table or route.tos or route.flags & RTM_F_CLONED:
            return None
        return route

    def _is_alien(self, route: KernelRoute) -> bool:
        return route.protocol != self._own_protocol and route.type == RTN_UNICAST and not route.tos

    def _is_our_doing(self, message: Message) -> bool:
        return message.port == self._own_port != 0

    def _fell_with_link(self, message: Message, route: KernelRoute) -> bool:
        """True for what the kernel itself (port 0) took out because its links are down: OwnRoutesInDoubt said
        so for all at once."""
        links = [self._links.get(path.ifindex) for path in route.paths]
        return message.port == 0 and bool(links) and all(link is None or not link.up for link in links)

    def _add(self, route: KernelRoute) -> AlienRoute:
        place = _place(route)
        reported = self._describe(place, route.protocol, route.scope, route.paths)
        self._routes.setdefault(place, []).append(
            _Entry(route.protocol, route.paths, route.prefsrc, reported)
        )
        for path in route.paths:
            self._by_link.setdefault(path.ifindex, set()).add(place)
            if path.ifindex not in self._links:
                self.doubtful = True  # its link was not told of: an event was lost
        if route.prefsrc and route.protocol != RTPROT_KERNEL:
            self._sources[route.prefsrc] += 1
        return reported

    def _remove(self, place: _Place, entry: _Entry) -> RouteDown:
        there = self._routes[place]
        there.remove(entry)
        if not there:
            del self._routes[place]
        for path in entry.paths:
            if not any(path.ifindex == other.ifindex for e in there for other in e.paths):
                places = self._by_link.get(path.ifindex)
                if places is not None:
                    places.discard(place)
                    if not places:
                        del self._by_link[path.ifindex]
        if entry.prefsrc and entry.protocol != RTPROT_KERNEL:
            self._sources[entry.prefsrc] -= 1
        return RouteDown(entry.reported)

    def _describe(self, place: _Place, protocol: int, scope: int, paths: tuple[Path, ...]) -> AlienRoute:
        family, nlri, metric = place
        hops = [AlienHop(self._name(path.ifindex), path.gateway, path.onlink) for path in paths]
        if len(hops) > 1:  # the kernel tells of them in one order, and dumps them in another
            hops.sort(
                key=lambda hop: (hop.interface or "", b"" if hop.gateway is None else hop.gateway.packed)
            )
        return AlienRoute(family, nlri, tuple(hops), metric or None, protocol, scope)

    def _name(self, ifindex: int) -> str | None:
        link = self._links.get(ifindex)
        return None if link is None else link.name


def differences(old: Snapshot, new: Snapshot) -> list[Event]:
    """The events between two snapshots: what is gone first, then what is there."""
    events: list[Event] = []
    links = {link.index: link for link in old.links}
    now = {link.index: link for link in new.links}
    old_routes, new_routes = frozenset(old.routes), frozenset(new.routes)
    old_addresses, new_addresses = frozenset(old.addresses), frozenset(new.addresses)
    events += [RouteDown(route) for route in old.routes if route not in new_routes]
    events += [AddressRemoved(address) for address in old.addresses if address not in new_addresses]
    for index, was in links.items():
        link = now.get(index)
        if was.up and (link is None or not link.up or link.name != was.name):
            events.append(LinkDown(Link(was.name, index, False)))
    for index, link in now.items():
        before = links.get(index)
        if link.up and (before is None or not before.up or before.name != link.name):
            events.append(LinkUp(link))
    events += [AddressAdded(address) for address in new.addresses if address not in old_addresses]
    events += [RouteUp(route) for route in new.routes if route not in old_routes]
    return events


def _place(route: KernelRoute) -> _Place:
    return route.family, route.nlri, route.metric


def _address_key(address: KernelAddress) -> _AddressKey:
    peer = b"" if address.peer is None else address.peer.packed
    return address.ifindex, address.address.packed, address.prefix_length, peer


def _has_gateway(paths: tuple[Path, ...]) -> bool:
    return bool(paths) and all(path.gateway is not None for path in paths)
