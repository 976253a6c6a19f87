"""Why this node has no session with another one: the rules of `peerings`, each with the record and field that
it reads. For explanations; nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator

from routed.bgp.nlri import Family
from routed.intent.cluster import GLOBAL_CONFIGURATION, Neighbor
from routed.intent.peering_ends import common_addresses, is_local_end, reachable
from routed.intent.tables import Tables
from routed.intent.types import PeeringKind, SessionIntent
from routed.resources import Address, BGPConfiguration, BGPPeer, Key, Node, Problem, ReversePeering

_CONFIGURATION = Key(BGPConfiguration.kind, GLOBAL_CONFIGURATION)
_CLUSTER_ID = "spec.bgp.routeReflectorClusterID"
#: BGPPeers of which it is said why they make no peering, at most: there may be hundreds.
_SAID = 10


def rule_of(session: SessionIntent, peer: BGPPeer | None) -> tuple[str, str]:
    """Which rule makes a session, for people, and the field of its record. `peer` is that record, where it is
    a BGPPeer."""
    if session.kind is PeeringKind.MESH or peer is None:
        return "the node-to-node mesh", "spec.nodeToNodeMeshEnabled"
    remote = "spec.peerSelector" if peer.peer_selector is not None else "spec.peerIP"
    if session.kind is PeeringKind.LOCAL_WORKLOAD:
        return "a BGPPeer for local workloads", "spec.localWorkloadSelector"
    if session.reverse:
        return f"the way back of a BGPPeer of node {session.peer_node}", remote
    if session.kind is PeeringKind.GLOBAL:
        return "a BGPPeer for all nodes", remote
    if peer.node_selector is not None:
        return f"a BGPPeer for nodes with {peer.node_selector}", "spec.nodeSelector"
    return f"a BGPPeer for node {peer.node}", "spec.node"


def why_no_local_end(tables: Tables) -> Iterator[Problem]:
    """Why this node has no sessions at all."""
    if tables.options.reflector_address is not None:
        return
    key = Key(Node.kind, tables.options.node)
    local = tables.cluster.local()
    if local is None:
        yield Problem(key, "", f"there is no record of this node, {tables.options.node}: it has no sessions")
    elif not local.addresses:
        yield Problem(
            key, "spec.bgp", "this node has neither an IPv4 nor an IPv6 address: it has no sessions"
        )
    elif tables.header.router_id is None:
        reason = "this node has no IPv4 address, so no router ID: set CALICO_ROUTER_ID"
        yield Problem(key, "spec.bgp.ipv4Address", reason)


def why_no_session(tables: Tables, name: str) -> list[Problem]:
    """Why there is no session with the node `name`: what rules it out, or each rule that does not hold."""
    found = list(why_no_local_end(tables))
    local, other = tables.cluster.local(), tables.cluster.neighbor(name)
    if found or local is None:
        return found
    key = Key(Node.kind, name)
    if name == local.name:
        return [Problem(key, "", f"{name} is this node itself")]
    if other is None:
        return [Problem(key, "", f"there is no record of node {name}")]
    if not other.addresses:
        return [Problem(key, "spec.bgp", f"node {name} has neither an IPv4 nor an IPv6 address")]
    if not list(common_addresses(local, other)):
        if set(local.addresses) & set(other.addresses):
            return [Problem(key, "spec.bgp", f"node {name} has the address of this node")]
        return [Problem(key, "spec.bgp", f"this node and {name} have no address family in common")]
    found += _why_no_mesh(tables, local, other)
    peers = sorted(tables.cluster.peers.values(), key=lambda peer: peer.name)
    reasons = (_why_not_by(tables, peer, local, other) for peer in peers)
    found += [reason for reason in reasons if reason is not None][:_SAID]
    return found


def _why_no_mesh(tables: Tables, local: Neighbor, other: Neighbor) -> Iterator[Problem]:
    if tables.options.reflector_address is not None:
        return
    if not tables.cluster.configuration.node_to_node_mesh_enabled:
        reason = "the node-to-node mesh is off, and no BGPPeer is for the two nodes"
        yield Problem(_CONFIGURATION, "spec.nodeToNodeMeshEnabled", reason)
    for node in (local, other):
        if node.cluster_id is not None:
            whose = "this node" if node is local else f"node {node.name}"
            reason = f"{whose} is a route reflector: those are not in the mesh, and no BGPPeer is for both"
            yield Problem(Key(Node.kind, node.name), _CLUSTER_ID, reason)


def _why_not_by(tables: Tables, peer: BGPPeer, local: Neighbor, other: Neighbor) -> Problem | None:
    """Why a BGPPeer makes no peering of the two nodes; None where it is not about nodes like these."""
    cluster = tables.cluster
    ends = [(local, other), (other, local)]
    for ours, theirs in ends:
        if not is_local_end(cluster, peer, ours.name):
            continue
        if peer.peer_selector is not None:
            node = cluster.nodes.get(theirs.name)
            if node is not None and peer.peer_selector.matches(node.labels):
                return _no_way_back(peer, other)
            reason = f"is for node {ours.name}, but {peer.peer_selector} does not select {theirs.name}"
            return Problem(peer.key, "spec.peerSelector", reason)
        if peer.peer_ip is not None and peer.peer_ip.address in theirs.addresses:
            return _no_way_back(peer, other)
    if peer.peer_selector is not None or (
        peer.peer_ip is not None and peer.peer_ip.address in other.addresses
    ):
        return _not_for(peer, local)
    return None


def _not_for(peer: BGPPeer, local: Neighbor) -> Problem:
    """It is for other nodes."""
    if peer.node_selector is not None:
        reason = f"the BGPPeer is for nodes with {peer.node_selector}, and {local.name} is none"
        return Problem(peer.key, "spec.nodeSelector", reason)
    return Problem(peer.key, "spec.node", f"the BGPPeer is for node {peer.node}, not for {local.name}")


def _no_way_back(peer: BGPPeer, other: Neighbor) -> Problem:
    """It makes the other node peer with this one, and this one does not peer back."""
    if peer.reverse_peering is ReversePeering.MANUAL:
        reason = f"has node {other.name} peer with this one, but reversePeering is Manual: not the way back"
        return Problem(peer.key, "spec.reversePeering", reason)
    reason = f"has node {other.name} peer with this one, but by another AS or port than this one's own"
    return Problem(peer.key, "spec.asNumber", reason)


def why_no_session_with(tables: Tables, address: Address) -> list[Problem]:
    """Why there is no session with an address that is no node's."""
    found = list(why_no_local_end(tables))
    local = tables.cluster.local()
    if found or local is None:
        return found
    if address in local.addresses:
        return [Problem(Key(Node.kind, local.name), "spec.bgp", f"{address} is an address of this node")]
    named = [
        p for p in tables.cluster.peers.values() if p.peer_ip is not None and p.peer_ip.address == address
    ]
    for peer in sorted(named, key=lambda peer: peer.name)[:_SAID]:
        if not is_local_end(tables.cluster, peer, local.name):
            found.append(_not_for(peer, local))
        elif local.address(Family.of(address)) is None:
            reason = f"node {local.name} has no IPv{address.version} address: no peering with {address}"
            found.append(Problem(peer.key, "spec.peerIP", reason))
        elif not reachable(peer, address):
            reason = f"{peer.reachable_by} is not of the family of {address}: no peering is made"
            found.append(Problem(peer.key, "spec.reachableBy", reason))
        elif peer.peer_selector is not None:
            found.append(Problem(peer.key, "spec.peerIP", "is not looked at beside peerSelector"))
    return found
