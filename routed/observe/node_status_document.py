"""`CalicoNodeStatus.status`: what Calico's API (projectcalico.org/v3, CalicoNodeStatusStatus) has fields for.

Calico tells IPv4 and IPv6 apart, since it has a BIRD for each; here one process is both. Times are RFC 3339
in UTC.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Any, Final

from routed.bgp.bestpath import multipath
from routed.bgp.fsm import STATE_NAMES, State
from routed.bgp.nlri import Family
from routed.bgp.peer import Peer
from routed.intent.types import PeeringKind
from routed.observe.documents import Route
from routed.observe.events import EventKind
from routed.observe.observed import Observed
from routed.observe.views.route_fields import RouteFields
from routed.observe.views.text import time_text
from routed.resources import NodeStatusClass

Document = dict[str, Any]

#: Routes of a family that are told at most: an object of Kubernetes has 1.5 MB, in etcd. Calico tells all,
#: and fails where they are too many.
MOST_ROUTES: Final = 2_000
#: Prefixes that are looked at before the event loop turns.
PORTION: Final = 200

_FAMILIES: Final = {Family.IPV4: "V4", Family.IPV6: "V6"}
#: A workload on the node is a peer of the node's, and so is one that no record names.
_PEER_TYPES: Final = {PeeringKind.MESH: "NodeMesh", PeeringKind.GLOBAL: "GlobalPeer"}
_SOURCES: Final = {"static": "Static", "allocated": "Static", "direct": "Direct", "kernel": "Kernel"}


async def node_status(observed: Observed, classes: tuple[NodeStatusClass, ...]) -> Document:
    """The status, of these classes; the event loop turns in between."""
    status: Document = {}
    for one in dict.fromkeys(classes):
        name, make = _CLASSES[one]
        status[name] = await make(observed)
    return {"lastUpdated": time_text(time.time()), **status}


async def _agent(observed: Observed) -> Document:
    """CalicoNodeAgentStatus."""
    speaker = observed.speaker
    router_id = speaker.config.router_id
    daemon = {
        "state": "Ready" if speaker.converged else "NotReady",
        "version": f"routed {observed.version}",
        "routerID": ".".join(map(str, router_id)) if any(router_id) else "",
        "lastBootTime": time_text(observed.started_at),
        "lastReconfigurationTime": time_text(_reconfigured_at(observed)),
    }
    return {f"bird{suffix}": daemon for suffix in _FAMILIES.values()}


def _reconfigured_at(observed: Observed) -> float:
    datastore = observed.datastore
    changed = None if datastore is None else datastore.changed_at
    return observed.started_at if changed is None else changed


async def _bgp(observed: Observed) -> Document:
    """CalicoNodeBGPStatus. Peers are of the family of their address."""
    fell: dict[str, float] = {}
    for event in observed.events.latest(kinds=(EventKind.PEER_ADDED, EventKind.SESSION_DOWN)):
        if event.peer is not None:
            fell[event.peer] = event.time
    status: Document = {}
    for suffix in _FAMILIES.values():
        status |= {f"numberEstablished{suffix}": 0, f"numberNotEstablished{suffix}": 0, f"peers{suffix}": []}
    peers = sorted(observed.speaker.peers.values(), key=lambda peer: peer.config.remote.address.packed)
    for number, peer in enumerate(peers, 1):
        suffix = f"V{peer.config.remote.address.version}"
        count = "Established" if peer.session.state is State.ESTABLISHED else "NotEstablished"
        status[f"number{count}{suffix}"] += 1
        status[f"peers{suffix}"].append(_peer(observed, peer, fell))
        if number % PORTION == 0:
            await asyncio.sleep(0)
    return status


def _peer(observed: Observed, peer: Peer, fell: Mapping[str, float]) -> Document:
    """CalicoNodePeer. `fell`: when it was lost last, or came to be."""
    established_at = peer.session.established_at
    since = fell.get(peer.name, observed.started_at)
    if established_at is not None:
        since = time.time() - (observed.speaker.loop.time() - established_at)
    return {
        "peerIP": str(peer.config.remote.address),
        "type": _PEER_TYPES.get(_kind(observed, peer.name), "NodePeer"),
        "state": STATE_NAMES[peer.session.state],
        "since": time_text(since),
    }


def _kind(observed: Observed, name: str) -> PeeringKind:
    """Which rule of the records made the peering."""
    session = None if observed.compiler is None else observed.compiler.session(name)
    return PeeringKind.NODE if session is None else session.kind


async def _routes(observed: Observed) -> Document:
    """CalicoNodeBGPRouteStatus: Loc-RIB, the first `MOST_ROUTES` prefixes of each family in its order."""
    status: Document = {}
    for family, suffix in _FAMILIES.items():
        told = status[f"routes{suffix}"] = []
        routes = observed.speaker.ribs[family].routes
        fields = RouteFields(observed, family)
        for number, nlri in enumerate(list(islice(routes, MOST_ROUTES)), 1):
            entry = routes.get(nlri, ())
            paths = entry if isinstance(entry, tuple) else (entry,)
            sharing = multipath(paths) if paths else ()
            kept_out = fields.is_kept_out(nlri)
            for place, path in enumerate(paths):
                route = fields.route(nlri, path, best=place == 0).document()
                told.append(_route(observed, route, forwards=path in sharing and not kept_out))
            if number % PORTION == 0:
                await asyncio.sleep(0)
                fields.forget()
        del told[MOST_ROUTES:]
    return status


def _route(observed: Observed, route: Route, forwards: bool) -> Document:
    """CalicoNodeRoute: `FIB` for a path that packets take, `RIB` for what is known beside it."""
    learned: Document = {"sourceType": _SOURCES.get(route.source_kind)}
    if route.peer_address is not None:
        mesh = _kind(observed, route.source) is PeeringKind.MESH
        learned = {"sourceType": "NodeMesh" if mesh else "BGPPeer", "peerIP": route.peer_address}
    document = {"type": "FIB" if forwards else "RIB", "destination": route.prefix, "learnedFrom": learned}
    if route.next_hop is not None:
        document["gateway"] = route.next_hop
    if route.interface is not None:
        document["interface"] = route.interface
    return document


_CLASSES: Final[Mapping[NodeStatusClass, tuple[str, Callable[[Observed], Awaitable[Document]]]]] = {
    NodeStatusClass.AGENT: ("agent", _agent),
    NodeStatusClass.BGP: ("bgp", _bgp),
    NodeStatusClass.ROUTES: ("routes", _routes),
}
