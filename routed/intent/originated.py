"""The routes that the node makes itself: which counts where several have one prefix, and what changed."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from ipaddress import ip_network

from routed.bgp.nlri import Family, Network
from routed.intent.blocks import block_route, borrowed_route
from routed.intent.ledger import Ledger
from routed.intent.services import ServiceRanges, range_routes
from routed.intent.types import OriginatedRoute, OriginKind, SessionIntent
from routed.ipam_blocks import Verdict

# Which route counts where several have one prefix.
_BLOCK_RANK, _BORROWED_RANK, _RANGE_RANK, _SERVICE_RANK, _GATEWAY_RANK = range(5)
_STATIC_KINDS = (OriginKind.SERVICE, OriginKind.SERVICE_RANGE)


class Originated:
    """Routes by what they follow from. `set_*` replace what one source says, `take` says what changed."""

    def __init__(self) -> None:
        self._routes: Ledger[Network, OriginatedRoute] = Ledger()
        self._aggregates = {family: TextOrdered() for family in Family}
        self._statics = {family: TextOrdered() for family in Family}

    @property
    def routes(self) -> Mapping[Network, OriginatedRoute]:
        """The routes that count, in no order, as of the last `take`. Not to be changed."""
        return self._routes.values

    def aggregates(self, family: Family) -> tuple[Network, ...]:
        """The blocks that are announced, as the export policy lists them."""
        return self._aggregates[family].networks()

    def statics(self, family: Family) -> tuple[Network, ...]:
        """The services and their ranges, as the export policy lists them."""
        return self._statics[family].networks()

    def set_block(self, network: Network, verdict: Verdict) -> None:
        """What the node makes of a block."""
        owned = verdict.owned
        name = str(network)
        self._routes.put((_BLOCK_RANK, name, ""), {} if owned is None else {network: block_route(owned)})
        borrowed = {address.network: borrowed_route(address) for address in verdict.borrowed}
        self._routes.put((_BORROWED_RANK, name, ""), borrowed)

    def set_ranges(self, ranges: ServiceRanges) -> None:
        """The ranges of service addresses."""
        self._routes.put((_RANGE_RANK, "", ""), range_routes(ranges))

    def set_service(self, name: str, routes: Mapping[Network, OriginatedRoute]) -> None:
        """The routes of one service."""
        self._routes.put((_SERVICE_RANK, name, ""), routes)

    def set_gateway(self, name: str, session: SessionIntent | None) -> None:
        """The static route to the peer of the session `name`, where it is `reachableBy` a gateway."""
        routes: dict[Network, OriginatedRoute] = {}
        if session is not None and session.reachable_by is not None:
            network = ip_network(session.peer_address)
            routes[network] = OriginatedRoute(
                network,
                OriginKind.REACHABLE_BY,
                session.record,
                f"the peer of {name}",
                advertise=False,
                blackhole=False,
                gateway=session.reachable_by,
            )
        self._routes.put((_GATEWAY_RANK, name, ""), routes)

    def take(self) -> tuple[dict[Network, OriginatedRoute | None], set[Family]]:
        """The routes that are new, differ, or (None) are gone, and the families whose `aggregates` or
        `statics` that changed."""
        changed: dict[Network, OriginatedRoute | None] = {}
        listed: set[Family] = set()
        for network, (_, after) in self._routes.take().items():
            changed[network] = after
            family = Family.of(network)
            aggregate = after is not None and after.kind is OriginKind.BLOCK and after.advertise
            static = after is not None and after.kind in _STATIC_KINDS
            if self._aggregates[family].set(network, aggregate) | self._statics[family].set(network, static):
                listed.add(family)
        return changed, listed


class TextOrdered:
    """A set of networks in the order of their text; a change costs no sort of the others."""

    def __init__(self) -> None:
        self._items: list[tuple[str, Network]] = []

    def set(self, network: Network, member: bool) -> bool:
        """Puts a network in or takes it out; True where that changed anything."""
        item = (str(network), network)
        position = bisect_left(self._items, item[0], key=lambda known: known[0])
        present = position < len(self._items) and self._items[position][0] == item[0]
        if present == member:
            return False
        if member:
            insort(self._items, item, key=lambda known: known[0])
        else:
            del self._items[position]
        return True

    def networks(self) -> tuple[Network, ...]:
        """All of them."""
        return tuple(network for _, network in self._items)
