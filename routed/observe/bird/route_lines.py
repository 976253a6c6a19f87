"""A route as BIRD's `show route` prints it (rt_show_rte in nest/rt-table.c, bgp_get_route_info)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from routed.bgp.attributes import AttributeSet
from routed.bgp.communities import LLGR_STALE
from routed.bgp.path import PREFERENCE, NextHopState, Path, Source, SourceKind
from routed.intent.types import OriginatedRoute
from routed.next_hops import BEHIND_GATEWAY
from routed.observe.bird.attributes import ORIGIN_LETTERS, attribute_lines, origin_as
from routed.observe.bird.protocols import PROTOCOL_OF, protocols
from routed.observe.bird.replies import ROUTE, ROUTE_ATTRIBUTES, ROUTE_DETAILS, Block, Line, block
from routed.observe.bird.view import View, short_time
from routed.observe.views.text import prefix_text

Route = Path | OriginatedRoute
Text = tuple[str, tuple[str, ...]]
"""What follows the prefix, and the lines of a route with several ways."""

#: Texts that are remembered: ten thousand routes with the same attributes have one.
REMEMBERED: Final = 2048
_TYPES: Final = {
    SourceKind.STATIC: "static",
    SourceKind.ALLOCATED: "static",
    SourceKind.DIRECT: "device",
    SourceKind.KERNEL: "inherit",
    SourceKind.IBGP: "BGP",
    SourceKind.EBGP: "BGP",
}


class RouteLines:
    """Prints the routes of one answer."""

    def __init__(self, view: View) -> None:
        self._family = view.family
        listed = protocols(view)
        self._since = {one.name: short_time(one.since) for one in listed}
        self._peers: dict[Source, str] = {}
        for one in listed:
            source = None if one.peer is None else view.source(one.peer)
            if source is not None:
                self._peers[source] = one.name
        writer = view.observed.writer
        self._next_hops = view.observed.next_hops
        self._failed = {} if writer is None else writer.fib.failed
        self._texts: dict[tuple[Path, bool, AttributeSet], Text] = {}
        self._attributes: dict[tuple[Path, AttributeSet | None], Block] = {}

    def forget(self) -> None:
        """The event loop may have turned: next hops may lead elsewhere."""
        self._texts.clear()

    def names(self, route: Route) -> str:
        """The protocol of a route."""
        if isinstance(route, OriginatedRoute):
            return PROTOCOL_OF[SourceKind.STATIC]
        return self._peers.get(route.source) or PROTOCOL_OF.get(route.source.kind, route.source.name)

    def of(
        self,
        nlri: bytes,
        route: Route,
        *,
        best: bool,
        first: bool,
        details: bool,
        attributes: AttributeSet | None,
    ) -> Iterator[Line | Block]:
        """The lines of one route. `first`: of its prefix, which only the first one names; `attributes` are
        shown in place of its own."""
        mark = ""
        if best:
            mark = " !" if (self._family, nlri) in self._failed else " *"
        prefix = prefix_text(nlri, self._family) if first else ""
        if isinstance(route, OriginatedRoute):
            text: Text = (self._static(nlri, route, mark), ())
        elif mark == " !" or not route.source.kind.bgp:
            text = self._text(nlri, route, mark, attributes or route.attributes)
        else:
            key = (route, best, attributes or route.attributes)
            known = self._texts.get(key)
            if known is None:
                if len(self._texts) >= REMEMBERED:
                    self._texts.clear()
                known = self._texts[key] = self._text(nlri, route, mark, key[2])
            text = known
        yield Line(ROUTE, f"{prefix:<18} {text[0]}")
        for way in text[1]:
            yield Line(ROUTE, way)
        if details:
            if isinstance(route, OriginatedRoute):
                yield Line(ROUTE_DETAILS, "\tType: static unicast univ")
            else:
                yield self._details(route, attributes)

    def _text(self, nlri: bytes, path: Path, mark: str, attributes: AttributeSet) -> Text:
        name = self.names(path)
        since = self._since.get(name) or short_time(0)
        way, more, start = self._way(nlri, path)
        return f"{way} [{name} {since}{start}]{mark} {_info(path, attributes)}", more

    def _way(self, nlri: bytes, path: Path) -> tuple[str, tuple[str, ...], str]:
        """Where a route leads; the ways where there are several; and ` from PEER` where its next hop is not
        the peer."""
        kind = path.source.kind
        if not kind.bgp:
            return *self._local_way(nlri, path), ""
        hop = path.attributes.next_hop
        if path.hop is None:
            # Nobody knows the ways here.
            gateway = ip_address(hop[:16])
            return f"via {gateway} on ?", (), _from(path, hop[:16])
        ways = path.hop.ways
        if not ways:
            return "unreachable", (), _from(path, b"")
        if len(ways) == 1:
            return f"via {ways[0].gateway} on {ways[0].interface}", (), _from(path, ways[0].gateway.packed)
        more = tuple(f"\tvia {one.gateway} on {one.interface} weight 1" for one in ways)
        return "multipath", more, _from(path, b"")

    def _local_way(self, nlri: bytes, path: Path) -> Text:
        """Where a route leads that no peer gave."""
        kind = path.source.kind
        if kind in (SourceKind.STATIC, SourceKind.ALLOCATED):
            return "blackhole", ()
        ways = () if self._next_hops is None else self._next_hops.ways(self._family, nlri, kind)
        # Networks of several interfaces BIRD shows by one of them, whose route is the best.
        if len(ways) > 1 and kind is SourceKind.KERNEL:
            return "multipath", tuple(
                f"\tvia {way.gateway or '?'} on {way.interface or '?'} weight 1" for way in ways
            )
        gateway = path.attributes.next_hop
        if any(gateway):
            return f"via {ip_address(gateway[:16])} on {path.interface or '?'}", ()
        return "blackhole" if path.interface is None else f"dev {path.interface}", ()

    def _static(self, nlri: bytes, route: OriginatedRoute, mark: str) -> str:
        """A static route that is in no RIB."""
        name = PROTOCOL_OF[SourceKind.STATIC]
        way = "blackhole"
        if route.gateway is not None:
            hop = None if self._next_hops is None else self._next_hops.static(self._family, nlri)
            ways = () if hop is None else hop.ways
            if self._next_hops is None:
                way = f"via {route.gateway} on ?"
            else:
                way = f"via {ways[0].gateway} on {ways[0].interface}" if ways else "unreachable"
        return f"{way} [{name} {self._since[name]}]{mark} ({PREFERENCE[SourceKind.STATIC]})"

    def _details(self, path: Path, attributes: AttributeSet | None) -> Block:
        key = (path, attributes)
        known = self._attributes.get(key)
        if known is None:
            if len(self._attributes) >= REMEMBERED:
                self._attributes.clear()
            known = self._attributes[key] = block(_detail_lines(path, attributes))
        return known


def _detail_lines(path: Path, attributes: AttributeSet | None) -> Iterator[Line]:
    """Type and attributes (rta_show in nest/rt-attr.c)."""
    kind = path.source.kind
    yield Line(ROUTE_DETAILS, f"\tType: {_TYPES[kind]} unicast univ")
    if kind.bgp or attributes is not None:
        received = attribute_lines(path.attributes, path.local_pref)
        for text in received if attributes is None else attribute_lines(attributes):
            yield Line(ROUTE_ATTRIBUTES, text)
    if kind is SourceKind.KERNEL:
        yield Line(ROUTE_ATTRIBUTES, f"\tKernel.metric: {path.metric or 0}")


def _from(path: Path, gateway: bytes) -> str:
    address = path.source.address
    return "" if address == gateway else f" from {ip_address(address)}"


def _info(path: Path, attributes: AttributeSet) -> str:
    """Preference; of BGP routes the cost of the next hop, the AS where the route began, and its origin."""
    if not path.source.kind.bgp:
        return f"({path.preference})"
    stale = "s" if LLGR_STALE in attributes.communities else ""
    began = origin_as(attributes)
    origin = f"AS{began}" if began is not None else ""
    cost = _cost(path.hop)
    return f"({path.preference}{stale}/{cost}) [{origin}{ORIGIN_LETTERS[attributes.origin]}]"


def _cost(hop: NextHopState | None) -> str:
    if hop is None:
        return "?"
    if hop.cost is None:
        return "-"
    return "?" if hop.cost >= BEHIND_GATEWAY else str(hop.cost)
