"""Why a service address is, or is not, announced by itself: the rules of `services`, each with the record and
field that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network

from routed.intent.cluster import GLOBAL_CONFIGURATION
from routed.intent.services import EXCLUDE_LABEL, ServiceRanges, is_single
from routed.intent.tables import Tables
from routed.resources import (
    Address,
    BGPConfiguration,
    EndpointSlice,
    Key,
    LoadBalancerAggregation,
    Network,
    Node,
    Problem,
    Service,
    ServiceType,
    TrafficPolicy,
)

_CONFIGURATION = Key(BGPConfiguration.kind, GLOBAL_CONFIGURATION)
#: By what of a service an address is: the field of the service, and that of the ranges it must lie in.
_FIELDS = {
    "cluster IP": ("spec.clusterIPs", "spec.serviceClusterIPs"),
    "external IP": ("spec.externalIPs", "spec.serviceExternalIPs"),
    "load-balancer IP": ("status.loadBalancer.ingress", "spec.serviceLoadBalancerIPs"),
}


def services_with(tables: Tables, address: Address) -> Iterator[tuple[Service, str]]:
    """The services that have an address, and as what: `cluster IP`, `external IP`, `load-balancer IP`."""
    for service in tables.services.services.values():
        if address in service.cluster_ips:
            yield service, "cluster IP"
        elif address in service.external_ips:
            yield service, "external IP"
        elif address in service.load_balancer_ingress_ips:
            yield service, "load-balancer IP"


def field_of(what: str) -> str:
    """The field of a Service that has such an address."""
    return _FIELDS[what][0]


def configured_ranges(ranges: ServiceRanges, network: Network) -> list[tuple[Network, str]]:
    """The configured ranges that hold a network, with the field of BGPConfiguration that lists each."""
    listed = (
        (ranges.cluster, "spec.serviceClusterIPs"),
        (ranges.external, "spec.serviceExternalIPs"),
        (ranges.load_balancer, "spec.serviceLoadBalancerIPs"),
    )
    return [
        (one, field)
        for some, field in listed
        for one in some
        if one.version == network.version
        and one.prefixlen <= network.prefixlen
        and network.network_address in one
    ]


def why_no_range(tables: Tables, network: Network) -> Problem | None:
    """Why a configured range is not announced whole; None where it is, or is no range."""
    found = [(one, field) for one, field in configured_ranges(tables.ranges, network) if one == network]
    if not found:
        return None
    if tables.ranges.excluded:
        return _excluded(tables)
    fields = {field for _, field in found}
    if "spec.serviceClusterIPs" in fields:
        return None
    if is_single(network):
        return Problem(
            _CONFIGURATION, found[0][1], "a single address is announced with the service that has it"
        )
    if "spec.serviceExternalIPs" in fields or tables.ranges.aggregate_load_balancer:
        return None
    reason = f"serviceLoadBalancerAggregation is {LoadBalancerAggregation.DISABLED.value}: the services' own "
    return Problem(_CONFIGURATION, "spec.serviceLoadBalancerAggregation", f"{reason}addresses are announced")


def why_not_announced(tables: Tables, service: Service, what: str, address: Address) -> Problem:
    """Why this node does not announce the address of a service by itself. To be asked where it does not; the
    first rule of these that fails."""
    ranges = tables.ranges
    if not ranges:
        reason = "service announcement is off: no range of services is configured"
        return Problem(_CONFIGURATION, "spec.serviceClusterIPs", reason)
    if ranges.excluded:
        return _excluded(tables)
    if service.type is ServiceType.EXTERNAL_NAME:
        return Problem(service.key, "spec.type", "a service of type ExternalName is not announced")
    if not service.cluster_ips:
        return Problem(service.key, "spec.clusterIP", "a headless service is not announced")
    _, wanted = _FIELDS[what]
    inside = any(field == wanted for _, field in configured_ranges(ranges, ip_network(address)))
    if not inside and (what != "cluster IP" or not ranges.cluster):
        return Problem(_CONFIGURATION, wanted, f"{address} is outside of {wanted.removeprefix('spec.')}")
    local = service.external_traffic_policy is TrafficPolicy.LOCAL
    if not local and ranges.aggregate_load_balancer:
        reason = "externalTrafficPolicy is Cluster: announced with its whole range, not by itself"
        return Problem(service.key, "spec.externalTrafficPolicy", reason)
    slices = list(tables.services.slices(service.key.name).values())
    return _why_no_endpoint(service, slices, tables.options.kubernetes_node, local=local)


def _why_no_endpoint(
    service: Service, slices: Sequence[EndpointSlice], kubernetes_node: str, *, local: bool
) -> Problem:
    if not slices:
        return Problem(service.key, "", "no EndpointSlice names the service: it has no endpoint")
    endpoints = [(one, endpoint) for one in slices for endpoint in one.endpoints]
    where = f" on node {kubernetes_node}" if local else ""
    here = [(one, e) for one, e in endpoints if not local or e.node_name == kubernetes_node]
    if not here:
        policy = "externalTrafficPolicy is Local, and " if local else ""
        return Problem(slices[0].key, "endpoints", f"{policy}no endpoint of it runs{where}")
    policy = "externalTrafficPolicy is Local, and " if local else ""
    if not any(endpoint.ready for _, endpoint in here):
        count = f"none of its {len(here)} endpoints{where} is ready"
        return Problem(here[0][0].key, "endpoints.conditions.ready", f"{policy}{count}")
    reason = f"{policy}no ready endpoint{where} is of the service's families"
    return Problem(here[0][0].key, "addressType", reason)


def _excluded(tables: Tables) -> Problem:
    key = Key(Node.kind, tables.options.node)
    reason = "the node's label keeps it from announcing service addresses"
    return Problem(key, f"metadata.labels[{EXCLUDE_LABEL}]", reason)
