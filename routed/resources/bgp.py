"""`BGPConfiguration` and `BGPPeer`."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar

import msgspec

from routed.resources import readers
from routed.resources.fields import Fields
from routed.resources.record import Header, Record
from routed.resources.selector import Selector
from routed.resources.values import Address, CommunityValue, Network, PeerAddress, SecretKeyRef

DEFAULT_AS_NUMBER = 64512
DEFAULT_LISTEN_PORT = 179
DEFAULT_ROUTE_PRIORITY = 1024


class BindMode(StrEnum):
    """`bindMode`: which address the listener binds to."""

    NONE = "None"
    NODE_IP = "NodeIP"


class LogSeverity(StrEnum):
    """`logSeverityScreen`, written in any case."""

    TRACE = "Trace"
    DEBUG = "Debug"
    INFO = "Info"
    WARNING = "Warning"
    ERROR = "Error"
    FATAL = "Fatal"
    NONE = "None"


class LoadBalancerAggregation(StrEnum):
    """`serviceLoadBalancerAggregation`."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class ProgramClusterRoutes(StrEnum):
    """`programClusterRoutes`: which pools' learned routes BGP programs, rather than the node agent."""

    ENABLED = "Enabled"
    ENABLED_IPIP_ONLY = "EnabledIPIPOnly"
    ENABLED_NO_ENCAP_ONLY = "EnabledNoEncapOnly"
    DISABLED = "Disabled"


class NextHopMode(StrEnum):
    """`nextHopMode`."""

    AUTO = "Auto"
    SELF = "Self"
    KEEP = "Keep"


class SourceAddress(StrEnum):
    """`sourceAddress`."""

    USE_NODE_IP = "UseNodeIP"
    NONE = "None"


class ReversePeering(StrEnum):
    """`reversePeering`."""

    AUTO = "Auto"
    MANUAL = "Manual"


class Community(msgspec.Struct, frozen=True, gc=False):
    """A name for a community: `communities[]`."""

    name: str
    value: CommunityValue


class PrefixAdvertisement(msgspec.Struct, frozen=True, gc=False):
    """`prefixAdvertisements[]`: the communities that routes inside `cidr` get; a text is the name of one."""

    cidr: Network
    communities: tuple[CommunityValue | str, ...] = ()


class BGPConfiguration(Record, frozen=True, kw_only=True, gc=False):
    """BGP's settings: `default` for the cluster; `node.<name>` overrides, for one node, `listen_port`,
    `log_severity_screen` and `prefix_advertisements`: None there means not given. Times are in seconds."""

    kind: ClassVar[str] = "BGPConfiguration"

    as_number: int = DEFAULT_AS_NUMBER
    node_to_node_mesh_enabled: bool = True
    listen_port: int | None = None
    bind_mode: BindMode = BindMode.NONE
    log_severity_screen: LogSeverity | None = None
    node_mesh_password: SecretKeyRef | None = None
    node_mesh_max_restart_time: float | None = None
    communities: tuple[Community, ...] = ()
    prefix_advertisements: tuple[PrefixAdvertisement, ...] | None = None
    service_cluster_ips: tuple[Network, ...] = ()
    service_external_ips: tuple[Network, ...] = ()
    service_load_balancer_ips: tuple[Network, ...] = ()
    service_load_balancer_aggregation: LoadBalancerAggregation = LoadBalancerAggregation.ENABLED
    ignored_interfaces: tuple[str, ...] = ()
    program_cluster_routes: ProgramClusterRoutes = ProgramClusterRoutes.ENABLED_NO_ENCAP_ONLY
    ipv4_normal_route_priority: int = DEFAULT_ROUTE_PRIORITY
    ipv6_normal_route_priority: int = DEFAULT_ROUTE_PRIORITY
    local_workload_peering_ip_v4: IPv4Address | None = None
    local_workload_peering_ip_v6: IPv6Address | None = None


class BGPPeer(Record, frozen=True, kw_only=True, gc=False):
    """Who peers with whom. Which nodes: `node_selector`, else `node`, else all (a global peer).
    With whom: at least one of `peer_ip`, `peer_selector` and `local_workload_selector` is there.
    Times are in seconds."""

    kind: ClassVar[str] = "BGPPeer"

    node: str | None = None
    node_selector: Selector | None = None
    peer_ip: PeerAddress | None = None
    peer_selector: Selector | None = None
    local_workload_selector: Selector | None = None
    as_number: int | None = None
    local_as_number: int | None = None
    keep_original_next_hop: bool = False
    next_hop_mode: NextHopMode | None = None
    password: SecretKeyRef | None = None
    source_address: SourceAddress = SourceAddress.USE_NODE_IP
    max_restart_time: float | None = None
    keepalive_time: float | None = None
    num_allowed_local_as_numbers: int | None = None
    ttl_security: int | None = None
    reachable_by: Address | None = None
    filters: tuple[str, ...] = ()
    reverse_peering: ReversePeering = ReversePeering.AUTO


_PORT = readers.integer(1, 65535)
_PRIORITY = readers.integer(1, readers.MAX_METRIC)


def read_bgp_configuration(header: Header, document: Fields) -> BGPConfiguration:
    """A BGPConfiguration from a document; faults go to the document's `faults`."""
    spec = document.section("spec")
    advertisements = spec.get("prefixAdvertisements")
    return BGPConfiguration(
        name=header.name,
        labels=header.labels,
        as_number=spec.read_or("asNumber", readers.as_number, DEFAULT_AS_NUMBER),
        node_to_node_mesh_enabled=spec.read_or("nodeToNodeMeshEnabled", readers.boolean, True),
        listen_port=spec.read("listenPort", _PORT),
        bind_mode=spec.read_or("bindMode", readers.one_of(BindMode), BindMode.NONE),
        log_severity_screen=spec.read("logSeverityScreen", readers.one_of_any_case(LogSeverity)),
        node_mesh_password=_read_password(spec.section("nodeMeshPassword")),
        node_mesh_max_restart_time=spec.read("nodeMeshMaxRestartTime", readers.duration),
        communities=tuple(
            Community(entry.required("name", readers.text), entry.required("value", readers.community))
            for entry in spec.sections("communities")
        ),
        prefix_advertisements=None if advertisements is None else _read_advertisements(spec),
        service_cluster_ips=_read_service_ranges(spec, "serviceClusterIPs"),
        service_external_ips=_read_service_ranges(spec, "serviceExternalIPs"),
        service_load_balancer_ips=_read_service_ranges(spec, "serviceLoadBalancerIPs"),
        service_load_balancer_aggregation=spec.read_or(
            "serviceLoadBalancerAggregation",
            readers.one_of(LoadBalancerAggregation),
            LoadBalancerAggregation.ENABLED,
        ),
        ignored_interfaces=spec.read_list("ignoredInterfaces", readers.interface_pattern),
        program_cluster_routes=spec.read_or(
            "programClusterRoutes",
            readers.one_of(ProgramClusterRoutes),
            ProgramClusterRoutes.ENABLED_NO_ENCAP_ONLY,
        ),
        ipv4_normal_route_priority=spec.read_or("ipv4NormalRoutePriority", _PRIORITY, DEFAULT_ROUTE_PRIORITY),
        ipv6_normal_route_priority=spec.read_or("ipv6NormalRoutePriority", _PRIORITY, DEFAULT_ROUTE_PRIORITY),
        local_workload_peering_ip_v4=spec.read("localWorkloadPeeringIPV4", readers.ipv4_address),
        local_workload_peering_ip_v6=spec.read("localWorkloadPeeringIPV6", readers.ipv6_address),
    )


def _read_password(password: Fields) -> SecretKeyRef | None:
    if password.get("secretKeyRef") is None:
        return None
    reference = password.section("secretKeyRef")
    return SecretKeyRef(reference.required("name", readers.name), reference.required("key", readers.text))


def _read_advertisements(spec: Fields) -> tuple[PrefixAdvertisement, ...]:
    return tuple(
        PrefixAdvertisement(
            entry.required("cidr", readers.network),
            entry.read_list("communities", readers.community_or_name),
        )
        for entry in spec.sections("prefixAdvertisements")
    )


def _read_service_ranges(spec: Fields, name: str) -> tuple[Network, ...]:
    """Calico skips the entries without a cidr, so they are no fault."""
    ranges = (entry.read("cidr", readers.network) for entry in spec.sections(name))
    return tuple(network for network in ranges if network is not None)


def read_bgp_peer(header: Header, document: Fields) -> BGPPeer:
    """A BGPPeer from a document; faults go to the document's `faults`."""
    spec = document.section("spec")
    peer = BGPPeer(
        name=header.name,
        labels=header.labels,
        node=spec.read("node", readers.name),
        node_selector=spec.read("nodeSelector", readers.selector),
        peer_ip=spec.read("peerIP", readers.peer_address),
        peer_selector=spec.read("peerSelector", readers.selector),
        local_workload_selector=spec.read("localWorkloadSelector", readers.selector),
        as_number=spec.read("asNumber", readers.as_number),
        local_as_number=spec.read("localASNumber", readers.as_number),
        keep_original_next_hop=spec.read_or("keepOriginalNextHop", readers.boolean, False),
        next_hop_mode=spec.read("nextHopMode", readers.one_of(NextHopMode)),
        password=_read_password(spec.section("password")),
        source_address=spec.read_or(
            "sourceAddress", readers.one_of(SourceAddress), SourceAddress.USE_NODE_IP
        ),
        max_restart_time=spec.read("maxRestartTime", readers.duration),
        keepalive_time=spec.read("keepaliveTime", readers.duration),
        num_allowed_local_as_numbers=spec.read("numAllowedLocalASNumbers", readers.integer(0, 255)),
        ttl_security=spec.read("ttlSecurity", readers.integer(0, 255)),
        reachable_by=spec.read("reachableBy", readers.address),
        filters=spec.read_list("filters", readers.name),
        reverse_peering=spec.read_or("reversePeering", readers.one_of(ReversePeering), ReversePeering.AUTO),
    )
    if not spec.faults.rejected:
        _check_peer(peer, spec)
    return peer


def _check_peer(peer: BGPPeer, spec: Fields) -> None:
    """What the fields say together. Where two contradict each other Calico goes on, so those only warn."""
    if peer.peer_ip is None and peer.peer_selector is None and peer.local_workload_selector is None:
        spec.error("peerIP", "is missing: give peerIP, peerSelector or localWorkloadSelector")
    if peer.reachable_by is not None and (
        peer.peer_ip is None or peer.reachable_by.version != peer.peer_ip.address.version
    ):
        spec.error("reachableBy", "needs a peerIP of the same address family")
    if peer.node is not None and peer.node_selector is not None:
        spec.warn("node", "is not looked at beside nodeSelector: leave one of them out")
    if peer.peer_ip is not None and peer.peer_selector is not None:
        spec.warn("peerIP", "is not looked at beside peerSelector: leave one of them out")
    if peer.as_number is not None and peer.peer_selector is not None:
        spec.warn("asNumber", "is not looked at beside peerSelector: the AS is that of the selected node")
    if peer.keep_original_next_hop and peer.next_hop_mode is not None:
        spec.warn("keepOriginalNextHop", "is not looked at beside nextHopMode: leave it out")
