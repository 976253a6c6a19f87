"""`Node`, in Calico's form or Kubernetes', and `CalicoNodeStatus`."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import ClassVar

from routed.resources.record import Record
from routed.resources.values import Network


class Node(Record, frozen=True, kw_only=True, gc=False):
    """A node of the cluster. Addresses carry the length of the node's subnet (an address alone: 32 or 128).

    Calico's form has all fields but `pod_cidrs` in `spec`; Kubernetes' has them in annotations, and `pod_cidrs`
    is its `spec.podCIDRs`, or `spec.podCIDR` where that alone is given."""

    kind: ClassVar[str] = "Node"

    ipv4_address: IPv4Interface | None = None
    ipv6_address: IPv6Interface | None = None
    as_number: int | None = None
    route_reflector_cluster_id: IPv4Address | None = None
    ipv4_ipip_tunnel_addr: IPv4Address | None = None
    wireguard_interface_ipv4_address: IPv4Address | None = None
    wireguard_interface_ipv6_address: IPv6Address | None = None
    pod_cidrs: tuple[Network, ...] = ()


class NodeStatusClass(StrEnum):
    """What a CalicoNodeStatus asks for."""

    AGENT = "Agent"
    BGP = "BGP"
    ROUTES = "Routes"


class CalicoNodeStatus(Record, frozen=True, kw_only=True, gc=False):
    """A request for a node's status, to be written every `update_period_seconds` (0 or None: not at all)."""

    kind: ClassVar[str] = "CalicoNodeStatus"

    node: str
    classes: tuple[NodeStatusClass, ...] = ()
    update_period_seconds: int | None = None
