"""Every kind and field, parsed from documents that give them all."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_network
from typing import Any

import msgspec
import pytest

from routed.resources import (
    KINDS,
    Action,
    AddCommunity,
    AddressType,
    AffinityState,
    BGPConfiguration,
    BGPFilter,
    BGPPeer,
    BindMode,
    BlockAffinity,
    BlockAttribute,
    CalicoNodeStatus,
    Community,
    EncapsulationMode,
    Endpoint,
    EndpointSlice,
    FilterRule,
    IPAMBlock,
    IPFamily,
    IPPool,
    Key,
    LargeCommunity,
    LoadBalancerAggregation,
    LogSeverity,
    MatchOperator,
    NextHopMode,
    Node,
    NodeStatusClass,
    PeerAddress,
    PeerType,
    PrefixAdvertisement,
    PrefixLength,
    PrependASPath,
    ProgramClusterRoutes,
    Record,
    ReversePeering,
    Secret,
    SecretKeyRef,
    SecretValue,
    Service,
    ServiceType,
    SetPriority,
    Source,
    SourceAddress,
    StandardCommunity,
    TrafficPolicy,
    parse_record,
    parse_selector,
)
from tests.resources.documents import FULL, drop, full, put

LABELS = {"a": "b"}

RULE_V4 = FilterRule(
    action=Action.ACCEPT,
    match_operator=MatchOperator.IN,
    cidr=ip_network("10.0.0.0/8"),
    cidr_text="10.0.0.0/8",
    prefix_length=PrefixLength(16, 24),
    source=Source.REMOTE_PEERS,
    interface="eth*",
    peer_type=PeerType.EBGP,
    communities=(StandardCommunity(65000, 100), LargeCommunity(65000, 1, 2)),
    as_path_prefix=(65000, 65001),
    priority=100,
    operations=(
        AddCommunity(StandardCommunity(65000, 42)),
        PrependASPath((65000, 65001)),
        SetPriority(200),
    ),
)
RULE_V6 = msgspec.structs.replace(
    RULE_V4, cidr=ip_network("fd00::/16"), cidr_text="fd00::/16", prefix_length=PrefixLength(32, 128)
)

EXPECTED: dict[str, Record] = {
    "BGPConfiguration": BGPConfiguration(
        name="default",
        labels=LABELS,
        as_number=64600,
        node_to_node_mesh_enabled=False,
        listen_port=1790,
        bind_mode=BindMode.NODE_IP,
        log_severity_screen=LogSeverity.DEBUG,
        node_mesh_password=SecretKeyRef("bgp", "mesh"),
        node_mesh_max_restart_time=90.0,
        communities=(
            Community("standard", StandardCommunity(100, 6532)),
            Community("large", LargeCommunity(1, 2, 3)),
        ),
        prefix_advertisements=(
            PrefixAdvertisement(ip_network("10.0.0.0/8"), ("standard", StandardCommunity(65000, 1))),
        ),
        service_cluster_ips=(ip_network("10.96.0.0/12"), ip_network("fd00:96::/112")),
        service_external_ips=(ip_network("192.0.2.0/24"),),
        service_load_balancer_ips=(ip_network("198.51.100.7/32"),),
        service_load_balancer_aggregation=LoadBalancerAggregation.DISABLED,
        ignored_interfaces=("docker0", "br-*"),
        program_cluster_routes=ProgramClusterRoutes.ENABLED_IPIP_ONLY,
        ipv4_normal_route_priority=512,
        ipv6_normal_route_priority=513,
        local_workload_peering_ip_v4=IPv4Address("169.254.1.1"),
        local_workload_peering_ip_v6=IPv6Address("fe80::1"),
    ),
    "BGPPeer": BGPPeer(
        name="tor",
        labels=LABELS,
        node="node-1",
        node_selector=parse_selector("rack == 'a'"),
        peer_ip=PeerAddress(IPv4Address("10.0.0.1"), 1790),
        peer_selector=parse_selector("has(rr)"),
        local_workload_selector=parse_selector("app == 'bird'"),
        as_number=65001,
        local_as_number=65002,
        keep_original_next_hop=True,
        next_hop_mode=NextHopMode.SELF,
        password=SecretKeyRef("bgp", "tor"),
        source_address=SourceAddress.NONE,
        max_restart_time=120.0,
        keepalive_time=20.0,
        num_allowed_local_as_numbers=2,
        ttl_security=1,
        reachable_by=IPv4Address("10.0.0.254"),
        filters=("first", "second"),
        reverse_peering=ReversePeering.MANUAL,
    ),
    "BGPFilter": BGPFilter(
        name="filter",
        labels=LABELS,
        export_v4=(RULE_V4,),
        import_v4=(RULE_V4, FilterRule(action=Action.REJECT)),
        export_v6=(RULE_V6,),
        import_v6=(RULE_V6,),
    ),
    "IPPool": IPPool(
        name="pool",
        labels=LABELS,
        cidr=ip_network("192.168.0.0/16"),
        ipip_mode=EncapsulationMode.CROSS_SUBNET,
        vxlan_mode=EncapsulationMode.ALWAYS,
        disable_bgp_export=True,
        disabled=True,
        node_selector=parse_selector("has(zone)"),
        block_size=29,
        nat_outgoing=True,
    ),
    "BlockAffinity": BlockAffinity(
        name="node-1-192-168-1-0-26",
        labels=LABELS,
        node="node-1",
        cidr=ip_network("192.168.1.0/26"),
        state=AffinityState.PENDING,
        deleted=True,
    ),
    "IPAMBlock": IPAMBlock(
        name="192-168-1-0-30",
        labels=LABELS,
        cidr=ip_network("192.168.1.0/30"),
        affinity="host:node-1",
        allocations=(0, None, 1, None),
        attributes=(
            BlockAttribute("k8s-pod-network.1", {"node": "node-1", "pod": "web"}),
            BlockAttribute(None, {"node": "node-2"}),
        ),
        strict_affinity=True,
        deleted=True,
    ),
    "Node": Node(
        name="node-1",
        labels={"rack": "a"},
        ipv4_address=IPv4Interface("10.0.0.1/24"),
        ipv6_address=IPv6Interface("fd00::1/64"),
        as_number=64513,
        route_reflector_cluster_id=IPv4Address("10.0.0.9"),
        ipv4_ipip_tunnel_addr=IPv4Address("192.168.1.1"),
        wireguard_interface_ipv4_address=IPv4Address("192.168.1.2"),
        wireguard_interface_ipv6_address=IPv6Address("fd00:1::2"),
    ),
    "Node v1": Node(
        name="node-1",
        labels={"rack": "a"},
        ipv4_address=IPv4Interface("10.0.0.1/24"),
        ipv6_address=IPv6Interface("fd00::1/64"),
        as_number=64513,
        route_reflector_cluster_id=IPv4Address("10.0.0.9"),
        ipv4_ipip_tunnel_addr=IPv4Address("192.168.1.1"),
        wireguard_interface_ipv4_address=IPv4Address("192.168.1.2"),
        wireguard_interface_ipv6_address=IPv6Address("fd00:1::2"),
        pod_cidrs=(ip_network("10.244.1.0/24"), ip_network("fd00:244:1::/64")),
    ),
    "CalicoNodeStatus": CalicoNodeStatus(
        name="status",
        labels=LABELS,
        node="node-1",
        classes=(NodeStatusClass.AGENT, NodeStatusClass.BGP, NodeStatusClass.ROUTES),
        update_period_seconds=10,
    ),
    "Service": Service(
        name="web",
        namespace="shop",
        labels=LABELS,
        type=ServiceType.LOAD_BALANCER,
        cluster_ips=(ip_address("10.96.0.10"), ip_address("fd00:96::10")),
        external_ips=(ip_address("192.0.2.1"),),
        load_balancer_ingress_ips=(ip_address("198.51.100.7"),),
        external_traffic_policy=TrafficPolicy.LOCAL,
        ip_families=(IPFamily.IPV4, IPFamily.IPV6),
    ),
    "EndpointSlice": EndpointSlice(
        name="web-abc",
        namespace="shop",
        labels={"kubernetes.io/service-name": "web"},
        service_name="web",
        address_type=AddressType.IPV6,
        endpoints=(Endpoint("node-1", False), Endpoint("node-2", True), Endpoint(None, True)),
    ),
    "Secret": Secret(
        name="bgp",
        namespace="kube-system",
        labels=LABELS,
        data={
            "mesh": SecretValue(b"hunter2"),
            "empty": SecretValue(b""),
            "tor": SecretValue(b"correct horse"),
        },
    ),
}


def parsed(document: Any) -> Record:
    """The record of a document that must be good, warnings aside."""
    outcome = parse_record(document)
    assert outcome.record is not None, [str(problem) for problem in outcome.problems]
    assert outcome.key == outcome.record.key
    assert all(problem.severity == "warning" for problem in outcome.problems)
    return outcome.record


@pytest.mark.parametrize("form", FULL)
def test_every_field_is_read(form: str) -> None:
    assert parsed(full(form)) == EXPECTED[form]


def test_the_full_documents_cover_every_kind_and_field() -> None:
    """Otherwise a field that nothing reads could go unnoticed: none of the expected values is a default."""
    assert {record.kind for record in EXPECTED.values()} == set(KINDS)
    assert EXPECTED.keys() == FULL.keys()
    for form, record in EXPECTED.items():
        for info in msgspec.structs.fields(record):
            absent_in_this_form = form == "Node" and info.name == "pod_cidrs"
            assert absent_in_this_form or getattr(record, info.name) != info.default, (form, info.name)


def test_keys() -> None:
    assert EXPECTED["BGPPeer"].key == Key("BGPPeer", "tor")
    assert EXPECTED["Service"].key == Key("Service", "shop/web")
    assert parsed(drop(full("Service"), "metadata.namespace")).key == Key("Service", "default/web")


def test_records_are_immutable() -> None:
    for form in FULL:
        record = parsed(full(form))
        with pytest.raises(AttributeError):
            record.name = "other"  # type: ignore[misc]
        labels: Any = record.labels
        with pytest.raises(TypeError):
            labels["x"] = "y"


# The least that each kind needs, and what the rest is then.
LEAST: list[tuple[dict[str, Any], Record]] = [
    ({"kind": "BGPConfiguration", "spec": None}, BGPConfiguration(name="x")),
    ({"kind": "BGPConfiguration"}, BGPConfiguration(name="x")),
    (
        {"kind": "BGPPeer", "spec": {"peerIP": "fd00::1"}},
        BGPPeer(name="x", peer_ip=PeerAddress(ip_address("fd00::1"))),
    ),
    ({"kind": "BGPFilter", "spec": {}}, BGPFilter(name="x")),
    (
        {"kind": "IPPool", "spec": {"cidr": "10.0.0.0/16"}},
        IPPool(name="x", cidr=ip_network("10.0.0.0/16"), block_size=26),
    ),
    (
        {"kind": "IPPool", "spec": {"cidr": "fd00::/48"}},
        IPPool(name="x", cidr=ip_network("fd00::/48"), block_size=122),
    ),
    (
        {"kind": "BlockAffinity", "spec": {"node": "n", "cidr": "10.0.0.0/26"}},
        BlockAffinity(name="x", node="n", cidr=ip_network("10.0.0.0/26")),
    ),
    (
        {"kind": "IPAMBlock", "spec": {"cidr": "10.0.0.0/26"}},
        IPAMBlock(name="x", cidr=ip_network("10.0.0.0/26")),
    ),
    ({"kind": "Node", "spec": {}}, Node(name="x")),
    ({"kind": "Node", "apiVersion": "v1"}, Node(name="x")),
    ({"kind": "CalicoNodeStatus", "spec": {"node": "n"}}, CalicoNodeStatus(name="x", node="n")),
    ({"kind": "Service", "apiVersion": "v1"}, Service(name="x", namespace="default")),
    (
        {
            "kind": "EndpointSlice",
            "apiVersion": "discovery.k8s.io/v1",
            "addressType": "FQDN",
            "endpoints": None,
        },
        EndpointSlice(name="x", namespace="default", address_type=AddressType.FQDN),
    ),
    ({"kind": "Secret", "apiVersion": "v1"}, Secret(name="x", namespace="default")),
]


@pytest.mark.parametrize(("document", "record"), LEAST, ids=lambda value: getattr(value, "kind", ""))
def test_what_is_not_given(document: dict[str, Any], record: Record) -> None:
    assert parsed({"apiVersion": "projectcalico.org/v3", "metadata": {"name": "x"}, **document}) == record


# (form, path, value, the record's field, what it is then)
TOLERATED: list[tuple[str, str, object, str, object]] = [
    ("BGPPeer", "spec.asNumber", 4294967295, "as_number", 4294967295),
    ("BGPPeer", "spec.asNumber", "4294967295", "as_number", 4294967295),
    ("BGPPeer", "spec.asNumber", "1.10", "as_number", 65546),
    ("BGPPeer", "spec.asNumber", "0.1", "as_number", 1),
    ("BGPPeer", "spec.asNumber", "", "as_number", None),
    ("BGPPeer", "spec.nodeSelector", "", "node_selector", None),
    ("BGPPeer", "spec.node", "", "node", None),
    ("BGPPeer", "spec.nextHopMode", "", "next_hop_mode", None),
    ("BGPPeer", "spec.sourceAddress", "", "source_address", SourceAddress.USE_NODE_IP),
    ("BGPPeer", "spec.peerIP", "10.0.0.1", "peer_ip", PeerAddress(ip_address("10.0.0.1"))),
    ("BGPPeer", "spec.peerIP", "::ffff:10.0.0.1", "peer_ip", PeerAddress(ip_address("10.0.0.1"))),
    ("BGPPeer", "spec.maxRestartTime", "0", "max_restart_time", 0.0),
    ("BGPPeer", "spec.maxRestartTime", "0s", "max_restart_time", 0.0),
    ("BGPPeer", "spec.maxRestartTime", "1h2m3.5s", "max_restart_time", 3723.5),
    ("BGPPeer", "spec.maxRestartTime", "1500ms", "max_restart_time", 1.5),
    ("BGPPeer", "spec.password", {}, "password", None),
    ("BGPPeer", "spec.password", None, "password", None),
    ("BGPPeer", "spec.filters", None, "filters", ()),
    ("BGPPeer", "spec.filters", ["f" * 253], "filters", ("f" * 253,)),
    ("BGPPeer", "spec.somethingNew", {"a": 1}, "name", "tor"),
    ("BGPConfiguration", "spec.prefixAdvertisements", None, "prefix_advertisements", None),
    ("BGPConfiguration", "spec.prefixAdvertisements", [], "prefix_advertisements", ()),
    ("BGPConfiguration", "spec.logSeverityScreen", "WARNING", "log_severity_screen", LogSeverity.WARNING),
    ("BGPConfiguration", "spec.serviceExternalIPs", [{}, {"cidr": ""}], "service_external_ips", ()),
    (
        "BGPConfiguration",
        "spec.communities[0].value",
        339792,
        "communities",
        (Community("standard", StandardCommunity(5663, 12)), Community("large", LargeCommunity(1, 2, 3))),
    ),
    ("IPPool", "spec.cidr", "192.168.77.1/16", "cidr", ip_network("192.168.0.0/16")),
    ("IPPool", "spec.nodeSelector", "all()", "node_selector", parse_selector("all()")),
    ("BlockAffinity", "spec.state", "", "state", AffinityState.CONFIRMED),
    ("BlockAffinity", "spec.state", "pendingDeletion", "state", AffinityState.PENDING_DELETION),
    ("BlockAffinity", "spec.deleted", "false", "deleted", False),
    ("BlockAffinity", "spec.deleted", "", "deleted", False),
    ("BlockAffinity", "spec.deleted", True, "deleted", True),
    ("BlockAffinity", "spec.cidr", "10.0.0.1", "cidr", ip_network("10.0.0.1/32")),
    ("BlockAffinity", "metadata.labels", {"a": None}, "labels", {"a": ""}),
    ("IPAMBlock", "spec.affinity", None, "affinity", None),
    ("IPAMBlock", "spec.attributes[1].secondary", None, "allocations", (0, None, 1, None)),
    ("Node", "spec.bgp", None, "ipv4_address", None),
    ("Node", "spec.bgp.ipv4Address", "10.0.0.1", "ipv4_address", IPv4Interface("10.0.0.1/32")),
    ("Node", "spec.bgp.ipv4Address", "", "ipv4_address", None),
    ("Node v1", "metadata.annotations", None, "as_number", None),
    ("Node v1", "spec.podCIDRs", None, "pod_cidrs", (ip_network("10.244.1.0/24"),)),
    ("Service", "spec.clusterIPs", ["None"], "cluster_ips", ()),
    ("Service", "spec.clusterIPs", None, "cluster_ips", (ip_address("10.96.0.10"),)),
    ("Service", "spec.clusterIP", "None", "cluster_ips", ()),
    ("Service", "spec.ipFamilies", None, "ip_families", (IPFamily.IPV4, IPFamily.IPV6)),
    ("Service", "spec.externalTrafficPolicy", "", "external_traffic_policy", TrafficPolicy.CLUSTER),
    ("Service", "status", {}, "load_balancer_ingress_ips", ()),
]


@pytest.mark.parametrize(("form", "path", "value", "field", "expected"), TOLERATED)
def test_what_is_tolerated(form: str, path: str, value: object, field: str, expected: object) -> None:
    assert getattr(parsed(put(full(form), path, value)), field) == expected


def test_block_helpers() -> None:
    block = parsed(full("IPAMBlock"))
    assert isinstance(block, IPAMBlock)
    assert block.host == "node-1"
    assert [(str(address), attribute.node) for address, attribute in block.allocated()] == [
        ("192.168.1.0", "node-1"),
        ("192.168.1.2", "node-2"),
    ]
    assert msgspec.structs.replace(block, affinity="virtual:load-balancer").host is None
    assert msgspec.structs.replace(block, affinity="host:").host is None


@pytest.mark.parametrize("kind", ["ClusterInformation", "FelixConfiguration", "IPAMHandle"])
def test_kinds_that_are_known_and_ignored(kind: str) -> None:
    assert parse_record({"apiVersion": "whatever", "kind": kind}) == (None, None, ())


def test_values_print_as_people_write_them() -> None:
    assert str(PeerAddress(ip_address("10.0.0.1"))) == "10.0.0.1"
    assert str(PeerAddress(ip_address("10.0.0.1"), 1790)) == "10.0.0.1:1790"
    assert str(PeerAddress(ip_address("fd00::1"), 1790)) == "[fd00::1]:1790"
    assert str(StandardCommunity(1, 2)) == "1:2"
    assert str(LargeCommunity(1, 2, 3)) == "1:2:3"
