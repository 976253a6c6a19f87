"""Static routes: what the records have the node make itself."""

from __future__ import annotations

from routed.bgp.nlri import Family, from_network
from routed.intent.types import OriginatedRoute
from routed.observe.bird.view import View


def statics(view: View) -> dict[bytes, OriginatedRoute]:
    """All of them, by NLRI."""
    compiler = view.observed.compiler
    if compiler is None:
        return {}
    return {
        from_network(network): route
        for network, route in compiler.originated.items()
        if Family.of(network) is view.family
    }


def hidden_statics(view: View) -> dict[bytes, OriginatedRoute]:
    """Those that are not for peers, and so in no RIB: the way to a peer (`reachableBy`), the blackhole of a
    block that is about to go. In BIRD's table they are as any other."""
    return {
        nlri: route
        for nlri, route in statics(view).items()
        if route.gateway is not None or not route.advertise
    }


def static_way(route: OriginatedRoute) -> str:
    """Where a static route leads, as BIRD's configuration says it."""
    return "blackhole" if route.gateway is None else f"via {route.gateway}"
