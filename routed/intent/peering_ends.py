"""Who is at the ends of a BGPPeer: what its selectors and addresses name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from routed.bgp.nlri import Family
from routed.intent.cluster import Cluster, Neighbor
from routed.resources import Address, BGPPeer, ReversePeering

GLOBAL_RANK, NODE_RANK, REVERSE_RANK, MESH_RANK = range(4)


@dataclass(frozen=True, slots=True)
class Role:
    """What a BGPPeer means to this node."""

    rank: int | None
    """GLOBAL_RANK or NODE_RANK where this node is a local end of it."""
    reverse: bool
    """True where this node is the remote end of it, and peers back."""

    @property
    def active(self) -> bool:
        """True where it makes sessions of this node."""
        return self.rank is not None or self.reverse


def role_of(cluster: Cluster, peer: BGPPeer) -> Role:
    """What the BGPPeer means to this node."""
    if cluster.options.reflector_address is not None:
        named = peer.peer_ip is not None and peer.peer_ip.address == cluster.options.reflector_address
        return Role(None, named)
    local = cluster.local()
    if local is None:
        return Role(None, False)
    rank = None
    if is_local_end(cluster, peer, local.name):
        rank = GLOBAL_RANK if is_global(peer) else NODE_RANK
    reverse = peer.reverse_peering is ReversePeering.AUTO and is_remote_end(cluster, peer, local)
    return Role(rank, reverse)


def is_global(peer: BGPPeer) -> bool:
    """True where the BGPPeer is for all nodes."""
    return peer.node is None and peer.node_selector is None


def is_local_end(cluster: Cluster, peer: BGPPeer, name: str) -> bool:
    """Whether the BGPPeer is one of the node `name`'s."""
    if peer.node_selector is not None:
        node = cluster.nodes.get(name)
        return node is not None and peer.node_selector.matches(node.labels)
    return peer.node is None or peer.node == name


def is_remote_end(cluster: Cluster, peer: BGPPeer, local: Neighbor) -> bool:
    """Whether the BGPPeer names the node `local` as the peer."""
    if peer.peer_selector is not None:
        node = cluster.nodes.get(local.name)
        return node is not None and peer.peer_selector.matches(node.labels)
    if peer.local_workload_selector is not None or peer.peer_ip is None:
        return False
    address, port = peer.peer_ip
    return (
        address in local.addresses
        and peer_as_number(cluster, peer) == local.as_number
        and (port is None or port == local.effective_port)
    )


def local_ends(cluster: Cluster, peer: BGPPeer) -> Iterator[str]:
    """The names of the nodes that have this BGPPeer."""
    if peer.node_selector is not None:
        selector = peer.node_selector
        yield from (name for name, node in cluster.nodes.items() if selector.matches(node.labels))
    elif peer.node is not None:
        yield peer.node
    else:
        yield from cluster.nodes


def peer_as_number(cluster: Cluster, peer: BGPPeer) -> int:
    """The AS of the peer: the record's, or the cluster's."""
    return cluster.configuration.as_number if peer.as_number is None else peer.as_number


def common_addresses(local: Neighbor, other: Neighbor) -> Iterator[tuple[Family, Address, Address]]:
    """Each family that both nodes have an address of, with ours and theirs; never one address with itself."""
    for family in Family:
        ours, theirs = local.address(family), other.address(family)
        if ours is not None and theirs is not None and ours != theirs:
            yield family, ours, theirs


def reachable(peer: BGPPeer, theirs: Address) -> bool:
    """False where `reachableBy` is of another family than the peer."""
    return peer.reachable_by is None or peer.reachable_by.version == theirs.version
