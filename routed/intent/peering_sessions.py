"""The sessions that the mesh or a BGPPeer asks for, each with its slot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from routed.bgp.nlri import Family
from routed.intent.cluster import GLOBAL_CONFIGURATION, Cluster, Neighbor
from routed.intent.peering_ends import (
    GLOBAL_RANK,
    NODE_RANK,
    REVERSE_RANK,
    common_addresses,
    is_local_end,
    peer_as_number,
    reachable,
)
from routed.intent.types import NextHopMode, PeeringKind, SessionIntent
from routed.resources import (
    DEFAULT_LISTEN_PORT,
    Address,
    BGPConfiguration,
    BGPPeer,
    Key,
    SecretKeyRef,
    SecretValue,
    SourceAddress,
)

DEFAULT_RESTART_TIME = 120
MESH_KEY = Key(BGPConfiguration.kind, GLOBAL_CONFIGURATION)
"""The record that asks for the mesh."""

Slot = tuple[bool, Address, int]
"""Mesh or not, peer address, peer port: of the sessions that say one slot only the first by rank is made."""

_KINDS = {GLOBAL_RANK: PeeringKind.GLOBAL, NODE_RANK: PeeringKind.NODE}


def mesh_sessions(cluster: Cluster, name: str, local: Neighbor) -> Iterator[tuple[Slot, SessionIntent]]:
    """The mesh: this node with the node `name`."""
    configuration = cluster.configuration
    other = cluster.neighbor(name)
    if (
        not configuration.node_to_node_mesh_enabled
        or cluster.options.reflector_address is not None
        or local.cluster_id is not None
        or other is None
        or name == local.name
        or other.cluster_id is not None
    ):
        return
    restart_time = configuration.node_mesh_max_restart_time
    for family, ours, theirs in common_addresses(local, other):
        explicit = {"port": other.port, "restart_time": restart_time}
        yield (
            (True, theirs, 0),
            SessionIntent(
                name=peering_name(PeeringKind.MESH, theirs, None),
                kind=PeeringKind.MESH,
                family=family,
                peer_address=theirs,
                port=other.effective_port,
                peer_as=other.as_number,
                local_as=local.as_number,
                source_address=ours,
                passive=dials_us(ours, theirs),
                record=MESH_KEY,
                peer_node=other.name,
                restart_time=_restart_time(restart_time),
                password=_password(cluster, configuration.node_mesh_password),
                explicit=frozenset(name for name, value in explicit.items() if value is not None),
            ),
        )


def peer_sessions(
    cluster: Cluster, peer: BGPPeer, rank: int, other: str, local: Neighbor
) -> Iterable[tuple[Slot, SessionIntent]]:
    """What a BGPPeer asks of this node, as its local end (`rank` GLOBAL_RANK or NODE_RANK) or as its remote
    end (REVERSE_RANK), with `other`: a node, a workload, or nothing where the record gives an address."""
    if rank == REVERSE_RANK:
        return _reverse(cluster, peer, other, local)
    if peer.peer_selector is not None:
        return _selected(cluster, peer, rank, other, local)
    if peer.local_workload_selector is not None:
        return _workload(cluster, peer, other, local)
    return () if other else _addressed(cluster, peer, rank, local)


def _selected(
    cluster: Cluster, peer: BGPPeer, rank: int, name: str, local: Neighbor
) -> Iterator[tuple[Slot, SessionIntent]]:
    """`peerSelector`: this node, a local end, with one selected node."""
    node, other = cluster.nodes.get(name), cluster.neighbor(name)
    if node is None or other is None or name == local.name or peer.peer_selector is None:
        return
    if not peer.peer_selector.matches(node.labels):
        return
    kind = _KINDS[rank]
    for family, ours, theirs in common_addresses(local, other):
        yield _session(cluster, peer, kind, family, ours, theirs, other.port, other.as_number, local, other)


def _addressed(
    cluster: Cluster, peer: BGPPeer, rank: int, local: Neighbor
) -> Iterator[tuple[Slot, SessionIntent]]:
    """`peerIP`: this node, a local end, with one address."""
    if peer.peer_ip is None:
        return
    theirs, port = peer.peer_ip
    family = Family.of(theirs)
    ours = local.address(family)
    if ours is None or theirs in local.addresses or not reachable(peer, theirs):
        return
    others = [n for name in cluster.nodes_with(theirs) if (n := cluster.neighbor(name))]
    other = others[0] if others else None
    peer_as = peer_as_number(cluster, peer)
    if port is None:
        # Only a node of the same AS is taken to be the peer meant; another router may have its address.
        port = next((n.port for n in others if n.as_number == peer_as), None)
    yield _session(
        cluster,
        peer,
        _KINDS[rank],
        family,
        ours,
        theirs,
        port,
        peer_as,
        local,
        other,
        passive=rank == GLOBAL_RANK and other is not None and dials_us(ours, theirs),
    )


def _workload(
    cluster: Cluster, peer: BGPPeer, name: str, local: Neighbor
) -> Iterator[tuple[Slot, SessionIntent]]:
    """`localWorkloadSelector`: this node with one workload on it."""
    status = cluster.workloads.get(peer.name, {}).get(name)
    if status is None or peer.as_number is None:
        return
    firsts = (
        (Family.IPV4, status.ipv4_addresses[:1]),
        (Family.IPV6, status.ipv6_addresses[:1]),
    )
    for family, addresses in firsts:
        ours = local.address(family)
        for theirs in addresses:
            if ours is not None and theirs not in local.addresses and reachable(peer, theirs):
                yield _session(
                    cluster,
                    peer,
                    PeeringKind.LOCAL_WORKLOAD,
                    family,
                    None,
                    theirs,
                    None,
                    peer.as_number,
                    local,
                    None,
                    passive=True,
                )


def _reverse(
    cluster: Cluster, peer: BGPPeer, name: str, local: Neighbor
) -> Iterator[tuple[Slot, SessionIntent]]:
    """This node, a remote end, back to one of the local ends."""
    other = cluster.neighbor(name)
    if other is None or name == local.name or not is_local_end(cluster, peer, name):
        return
    # The local end may speak as another AS than its own towards us.
    peer_as = other.as_number if peer.local_as_number is None else peer.local_as_number
    for family, ours, theirs in common_addresses(local, other):
        if peer.peer_selector is None and peer.peer_ip and peer.peer_ip.address.version != ours.version:
            continue
        yield _session(
            cluster,
            peer,
            PeeringKind.NODE,
            family,
            ours,
            theirs,
            other.port,
            peer_as,
            local,
            other,
            reverse=True,
        )


def _session(
    cluster: Cluster,
    peer: BGPPeer,
    kind: PeeringKind,
    family: Family,
    ours: Address | None,
    theirs: Address,
    port: int | None,
    peer_as: int,
    local: Neighbor,
    other: Neighbor | None,
    *,
    passive: bool = False,
    reverse: bool = False,
) -> tuple[Slot, SessionIntent]:
    """The session that a BGPPeer asks for with one address."""
    reflector = cluster.options.reflector_address is not None
    local_as = local.as_number
    if reflector and cluster.options.reflector_as is None:
        local_as = peer_as_number(cluster, peer)
    if not reverse and peer.local_as_number is not None:
        local_as = peer.local_as_number
    ibgp = peer_as == local_as
    explicit = {
        "port": port,
        "local_as": None if reverse else peer.local_as_number,
        "restart_time": peer.max_restart_time,
    }
    session = SessionIntent(
        name=peering_name(kind, theirs, port),
        kind=kind,
        family=family,
        peer_address=theirs,
        port=DEFAULT_LISTEN_PORT if port is None else port,
        peer_as=peer_as,
        local_as=local_as,
        source_address=ours if peer.source_address is SourceAddress.USE_NODE_IP else None,
        # Calico nodes always dial a peer that is no node of their cluster.
        passive=passive or reflector,
        record=peer.key,
        reverse=reverse,
        peer_node=None if other is None else other.name,
        route_reflector_client=ibgp and _is_client(cluster, local, other),
        next_hop_mode=_next_hop_mode(peer, ibgp),
        restart_time=_restart_time(peer.max_restart_time),
        keepalive_time=None if peer.keepalive_time is None else _rounded(peer.keepalive_time),
        allowed_local_as=peer.num_allowed_local_as_numbers or 0,
        ttl_security_hops=peer.ttl_security,
        # The gateway is one of the local ends', not ours.
        reachable_by=None if reverse or not reachable(peer, theirs) else peer.reachable_by,
        # A reflector without a record has no part in what the nodes filter.
        filters=() if reflector else peer.filters,
        password=_password(cluster, peer.password),
        explicit=frozenset(name for name, value in explicit.items() if value is not None),
    )
    return (False, theirs, session.port), session


def _is_client(cluster: Cluster, local: Neighbor, other: Neighbor | None) -> bool:
    if cluster.options.reflector_address is not None:
        return True
    return local.cluster_id is not None and (other is None or other.cluster_id != local.cluster_id)


def _password(cluster: Cluster, reference: SecretKeyRef | None) -> SecretValue | None:
    return None if reference is None else cluster.password(reference)


def dials_us(ours: Address, theirs: Address) -> bool:
    """Which of two nodes waits to be dialled: the one whose address sorts first *as a string*, as in Calico's
    confd; any other order makes both ends wait where routed and BIRD nodes are mixed."""
    return str(theirs) > str(ours)


def peering_name(kind: PeeringKind, address: Address, port: int | None) -> str:
    """`Mesh_10_0_0_1`, `Node_fd00__1_port_1790`; `port` where a record sets one."""
    name = f"{kind.value}_{str(address).replace('.', '_').replace(':', '_')}"
    return name if port is None else f"{name}_port_{port}"


def _next_hop_mode(peer: BGPPeer, ibgp: bool) -> NextHopMode:
    if peer.next_hop_mode is not None:
        return NextHopMode(peer.next_hop_mode.value)
    return NextHopMode.KEEP if peer.keep_original_next_hop and not ibgp else NextHopMode.AUTO


def _rounded(seconds: float) -> int:
    """To whole seconds, halves up (as Go's math.Round; Python's round goes to even)."""
    return int(seconds + 0.5)


def _restart_time(seconds: float | None) -> int:
    return DEFAULT_RESTART_TIME if seconds is None else _rounded(seconds)
