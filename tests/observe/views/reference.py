"""Routes as the views should give them: slow, plain, a prefix after the other, written without a look at the
fast ones."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from routed.bgp.bestpath import why_not_best
from routed.bgp.nlri import Family, to_network
from routed.bgp.path import Path
from routed.bgp.rib import LocRib
from routed.observe.observed import Observed


def reference_routes(observed: Observed, scope: str) -> list[dict[str, Any]]:
    """All routes of scope `all`, `best` or `rejected`, where nothing is programmed into a kernel."""
    found: list[dict[str, Any]] = []
    for family in Family:
        rib = observed.speaker.ribs[family]
        everywhere = {one for table in rib.sources.values() for one in table.routes} | set(rib.routes)

        def order(one: bytes, family: Family = family) -> tuple[int, int]:
            network = to_network(one, family)
            return int(network.network_address), network.prefixlen

        for one in sorted(everywhere, key=order):
            found += [
                route
                for route in _routes(rib, one)
                if scope == "all"
                or (scope == "best" and route["best"])
                or (scope == "rejected" and route["ineligible"] is not None)
            ]
    return found


def _routes(rib: LocRib, one: bytes) -> Iterator[dict[str, Any]]:
    ranked = rib.ranked(one)
    shared = rib.multipath(one)
    for path in ranked:
        route = _route(rib, one, path)
        route["best"] = path is ranked[0]
        route["multipath"] = len(shared) > 1 and path in shared
        if path is not ranked[0]:
            winner, step = why_not_best(ranked, path)
            route["lost"] = winner.source.name, step
        yield route
    for path in rib.ineligible(one):
        yield {**_route(rib, one, path), "best": False, "multipath": False}


def _route(rib: LocRib, one: bytes, path: Path) -> dict[str, Any]:
    shown = path.attributes.describe()
    source = path.source
    return {
        "prefix": str(to_network(one, rib.family)),
        "family": rib.family.name.lower(),
        "source": source.name,
        "source_kind": source.kind.value,
        "peer_address": str(ip_address(source.address)) if source.kind.bgp else None,
        "ineligible": path.ineligible,
        "next_hop": shown["next_hop"] if any(path.attributes.next_hop) else None,
        "as_path": shown["as_path"],
        "origin": shown["origin"],
        "local_pref": shown.get("local_pref"),
        "med": shown.get("med"),
        "preference": path.preference,
        "communities": shown.get("communities", []),
        "large_communities": shown.get("large_communities", []),
        "originator_id": shown.get("originator_id"),
        "cluster_list": shown.get("cluster_list", []),
        "path_id": path.path_id if source.add_path else None,
    }
