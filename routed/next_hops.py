"""Next hops: where each leads now, and which prefixes are behind it.

A BGP next hop is resolved as BIRD's `gateway recursive` does it: by the longest match in Loc-RIB, which
holds the networks of our interfaces (DIRECT), what others put into the kernel (KERNEL), and our own static
routes. So a default route counts, as long as it was not learned by BGP: a route that BGP learned, or a
blackhole, leads nowhere, and hides what is less specific. The kernel judges gateways in the same way.

When a route changes, just the next hops that it covers are looked up again; where one now leads elsewhere,
just the prefixes behind it are worked out again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from weakref import WeakValueDictionary, ref

from routed.bgp.nlri import Family, to_text
from routed.bgp.path import Path, SourceKind
from routed.bgp.rib import LocRib
from routed.bgp.route import Address, NextHop
from routed.kernel.base import AlienHop, Prefix

#: The cost of a next hop on a network of ours, and of one behind a gateway (BIRD's IGP_METRIC_UNKNOWN).
ON_LINK: Final = 0
BEHIND_GATEWAY: Final = 0x80000000

OnChange = Callable[[Family, Collection[bytes], bool], None]
"""Gets prefixes behind a next hop that now leads elsewhere; True where also its cost is another."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where a next hop leads: the ways to it, each by its interface, and the cost; or, without any, why it
    cannot be reached."""

    ways: tuple[NextHop, ...]
    cost: int | None
    reason: str = ""


def _unreachable(reason: str) -> Resolution:
    return Resolution((), None, reason)


_NOT_LOOKED_UP: Final = _unreachable("the next hop was not looked up")


class Hop:
    """One next hop in use. Lives as long as a path or a prefix refers to it."""

    __slots__ = (
        "__weakref__",
        "_paths",
        "_prune_at",
        "address",
        "behind",
        "link_local",
        "resolution",
        "static",
    )

    def __init__(self, address: Address, link_local: Address | None, *, static: bool) -> None:
        """`link_local` is the second address of an IPv6 next hop (RFC 2545 section 3). `static`: it is the
        gateway of a static route, and not resolved through another such."""
        self.address = address
        self.link_local = link_local
        self.static = static
        self.resolution = _NOT_LOOKED_UP
        self._paths: list[ref[Path]] = []
        self._prune_at = 8
        self.behind: dict[Family, set[bytes]] = {family: set() for family in Family}
        """The prefixes that depend on it."""

    def add(self, path: Path) -> None:
        """Have the key of a path made anew when this next hop changes, as long as the path is there."""
        # A WeakSet takes ten times as long to make, and most next hops have one path.
        self._paths.append(ref(path))
        if len(self._paths) > self._prune_at:
            self._paths = [one for one in self._paths if one() is not None]
            self._prune_at = 2 * len(self._paths) + 8

    def renew_keys(self) -> None:
        """Make the keys of its paths anew."""
        for one in self._paths:
            path = one()
            if path is not None:
                path.renew_key()

    @property
    def cost(self) -> int | None:
        """What it costs to get there; None: it cannot be reached."""
        return self.resolution.cost

    @property
    def ways(self) -> tuple[NextHop, ...]:
        """Gateways and their interfaces."""
        return self.resolution.ways

    @property
    def reason(self) -> str:
        """Why it cannot be reached."""
        return self.resolution.reason


class _Locals:
    """One family of what next hops are looked up in, beside Loc-RIB."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.bits = family.max_prefix_length
        self.lengths: list[int] = []
        """Prefix lengths that were ever in Loc-RIB, longest first."""
        self.known_lengths: set[int] = set()
        self.ways: dict[SourceKind, dict[bytes, tuple[AlienHop, ...]]] = {
            SourceKind.DIRECT: {},
            SourceKind.KERNEL: {},
        }
        self.statics: dict[bytes, Hop] = {}
        """Static routes by way of a gateway."""
        self.addresses: list[bytes] = []
        """Those of all next hops, packed, in order; some may be of next hops that are no more."""
        self.hops: dict[bytes, list[ref[Hop]]] = {}
        self._head_octets = 2 if family is Family.IPV4 else 6
        self._heads: set[bytes] = set()
        """What addresses of next hops begin with."""

    def add_lengths(self, lengths: set[int]) -> None:
        if not lengths <= self.known_lengths:
            self.known_lengths |= lengths
            self.lengths = sorted(self.known_lengths, reverse=True)

    def interfaces_of(self, nlri: bytes) -> set[str]:
        """Those that the local routes to a prefix go through."""
        routes = (routes.get(nlri, ()) for routes in self.ways.values())
        return {way.interface for ways in routes for way in ways if way.interface is not None}

    def prefixes_of(self, packed: bytes) -> Iterator[bytes]:
        """The NLRI that hold an address, of lengths in use, longest first."""
        number, bits = int.from_bytes(packed), self.bits
        for length in self.lengths:
            network = (number >> (bits - length) << (bits - length)).to_bytes(bits >> 3)
            yield bytes((length,)) + network[: (length + 7) >> 3]

    def may_cover(self, nlri: Sequence[bytes]) -> list[bytes]:
        """Those of the prefixes that may hold a next hop: of a full table, which lies elsewhere, none."""
        heads, end = self._heads, 1 + self._head_octets
        bits = 8 * self._head_octets
        return [one for one in nlri if one[1:end] in heads or one[0] < bits]

    def within(self, nlri: bytes) -> list[Hop]:
        """The next hops inside a prefix."""
        # Addresses with one prefix are neighbours, and the first of them is where the prefix itself would be.
        addresses = self.addresses
        place = bisect_left(addresses, nlri[1:])
        whole = nlri[1 : 1 + (nlri[0] >> 3)]
        if place == len(addresses) or not addresses[place].startswith(whole):
            return []  # as for nearly all
        shift = self.bits - nlri[0]
        wanted = int.from_bytes(nlri[1:].ljust(self.bits >> 3, b"\0")) >> shift
        found: list[Hop] = []
        while place < len(addresses) and int.from_bytes(addresses[place]) >> shift == wanted:
            found += self.at(addresses[place])
            place += 1
        return found

    def at(self, packed: bytes) -> list[Hop]:
        """The next hops of one address: with and without a link-local one, and as a static route's."""
        found = (one() for one in self.hops.get(packed, ()))
        return [hop for hop in found if hop is not None]

    def add_hop(self, hop: Hop) -> None:
        packed = hop.address.packed
        if packed not in self.hops:
            self.addresses.insert(bisect_left(self.addresses, packed), packed)
            self._heads.add(packed[: self._head_octets])
        self.hops[packed] = [*map(ref, self.at(packed)), ref(hop)]

    def forget_unused(self) -> None:
        """Let go of the addresses of next hops that are no more."""
        for packed in list(self.hops):
            if not self.at(packed):
                del self.hops[packed]
        self.addresses = sorted(self.hops)
        self._heads = {packed[: self._head_octets] for packed in self.addresses}


class NextHops:
    """All next hops of both families. It is told of local routes as they change (`set_ways`, `set_static`,
    `own_address`, `link_changed`), of Loc-RIB (`routes_changed`), and by each path of a peer of its next hop
    (`follow`)."""

    def __init__(self) -> None:
        self._ribs: Mapping[Family, LocRib] = {}
        self._on_change: OnChange = lambda family, nlri, rank: None
        self._hops: WeakValueDictionary[tuple[bytes, bool], Hop] = WeakValueDictionary()
        self._locals = {family: _Locals(family) for family in Family}
        self._own: Counter[Address] = Counter()
        self._links_up: set[str] = set()
        self._through: dict[str, set[Prefix]] = {}
        """Local routes by the interfaces of their ways."""
        self._behind: dict[Family, dict[bytes, tuple[Hop, ...]]] = {family: {} for family in Family}
        self._made = 0

    def bind(self, ribs: Mapping[Family, LocRib], on_change: OnChange) -> None:
        """Say what to look up in, and who is to hear of changes."""
        self._ribs, self._on_change = ribs, on_change

    # Asked by paths: NextHopTracker

    def follow(self, path: Path) -> Hop:
        """The path's next hop. When it changes, the path's key is made anew."""
        hop = self.hop(path.attributes.next_hop)
        hop.add(path)
        return hop

    def hop(self, octets: bytes, *, static: bool = False) -> Hop:
        """A next hop as in NEXT_HOP or MP_REACH_NLRI: 4, 16 or 32 octets."""
        found = self._hops.get((octets, static))
        if found is None:
            second = ip_address(octets[16:]) if len(octets) == 32 else None
            link_local = second if second is not None and second.is_link_local else None
            found = Hop(ip_address(octets[:16]), link_local, static=static)
            self._hops[octets, static] = found
            table = self._table(found)
            self._made += 1
            if self._made > 2 * len(self._hops) + 1000:
                self._made = len(self._hops)
                for one in self._locals.values():
                    one.forget_unused()
            table.add_hop(found)
            found.resolution = self.resolve(found)
        return found

    # Which prefixes are behind which next hops

    def track(self, family: Family, nlri: bytes, hops: tuple[Hop, ...]) -> bool:
        """From now on the prefix depends on these next hops, and on no other. True where that is new."""
        tracked = self._behind[family]
        old = tracked.get(nlri, ())
        if old == hops:
            return False
        for hop in old:
            hop.behind[family].discard(nlri)
        for hop in hops:
            hop.behind[family].add(nlri)
        if hops:
            tracked[nlri] = hops
        else:
            del tracked[nlri]
        return True

    def track_all(self, family: Family, nlri: Sequence[bytes], hops: tuple[Hop, ...]) -> None:
        """`track` for many prefixes."""
        tracked = self._behind[family]
        if tracked.keys().isdisjoint(nlri):
            if hops:  # a table that is new: no loop in Python
                tracked.update(dict.fromkeys(nlri, hops))
                for hop in hops:
                    hop.behind[family].update(nlri)
            return
        for one in nlri:
            self.track(family, one, hops)

    # What next hops are looked up in

    def set_ways(self, family: Family, nlri: bytes, kind: SourceKind, ways: tuple[AlienHop, ...]) -> None:
        """A DIRECT or KERNEL route has these ways now; none: it is gone. `routes_changed` is to be called
        when Loc-RIB has it too."""
        table = self._locals[family]
        table.add_lengths({nlri[0]})
        old = table.interfaces_of(nlri)
        if ways:
            table.ways[kind][nlri] = ways
        else:
            table.ways[kind].pop(nlri, None)
        new = table.interfaces_of(nlri)
        for name in old - new:
            self._through[name].discard((family, nlri))
            if not self._through[name]:
                del self._through[name]
        for name in new - old:
            self._through.setdefault(name, set()).add((family, nlri))

    def set_static(self, family: Family, nlri: bytes, gateway: Address | None) -> None:
        """A static route goes by way of a gateway (`reachableBy`); None: it is gone."""
        statics = self._locals[family].statics
        new = None if gateway is None else self.hop(gateway.packed, static=True)
        if statics.get(nlri) is new:
            return
        if new is None:
            del statics[nlri]
        else:
            statics[nlri] = new
        self.routes_changed(family, (nlri,))

    def static(self, family: Family, nlri: bytes) -> Hop | None:
        """The gateway of a static route."""
        return self._locals[family].statics.get(nlri)

    def ways(self, family: Family, nlri: bytes, kind: SourceKind) -> tuple[AlienHop, ...]:
        """The ways of a DIRECT or KERNEL route; none: there is no such route."""
        return self._locals[family].ways[kind].get(nlri, ())

    def own_address(self, address: Address, *, there: bool) -> None:
        """An address of this host came or went."""
        self._own[address] += 1 if there else -1
        if self._own[address] <= 0:
            del self._own[address]
        self._look_again(self._locals[Family.of(address)].at(address.packed))

    def link_changed(self, interface: str, *, up: bool) -> None:
        """An interface went up or down."""
        if up:
            self._links_up.add(interface)
        else:
            self._links_up.discard(interface)
        for family, nlri in tuple(self._through.get(interface, ())):
            self._look_again(self._locals[family].within(nlri))

    def link_is_up(self, interface: str) -> bool:
        """Whether there is such an interface, and up."""
        return interface in self._links_up

    def routes_changed(self, family: Family, nlri: Sequence[bytes]) -> None:
        """Loc-RIB, or a local route, changed at these prefixes: look up again what they cover."""
        table = self._locals[family]
        table.add_lengths({one[0] for one in nlri})
        if not table.addresses:
            return
        if len(nlri) > 16 * len(table.addresses):  # fewer next hops than prefixes: look each up, once
            self._look_again([hop for packed in table.addresses for hop in table.at(packed)])
            return
        for one in table.may_cover(nlri):
            if covered := table.within(one):
                self._look_again(covered)

    # Looking up

    def resolve(self, hop: Hop) -> Resolution:
        """Where a next hop leads now."""
        address = hop.address
        if address.is_link_local:
            return _unreachable(f"next hop {address} is link-local, and names no interface")
        if address in self._own:
            return _unreachable(f"next hop {address} is an address of this node")
        table = self._table(hop)
        routes = self._ribs[table.family].routes
        for nlri in table.prefixes_of(address.packed):
            entry = routes.get(nlri)
            best = entry[0] if isinstance(entry, tuple) else entry
            kind = None if best is None else best.source.kind
            if (
                kind is not SourceKind.DIRECT
                and not hop.static
                and (via := table.statics.get(nlri)) is not None
            ):
                return self._by_static(hop, via.resolution, nlri)
            if kind is not None:
                return self._by(hop, table, nlri, kind)
        return _unreachable(f"next hop {address}: there is no route to it")

    def _by(self, hop: Hop, table: _Locals, nlri: bytes, kind: SourceKind) -> Resolution:
        """By the route of a kind that is the best match."""
        ways = table.ways[kind].get(nlri) if kind in table.ways else None
        problem = ""
        if kind.bgp:
            problem = "was itself learned by BGP"
        elif ways is None:
            problem = "is a blackhole of this node"
        else:
            usable = [way for way in ways if way.interface is not None and way.interface in self._links_up]
            if usable:
                own = hop.link_local or hop.address
                found = tuple(NextHop(way.gateway or own, way.interface, way.onlink) for way in usable)
                on_link = any(way.gateway is None for way in usable)
                return Resolution(found, ON_LINK if on_link else BEHIND_GATEWAY)
            problem = "is through no interface that is up"
        return _unreachable(
            f"next hop {hop.address}: the route to it, {to_text(nlri, table.family)}, {problem}"
        )

    def _by_static(self, hop: Hop, gateway: Resolution, nlri: bytes) -> Resolution:
        """By a static route."""
        if gateway.cost is None:
            return _unreachable(f"next hop {hop.address}: reachableBy: {gateway.reason}")
        return Resolution(gateway.ways, BEHIND_GATEWAY)

    def _table(self, hop: Hop) -> _Locals:
        return self._locals[Family.of(hop.address)]

    def _look_again(self, hops: Iterable[Hop]) -> None:
        """Resolve again; tell of the prefixes behind those that changed."""
        for hop in list(hops):
            old, new = hop.resolution, self.resolve(hop)
            if old == new:
                continue
            hop.resolution = new
            rank = old.cost != new.cost
            if rank:
                hop.renew_keys()
            for family, nlri in hop.behind.items():
                if nlri:
                    self._on_change(family, tuple(nlri), rank)
            if hop.static:
                self._gateway_changed(hop)

    def _gateway_changed(self, gateway: Hop) -> None:
        """Static routes by way of it lead elsewhere now."""
        table = self._table(gateway)
        for nlri, via in tuple(table.statics.items()):
            if via is gateway:
                self._on_change(table.family, (nlri,), False)
                self._look_again(table.within(nlri))
