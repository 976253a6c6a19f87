"""The records of a cluster, indexed for the compiler: what one node sees when it looks at another."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_interface

from routed.bgp.nlri import Family
from routed.intent.local_workloads import EndpointStatus
from routed.intent.options import Options
from routed.intent.types import Interface
from routed.resources import (
    DEFAULT_LISTEN_PORT,
    Address,
    BGPConfiguration,
    BGPFilter,
    BGPPeer,
    Node,
    Secret,
    SecretKeyRef,
    SecretValue,
)

GLOBAL_CONFIGURATION = "default"
NODE_CONFIGURATION_PREFIX = "node."
NO_CONFIGURATION = BGPConfiguration(name=GLOBAL_CONFIGURATION)


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A node as a peering sees it: what its record says, or the global configuration where that is silent."""

    name: str
    ipv4: Interface | None
    ipv6: Interface | None
    as_number: int
    cluster_id: IPv4Address | None
    port: int | None
    """None: no record sets a listen port, so it is 179."""

    def interface(self, family: Family) -> Interface | None:
        """The node's BGP address of a family with its subnet."""
        return self.ipv4 if family is Family.IPV4 else self.ipv6

    def address(self, family: Family) -> Address | None:
        """The node's BGP address of a family."""
        interface = self.interface(family)
        return None if interface is None else interface.ip

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Its BGP addresses."""
        return tuple(interface.ip for interface in (self.ipv4, self.ipv6) if interface is not None)

    @property
    def effective_port(self) -> int:
        """Where it listens."""
        return DEFAULT_LISTEN_PORT if self.port is None else self.port


class Cluster:
    """All records that peerings and policy depend on, by name, and the indexes to look them up."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.configuration = NO_CONFIGURATION
        self.node_configurations: dict[str, BGPConfiguration] = {}
        self.nodes: dict[str, Node] = {}
        self.peers: dict[str, BGPPeer] = {}
        self.filters: dict[str, BGPFilter] = {}
        self.secrets: dict[str, Secret] = {}
        self.workloads: dict[str, dict[str, EndpointStatus]] = {}
        """Endpoint statuses by the BGPPeer they name, then by file name."""
        self._nodes_by_address: dict[Address, set[str]] = {}

    def set_node(self, name: str, node: Node | None) -> None:
        """Puts in the record of a node, or takes it out."""
        before = self.nodes.pop(name, None)
        for address in _addresses(before):
            names = self._nodes_by_address[address]
            names.discard(name)
            if not names:
                del self._nodes_by_address[address]
        if node is not None:
            self.nodes[name] = node
            for address in _addresses(node):
                self._nodes_by_address.setdefault(address, set()).add(name)

    def set_workload(self, before: EndpointStatus | None, after: EndpointStatus | None) -> None:
        """Replaces one endpoint status by another of the same file."""
        if before is not None and before.bgp_peer_name:
            self.workloads[before.bgp_peer_name].pop(before.name, None)
            if not self.workloads[before.bgp_peer_name]:
                del self.workloads[before.bgp_peer_name]
        if after is not None and after.bgp_peer_name:
            self.workloads.setdefault(after.bgp_peer_name, {})[after.name] = after

    def nodes_with(self, address: Address) -> list[str]:
        """Names of the nodes with this BGP address, in order: more than one is a fault of the records."""
        return sorted(self._nodes_by_address.get(address, ()))

    def neighbor(self, name: str) -> Neighbor | None:
        """A node of the cluster; None: there is no record of it."""
        node = self.nodes.get(name)
        if node is None:
            return None
        own = self.node_configurations.get(name)
        port = own.listen_port if own is not None and own.listen_port is not None else None
        return Neighbor(
            name,
            node.ipv4_address,
            node.ipv6_address,
            self.configuration.as_number if node.as_number is None else node.as_number,
            node.route_reflector_cluster_id,
            self.configuration.listen_port if port is None else port,
        )

    def local(self) -> Neighbor | None:
        """This node, or the reflector, as its peers see it."""
        address = self.options.reflector_address
        if address is None:
            return self.neighbor(self.options.node)
        interface = ip_interface(address)
        return Neighbor(
            self.options.node,
            interface if interface.version == 4 else None,
            interface if interface.version == 6 else None,
            self.options.reflector_as or self.configuration.as_number,
            self.options.reflector_cluster_id,
            None,
        )

    def password(self, ref: SecretKeyRef) -> SecretValue | None:
        """The value that a `secretKeyRef` names; None: the Secret or the key is missing, or empty."""
        secret = self.secrets.get(ref.name)
        value = None if secret is None else secret.data.get(ref.key)
        return value if value is not None and value.reveal() else None


def _addresses(node: Node | None) -> tuple[Address, ...]:
    if node is None:
        return ()
    return tuple(i.ip for i in (node.ipv4_address, node.ipv6_address) if i is not None)
