"""`BGPConfiguration` and `BGPPeer`."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

import msgspec

from routed.resources.record import Record
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
    local_workload_peering_ip_v4: Address | None = None
    local_workload_peering_ip_v6: Address | None = None


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
