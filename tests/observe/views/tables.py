"""Tables of a speaker without the speaker: what the views of routes look at, filled by hand."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any, cast

from routed.bgp.nlri import Family, from_network
from routed.bgp.path import Path, PathFilter, Router, Source, SourceKind
from routed.bgp.rib import LocRib
from routed.bgp.speaker import Speaker
from routed.observe.events import EventLog
from routed.observe.observed import Observed
from routed.observe.route_changes import RouteChanges

OUR_AS = 64512
ROUTER = Router(router_id=bytes((10, 0, 0, 1)), addresses=frozenset({bytes((10, 0, 0, 1))}))


def nlri(text: str) -> tuple[Family, bytes]:
    """The family and the NLRI of a prefix."""
    network = ip_network(text)
    return Family.of(network), from_network(network)


def source(number: int, kind: SourceKind = SourceKind.IBGP, **fields: Any) -> Source:
    """Peer `number`."""
    address = ip_address(f"10.0.0.{number}").packed
    remote_as = OUR_AS if kind is SourceKind.IBGP else 65000 + number
    return Source(
        f"peer{number}",
        kind,
        ROUTER,
        address=address,
        router_id=address,
        remote_as=remote_as,
        local_as=OUR_AS,
        **fields,
    )


def rejecting(rejected: Collection[bytes]) -> PathFilter:
    """An import policy that turns these prefixes down."""

    def policy(one: bytes, path: Path) -> Path:
        return path.source.rejected_path(path, "rejected by the test") if one in rejected else path

    return policy


class Tables:
    """Loc-RIBs, and what is observed of them."""

    def __init__(self, **parts: Any) -> None:
        self.ribs = {family: LocRib(family) for family in Family}
        events = EventLog()
        self.observed = Observed(
            node="node-1",
            speaker=cast(Speaker, SimpleNamespace(ribs=self.ribs, peers={})),
            events=events,
            route_changes=RouteChanges(self.ribs, events),
            **parts,
        )
