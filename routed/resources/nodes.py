"""`Node`, in Calico's form or Kubernetes', and `CalicoNodeStatus`."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import ClassVar

from routed.resources import readers
from routed.resources.fields import Fields
from routed.resources.record import Header, Record
from routed.resources.values import Network


class Node(Record, frozen=True, kw_only=True, gc=False):
    """A node of the cluster. Addresses carry the length of the node's subnet (an address alone: 32 or 128).

    Calico's form has all fields but `pod_cidrs` in `spec`. Kubernetes' has them in annotations, and
    `pod_cidrs` is its `spec.podCIDRs`, or `spec.podCIDR` where that alone is given."""

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
    """A request for a node's status, to be written every `update_period_seconds` (None: Calico's default, 10
    seconds; 0: not at all)."""

    kind: ClassVar[str] = "CalicoNodeStatus"

    node: str
    classes: tuple[NodeStatusClass, ...] = ()
    update_period_seconds: int | None = None


def read_node(header: Header, document: Fields) -> Node:
    """A Node from a document of either form; faults go to the document's `faults`."""
    return (
        _read_kubernetes_node(header, document)
        if header.api_version == "v1"
        else _read_calico_node(header, document)
    )


def _read_calico_node(header: Header, document: Fields) -> Node:
    spec = document.section("spec")
    bgp, wireguard = spec.section("bgp"), spec.section("wireguard")
    return Node(
        name=header.name,
        labels=header.labels,
        ipv4_address=bgp.read("ipv4Address", readers.ipv4_interface),
        ipv6_address=bgp.read("ipv6Address", readers.ipv6_interface),
        as_number=bgp.read("asNumber", readers.as_number),
        route_reflector_cluster_id=bgp.read("routeReflectorClusterID", readers.ipv4_address),
        ipv4_ipip_tunnel_addr=bgp.read("ipv4IPIPTunnelAddr", readers.ipv4_address),
        wireguard_interface_ipv4_address=wireguard.read("interfaceIPv4Address", readers.ipv4_address),
        wireguard_interface_ipv6_address=wireguard.read("interfaceIPv6Address", readers.ipv6_address),
    )


def _read_kubernetes_node(header: Header, document: Fields) -> Node:
    annotations = document.section("metadata").section("annotations")
    spec = document.section("spec")
    pod_cidrs = spec.read_list("podCIDRs", readers.network)
    if not pod_cidrs and (pod_cidr := spec.read("podCIDR", readers.network)) is not None:
        pod_cidrs = (pod_cidr,)
    return Node(
        name=header.name,
        labels=header.labels,
        ipv4_address=annotations.read("projectcalico.org/IPv4Address", readers.ipv4_interface),
        ipv6_address=annotations.read("projectcalico.org/IPv6Address", readers.ipv6_interface),
        as_number=annotations.read("projectcalico.org/ASNumber", readers.as_number),
        route_reflector_cluster_id=annotations.read(
            "projectcalico.org/RouteReflectorClusterID", readers.ipv4_address
        ),
        ipv4_ipip_tunnel_addr=annotations.read("projectcalico.org/IPv4IPIPTunnelAddr", readers.ipv4_address),
        wireguard_interface_ipv4_address=annotations.read(
            "projectcalico.org/IPv4WireguardInterfaceAddr", readers.ipv4_address
        ),
        wireguard_interface_ipv6_address=annotations.read(
            "projectcalico.org/IPv6WireguardInterfaceAddr", readers.ipv6_address
        ),
        pod_cidrs=pod_cidrs,
    )


def read_calico_node_status(header: Header, document: Fields) -> CalicoNodeStatus:
    """A CalicoNodeStatus from a document; faults go to the document's `faults`."""
    spec = document.section("spec")
    return CalicoNodeStatus(
        name=header.name,
        labels=header.labels,
        node=spec.required("node", readers.name),
        classes=spec.read_list("classes", readers.one_of(NodeStatusClass)),
        update_period_seconds=spec.read("updatePeriodSeconds", readers.integer(0, 86400)),
    )
