"""Which service addresses this node announces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from routed.bgp.nlri import Family
from routed.intent.cluster import GLOBAL_CONFIGURATION
from routed.intent.options import Options
from routed.intent.types import OriginatedRoute, OriginKind
from routed.resources import (
    Address,
    AddressType,
    BGPConfiguration,
    EndpointSlice,
    IPFamily,
    Key,
    LoadBalancerAggregation,
    Network,
    Node,
    Service,
    ServiceType,
    TrafficPolicy,
)

EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
_ADVERTISED_TYPES = (ServiceType.CLUSTER_IP, ServiceType.NODE_PORT, ServiceType.LOAD_BALANCER)
_FAMILY_OF_SLICE = {AddressType.IPV4: IPFamily.IPV4, AddressType.IPV6: IPFamily.IPV6}


@dataclass(frozen=True, slots=True)
class ServiceRanges:
    """The ranges that services may be announced from, and how."""

    cluster: tuple[Network, ...] = ()
    external: tuple[Network, ...] = ()
    load_balancer: tuple[Network, ...] = ()
    aggregate_load_balancer: bool = True
    excluded: bool = False
    """True where the node is labelled to announce none."""

    def __bool__(self) -> bool:
        """False where service announcement is off."""
        return bool(self.cluster or self.external or self.load_balancer)

    @property
    def all(self) -> tuple[Network, ...]:
        """Every range, in the order of its text: what the kernel does not take from peers."""
        return in_text_order({*self.cluster, *self.external, *self.load_balancer})

    def of(self, family: Family, networks: Iterable[Network]) -> tuple[Network, ...]:
        """Those of one family."""
        return tuple(n for n in networks if Family.of(n) is family)


def service_ranges(configuration: BGPConfiguration, options: Options, node: Node | None) -> ServiceRanges:
    """The ranges in force for a node."""
    cluster = options.advertise_cluster_ips
    return ServiceRanges(
        cluster=configuration.service_cluster_ips if cluster is None else cluster,
        external=configuration.service_external_ips,
        load_balancer=configuration.service_load_balancer_ips,
        aggregate_load_balancer=configuration.service_load_balancer_aggregation
        is LoadBalancerAggregation.ENABLED,
        excluded=node is not None and node.labels.get(EXCLUDE_LABEL) == "true",
    )


def range_routes(ranges: ServiceRanges) -> dict[Network, OriginatedRoute]:
    """The configured ranges that are announced whole. Single addresses wait for a service that has them."""
    if ranges.excluded:
        return {}
    whole = dict.fromkeys(ranges.cluster, "serviceClusterIPs")
    for network in ranges.external:
        if not is_single(network):
            whole.setdefault(network, "serviceExternalIPs")
    if ranges.aggregate_load_balancer:
        for network in ranges.load_balancer:
            if not is_single(network):
                whole.setdefault(network, "serviceLoadBalancerIPs")
    key = Key(BGPConfiguration.kind, GLOBAL_CONFIGURATION)
    return {
        network: OriginatedRoute(
            network, OriginKind.SERVICE_RANGE, key, f"one of {field}", advertise=True, blackhole=False
        )
        for network, field in whole.items()
    }


def service_routes(
    service: Service, slices: Iterable[EndpointSlice], ranges: ServiceRanges, kubernetes_node: str
) -> dict[Network, OriginatedRoute]:
    """The addresses of one service that this node announces, as prefixes of full length.

    `slices` are the service's EndpointSlices, `kubernetes_node` this node's name in Kubernetes."""
    if not ranges or ranges.excluded:
        return {}
    reason = _why_announced(service, slices, ranges, kubernetes_node)
    if reason is None:
        return {}
    return {
        network: OriginatedRoute(
            network, OriginKind.SERVICE, service.key, f"{what}, {reason}", advertise=True, blackhole=False
        )
        for network, what in _addresses(service, ranges)
    }


def _why_announced(
    service: Service, slices: Iterable[EndpointSlice], ranges: ServiceRanges, kubernetes_node: str
) -> str | None:
    """Why this node announces the service's own addresses; None: it does not."""
    if service.type not in _ADVERTISED_TYPES or not service.cluster_ips:
        return None
    local = service.external_traffic_policy is TrafficPolicy.LOCAL
    if not local and _has_single(service.load_balancer_ingress_ips, ranges.load_balancer):
        return "configured as a single load-balancer address"
    if not local and _has_single(service.external_ips, ranges.external):
        return "configured as a single external address"
    if not local and ranges.aggregate_load_balancer:
        return None
    families = _families(service)
    for endpoint_slice in slices:
        if families and _FAMILY_OF_SLICE.get(endpoint_slice.address_type) not in families:
            continue
        for endpoint in endpoint_slice.endpoints:
            if endpoint.ready and (not local or endpoint.node_name == kubernetes_node):
                return "ready endpoint on this node" if local else "ready endpoint, aggregation disabled"
    return None


def _families(service: Service) -> frozenset[IPFamily]:
    if service.ip_families:
        return frozenset(service.ip_families)
    return frozenset(map(IPFamily.of, service.cluster_ips))


def _addresses(service: Service, ranges: ServiceRanges) -> Iterator[tuple[Network, str]]:
    if ranges.cluster:
        yield from ((ip_network(ip), "cluster IP") for ip in service.cluster_ips)
    yield from (
        (ip_network(ip), "external IP") for ip in service.external_ips if _within(ip, ranges.external)
    )
    for ip in service.load_balancer_ingress_ips:
        if _within(ip, ranges.load_balancer):
            yield ip_network(ip), "load-balancer IP"


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _has_single(addresses: Iterable[Address], networks: Iterable[Network]) -> bool:
    """Whether one of the addresses is configured by itself, as a prefix of full length."""
    singles = {network.network_address for network in networks if is_single(network)}
    return any(address in singles for address in addresses)


def is_single(network: Network) -> bool:
    """True for a prefix of full length."""
    return network.prefixlen == network.max_prefixlen


def in_text_order(networks: Iterable[Network]) -> tuple[Network, ...]:
    """Sorted by their text, as Calico's confd lists them: 192.168.221.192/26 before 192.168.221.64/26."""
    return tuple(sorted(networks, key=str))


class ServiceTable:
    """Services with their EndpointSlices, by `namespace/name`."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self._slices: dict[str, dict[Key, EndpointSlice]] = {}

    def set_service(self, before: Service | None, after: Service | None) -> str:
        """Replaces a service; its `namespace/name`."""
        record = after or before
        assert record is not None
        name = record.key.name
        if after is None:
            self.services.pop(name, None)
        else:
            self.services[name] = after
        return name

    def set_slice(self, before: EndpointSlice | None, after: EndpointSlice | None) -> set[str]:
        """Replaces an EndpointSlice; the names of the services that have or had it."""
        names: set[str] = set()
        if before is not None and (name := _service_of(before)):
            names.add(name)
            self._slices[name].pop(before.key, None)
            if not self._slices[name]:
                del self._slices[name]
        if after is not None and (name := _service_of(after)):
            names.add(name)
            self._slices.setdefault(name, {})[after.key] = after
        return names

    def slices(self, name: str) -> Mapping[Key, EndpointSlice]:
        """The EndpointSlices of a service."""
        return self._slices.get(name, {})


def _service_of(endpoint_slice: EndpointSlice) -> str | None:
    return (
        f"{endpoint_slice.namespace}/{endpoint_slice.service_name}" if endpoint_slice.service_name else None
    )
