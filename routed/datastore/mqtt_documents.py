"""From a record back to a document, as calicoctl or kubectl would print it: one of which `parse_record` makes
an equal record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from routed.resources import (
    AddCommunity,
    BGPConfiguration,
    BGPFilter,
    BGPPeer,
    BlockAffinity,
    CalicoNodeStatus,
    EndpointSlice,
    FilterRule,
    IPAMBlock,
    IPPool,
    NamespacedRecord,
    Node,
    Operation,
    PrependASPath,
    Record,
    SecretKeyRef,
    Selector,
    Service,
)

Document = dict[str, object]

_CALICO = "projectcalico.org/v3"


def encode(record: Record) -> Document:
    """The document of a record of any kind but Secret, which has no document: for that it raises
    ValueError."""
    if record.kind not in _ENCODERS:
        raise ValueError(f"{record.key}: a {record.kind} is never written down")
    api_version, encoder = _ENCODERS[record.kind]
    metadata: Document = {"name": record.name}
    if isinstance(record, NamespacedRecord):
        metadata["namespace"] = record.namespace
    if record.labels:
        metadata["labels"] = dict(record.labels)
    document: Document = {"apiVersion": api_version, "kind": record.kind, "metadata": metadata}
    for name, part in encoder(record).items():
        if name == "annotations":
            metadata[name] = part
        else:
            document[name] = part
    return document


def _given(**fields: object) -> Document:
    """Without what is None or empty."""
    return {name: value for name, value in fields.items() if value is not None and value != []}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _texts(values: Iterable[object]) -> list[str]:
    return [str(value) for value in values]


def _selector(selector: Selector | None) -> str | None:
    """As it was written; an empty one means none, so one that selects all is spelled out."""
    return None if selector is None else selector.text or str(selector)


def _seconds(value: float | None) -> str | None:
    """As metav1.Duration, without an exponent."""
    return None if value is None else f"{Decimal(repr(value)):f}s"


def _password(reference: SecretKeyRef | None) -> Document | None:
    return None if reference is None else {"secretKeyRef": {"name": reference.name, "key": reference.key}}


def _cidrs(networks: Iterable[object]) -> list[Document]:
    return [{"cidr": str(network)} for network in networks]


def _bgp_configuration(record: BGPConfiguration) -> Document:
    spec = _given(
        asNumber=record.as_number,
        nodeToNodeMeshEnabled=record.node_to_node_mesh_enabled,
        listenPort=record.listen_port,
        bindMode=record.bind_mode,
        logSeverityScreen=record.log_severity_screen,
        nodeMeshPassword=_password(record.node_mesh_password),
        nodeMeshMaxRestartTime=_seconds(record.node_mesh_max_restart_time),
        communities=[{"name": c.name, "value": str(c.value)} for c in record.communities],
        serviceClusterIPs=_cidrs(record.service_cluster_ips),
        serviceExternalIPs=_cidrs(record.service_external_ips),
        serviceLoadBalancerIPs=_cidrs(record.service_load_balancer_ips),
        serviceLoadBalancerAggregation=record.service_load_balancer_aggregation,
        ignoredInterfaces=list(record.ignored_interfaces),
        programClusterRoutes=record.program_cluster_routes,
        ipv4NormalRoutePriority=record.ipv4_normal_route_priority,
        ipv6NormalRoutePriority=record.ipv6_normal_route_priority,
        localWorkloadPeeringIPV4=_text(record.local_workload_peering_ip_v4),
        localWorkloadPeeringIPV6=_text(record.local_workload_peering_ip_v6),
    )
    if record.prefix_advertisements is not None:  # empty is not the same as not given
        spec["prefixAdvertisements"] = [
            {"cidr": str(entry.cidr), "communities": _texts(entry.communities)}
            for entry in record.prefix_advertisements
        ]
    return {"spec": spec}


def _bgp_peer(record: BGPPeer) -> Document:
    spec = _given(
        node=record.node,
        nodeSelector=_selector(record.node_selector),
        peerIP=_text(record.peer_ip),
        peerSelector=_selector(record.peer_selector),
        localWorkloadSelector=_selector(record.local_workload_selector),
        asNumber=record.as_number,
        localASNumber=record.local_as_number,
        keepOriginalNextHop=record.keep_original_next_hop,
        nextHopMode=record.next_hop_mode,
        password=_password(record.password),
        sourceAddress=record.source_address,
        maxRestartTime=_seconds(record.max_restart_time),
        keepaliveTime=_seconds(record.keepalive_time),
        numAllowedLocalASNumbers=record.num_allowed_local_as_numbers,
        ttlSecurity=record.ttl_security,
        reachableBy=_text(record.reachable_by),
        filters=list(record.filters),
        reversePeering=record.reverse_peering,
    )
    return {"spec": spec}


def _operation(operation: Operation) -> Document:
    if isinstance(operation, AddCommunity):
        return {"addCommunity": {"value": str(operation.value)}}
    if isinstance(operation, PrependASPath):
        return {"prependASPath": {"prefix": list(operation.prefix)}}
    return {"setPriority": {"value": operation.value}}


def _rule(rule: FilterRule) -> Document:
    length = rule.prefix_length
    return _given(
        action=rule.action,
        matchOperator=rule.match_operator,
        cidr=rule.cidr_text,
        prefixLength=None if length is None else _given(min=length.min, max=length.max),
        source=rule.source,
        interface=rule.interface,
        peerType=rule.peer_type,
        communities={"values": _texts(rule.communities)} if rule.communities else None,
        asPathPrefix=list(rule.as_path_prefix),
        priority=rule.priority,
        operations=[_operation(operation) for operation in rule.operations],
    )


def _bgp_filter(record: BGPFilter) -> Document:
    spec = _given(
        exportV4=[_rule(rule) for rule in record.export_v4],
        importV4=[_rule(rule) for rule in record.import_v4],
        exportV6=[_rule(rule) for rule in record.export_v6],
        importV6=[_rule(rule) for rule in record.import_v6],
    )
    return {"spec": spec}


def _ip_pool(record: IPPool) -> Document:
    spec = _given(
        cidr=str(record.cidr),
        ipipMode=record.ipip_mode,
        vxlanMode=record.vxlan_mode,
        disableBGPExport=record.disable_bgp_export,
        disabled=record.disabled,
        nodeSelector=_selector(record.node_selector),
        blockSize=record.block_size,
        natOutgoing=record.nat_outgoing,
    )
    return {"spec": spec}


def _block_affinity(record: BlockAffinity) -> Document:
    spec = {
        "node": record.node,
        "cidr": str(record.cidr),
        "state": record.state,
        "deleted": record.deleted,
    }
    return {"spec": spec}


def _ipam_block(record: IPAMBlock) -> Document:
    attributes = [
        _given(handle_id=attribute.handle_id, secondary=dict(attribute.secondary) or None)
        for attribute in record.attributes
    ]
    spec = _given(
        cidr=str(record.cidr),
        affinity=record.affinity,
        allocations=list(record.allocations),
        attributes=attributes,
        strictAffinity=record.strict_affinity,
        deleted=record.deleted,
    )
    return {"spec": spec}


def _node(record: Node) -> Document:
    """In Kubernetes' form: only that has room for all."""
    annotations = {
        "projectcalico.org/IPv4Address": _text(record.ipv4_address),
        "projectcalico.org/IPv6Address": _text(record.ipv6_address),
        "projectcalico.org/ASNumber": _text(record.as_number),
        "projectcalico.org/RouteReflectorClusterID": _text(record.route_reflector_cluster_id),
        "projectcalico.org/IPv4IPIPTunnelAddr": _text(record.ipv4_ipip_tunnel_addr),
        "projectcalico.org/IPv4WireguardInterfaceAddr": _text(record.wireguard_interface_ipv4_address),
        "projectcalico.org/IPv6WireguardInterfaceAddr": _text(record.wireguard_interface_ipv6_address),
    }
    return {"annotations": _given(**annotations), "spec": _given(podCIDRs=_texts(record.pod_cidrs))}


def _calico_node_status(record: CalicoNodeStatus) -> Document:
    spec = _given(
        node=record.node, classes=_texts(record.classes), updatePeriodSeconds=record.update_period_seconds
    )
    return {"spec": spec}


def _service(record: Service) -> Document:
    spec = _given(
        type=record.type,
        clusterIPs=_texts(record.cluster_ips),
        externalIPs=_texts(record.external_ips),
        externalTrafficPolicy=record.external_traffic_policy,
        ipFamilies=_texts(record.ip_families),
    )
    ingress = [{"ip": str(address)} for address in record.load_balancer_ingress_ips]
    return {"spec": spec, "status": {"loadBalancer": _given(ingress=ingress)}}


def _endpoint_slice(record: EndpointSlice) -> Document:
    """The service's name is among the labels."""
    endpoints = [
        _given(nodeName=endpoint.node_name, conditions={"ready": endpoint.ready})
        for endpoint in record.endpoints
    ]
    return {"addressType": record.address_type, "endpoints": endpoints}


_Encoder = Callable[[Any], Document]
_ENCODERS: Mapping[str, tuple[str, _Encoder]] = {
    BGPConfiguration.kind: (_CALICO, _bgp_configuration),
    BGPPeer.kind: (_CALICO, _bgp_peer),
    BGPFilter.kind: (_CALICO, _bgp_filter),
    IPPool.kind: (_CALICO, _ip_pool),
    BlockAffinity.kind: (_CALICO, _block_affinity),
    IPAMBlock.kind: (_CALICO, _ipam_block),
    Node.kind: ("v1", _node),
    CalicoNodeStatus.kind: (_CALICO, _calico_node_status),
    Service.kind: ("v1", _service),
    EndpointSlice.kind: ("discovery.k8s.io/v1", _endpoint_slice),
}
