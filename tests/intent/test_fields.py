"""Every field of every record counts: a change of it changes the intent, or it is named here as not ours.

A field that is added to a record type and read by nobody fails here.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_network
from typing import Any

import msgspec
import pytest

from routed.intent.compiler import Compiler, compile_intent
from routed.intent.local_workloads import EndpointStatus
from routed.intent.options import Options
from routed.intent.services import EXCLUDE_LABEL
from routed.intent.types import NodeIntent
from routed.resources import (
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
    LoadBalancerAggregation,
    LogSeverity,
    MatchOperator,
    NextHopMode,
    Node,
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
    parse_selector,
)

OPTIONS = Options("a", use_pod_cidr=True)
BLOCK, LENT = ip_network("10.1.0.0/26"), ip_network("10.1.0.64/26")
RULE = FilterRule(
    action=Action.ACCEPT,
    cidr=ip_network("10.0.0.0/8"),
    match_operator=MatchOperator.IN,
    prefix_length=PrefixLength(16, 24),
    communities=(StandardCommunity(1, 1),),
    operations=(AddCommunity(StandardCommunity(1, 2)), PrependASPath((1,)), SetPriority(5)),
)

RECORDS: tuple[Record, ...] = (
    BGPConfiguration(
        name="default",
        node_mesh_password=SecretKeyRef("s", "k"),
        communities=(Community("c", StandardCommunity(1, 2)),),
        prefix_advertisements=(PrefixAdvertisement(BLOCK, ("c",)),),
        service_cluster_ips=(ip_network("10.2.0.0/24"),),
        service_external_ips=(ip_network("10.4.0.0/24"),),
        service_load_balancer_ips=(ip_network("10.3.0.0/24"),),
    ),
    Node(name="a", ipv4_address=IPv4Interface("10.0.0.1/24"), ipv6_address=IPv6Interface("fd00::1/64")),
    Node(
        name="b",
        labels={"zone": "x"},
        ipv4_address=IPv4Interface("10.0.0.2/24"),
        ipv6_address=IPv6Interface("fd00::2/64"),
        wireguard_interface_ipv4_address=IPv4Address("10.9.0.2"),
        wireguard_interface_ipv6_address=IPv6Address("fd09::2"),
    ),
    BGPPeer(name="router", peer_ip=PeerAddress(ip_address("192.0.2.1")), as_number=65001),
    BGPPeer(name="workload", local_workload_selector=parse_selector("all()"), as_number=65002),
    BGPPeer(name="back", node="b", peer_selector=parse_selector("all()")),
    BGPFilter(name="f", import_v4=(RULE,), export_v4=(RULE,)),
    Secret(namespace="kube-system", name="s", data={"k": SecretValue(b"one")}),
    BlockAffinity(name="x", node="a", cidr=BLOCK),
    IPAMBlock(name="y", cidr=BLOCK, affinity="host:a"),
    IPAMBlock(
        name="z",
        cidr=LENT,
        affinity="host:b",
        allocations=(0,),
        attributes=(BlockAttribute("h", {"node": "a", "pod": "p", "namespace": "n"}),),
    ),
    IPPool(name="o", cidr=ip_network("10.1.0.0/16"), ipip_mode=EncapsulationMode.ALWAYS, block_size=26),
    Service(
        namespace="n",
        name="w",
        cluster_ips=(ip_address("10.2.0.1"),),
        external_traffic_policy=TrafficPolicy.LOCAL,
        ip_families=(IPFamily.IPV4,),
    ),
    EndpointSlice(
        namespace="n", name="e", service_name="w", address_type=AddressType.IPV4, endpoints=(Endpoint("a"),)
    ),
    EndpointStatus(name="cali1", bgp_peer_name="workload", ipv4_addresses=(ip_address("10.1.0.1"),)),
)
BY_KEY = {record.key: record for record in RECORDS}

ROUTER, BACK = Key("BGPPeer", "router"), Key("BGPPeer", "back")
DEFAULT = Key("BGPConfiguration", "default")
OURS, OTHER = Key("Node", "a"), Key("Node", "b")
SERVICE, SLICE = Key("Service", "n/w"), Key("EndpointSlice", "n/e")

# A field, the record whose copy gets the value, and the value that makes a difference.
CHANGES: list[tuple[Key, str, Any]] = [
    (DEFAULT, "as_number", 65000),
    (DEFAULT, "node_to_node_mesh_enabled", False),
    (DEFAULT, "listen_port", 1790),
    (DEFAULT, "bind_mode", BindMode.NODE_IP),
    (DEFAULT, "log_severity_screen", LogSeverity.DEBUG),
    (DEFAULT, "node_mesh_password", None),
    (DEFAULT, "node_mesh_max_restart_time", 5.0),
    (DEFAULT, "communities", (Community("c", StandardCommunity(3, 4)),)),
    (DEFAULT, "prefix_advertisements", None),
    (DEFAULT, "service_cluster_ips", ()),
    (DEFAULT, "service_external_ips", ()),
    (DEFAULT, "service_load_balancer_ips", ()),
    (DEFAULT, "service_load_balancer_aggregation", LoadBalancerAggregation.DISABLED),
    (DEFAULT, "ignored_interfaces", ("eth9",)),
    (DEFAULT, "program_cluster_routes", ProgramClusterRoutes.ENABLED),
    (DEFAULT, "ipv4_normal_route_priority", 100),
    (DEFAULT, "ipv6_normal_route_priority", 100),
    (DEFAULT, "local_workload_peering_ip_v4", ip_address("169.254.0.1")),
    (DEFAULT, "local_workload_peering_ip_v6", ip_address("fe80::1")),
    (ROUTER, "node", "b"),
    (ROUTER, "node_selector", parse_selector("zone == 'x'")),
    (ROUTER, "peer_ip", PeerAddress(ip_address("192.0.2.1"), 1790)),
    (BACK, "peer_selector", parse_selector("zone == 'x'")),
    (ROUTER, "as_number", 65002),
    (ROUTER, "local_as_number", 65003),
    (ROUTER, "keep_original_next_hop", True),
    (ROUTER, "next_hop_mode", NextHopMode.SELF),
    (ROUTER, "password", SecretKeyRef("s", "k")),
    (ROUTER, "source_address", SourceAddress.NONE),
    (ROUTER, "max_restart_time", 5.0),
    (ROUTER, "keepalive_time", 5.0),
    (ROUTER, "num_allowed_local_as_numbers", 2),
    (ROUTER, "ttl_security", 1),
    (ROUTER, "reachable_by", ip_address("10.0.0.254")),
    (ROUTER, "filters", ("f",)),
    (Key("BGPPeer", "workload"), "local_workload_selector", None),
    (BACK, "reverse_peering", ReversePeering.MANUAL),
    *(
        (Key("BGPFilter", "f"), name, (RULE, RULE))
        for name in ("export_v4", "import_v4", "export_v6", "import_v6")
    ),
    (Key("IPPool", "o"), "cidr", ip_network("10.8.0.0/16")),
    (Key("IPPool", "o"), "ipip_mode", EncapsulationMode.NEVER),
    (Key("IPPool", "o"), "vxlan_mode", EncapsulationMode.ALWAYS),
    (Key("IPPool", "o"), "disable_bgp_export", True),
    (Key("IPPool", "o"), "disabled", True),
    (Key("BlockAffinity", "x"), "node", "b"),
    (Key("BlockAffinity", "x"), "cidr", LENT),
    (Key("BlockAffinity", "x"), "state", AffinityState.PENDING),
    (Key("BlockAffinity", "x"), "deleted", True),
    (Key("IPAMBlock", "y"), "cidr", LENT),
    (Key("IPAMBlock", "y"), "affinity", "host:b"),
    (Key("IPAMBlock", "y"), "deleted", True),
    (Key("IPAMBlock", "z"), "allocations", ()),
    (Key("IPAMBlock", "z"), "attributes", (BlockAttribute("h", {"node": "b"}),)),
    (OURS, "labels", {EXCLUDE_LABEL: "true"}),
    (OTHER, "ipv4_address", None),
    (OTHER, "ipv6_address", None),
    (OTHER, "as_number", 65009),
    (OTHER, "route_reflector_cluster_id", IPv4Address("10.0.0.2")),
    (OURS, "wireguard_interface_ipv4_address", IPv4Address("10.9.0.1")),
    (OURS, "wireguard_interface_ipv6_address", IPv6Address("fd09::1")),
    (OURS, "pod_cidrs", (ip_network("10.7.0.0/24"),)),
    (SERVICE, "type", ServiceType.EXTERNAL_NAME),
    (SERVICE, "cluster_ips", (ip_address("10.2.0.9"),)),
    (SERVICE, "external_ips", (ip_address("10.4.0.1"),)),
    (SERVICE, "load_balancer_ingress_ips", (ip_address("10.3.0.1"),)),
    (SERVICE, "external_traffic_policy", TrafficPolicy.CLUSTER),
    (SERVICE, "ip_families", (IPFamily.IPV6,)),
    (SLICE, "service_name", "other"),
    (SLICE, "address_type", AddressType.IPV6),
    (SLICE, "endpoints", (Endpoint("a", False),)),
    (Key("Secret", "kube-system/s"), "data", {"k": SecretValue(b"two")}),
    (Key("EndpointStatus", "cali1"), "bgp_peer_name", "router"),
    (Key("EndpointStatus", "cali1"), "ipv4_addresses", ()),
    (Key("EndpointStatus", "cali1"), "ipv6_addresses", (ip_address("fd01::1"),)),
]
RULE_CHANGES: list[tuple[str, Any]] = [
    ("action", Action.REJECT),
    ("match_operator", MatchOperator.NOT_IN),
    ("cidr", ip_network("10.0.0.0/9")),
    ("prefix_length", PrefixLength(17, 24)),
    ("prefix_length", PrefixLength(16, 25)),
    ("source", Source.REMOTE_PEERS),
    ("interface", "eth0"),
    ("peer_type", PeerType.EBGP),
    ("communities", (StandardCommunity(9, 9),)),
    ("as_path_prefix", (65000,)),
    ("priority", 100),
    ("operations", (AddCommunity(StandardCommunity(9, 9)),)),
    ("operations", (PrependASPath((9,)),)),
    ("operations", (SetPriority(9),)),
]

# Fields that say nothing about BGP, and who reads them.
NOT_OURS = {
    "IPPool.node_selector": "IPAM: which nodes take blocks from the pool",
    "IPPool.block_size": "IPAM: how blocks are cut",
    "IPPool.nat_outgoing": "the node agent: masquerading",
    "IPAMBlock.strict_affinity": "IPAM: whether others may borrow",
    "Node.ipv4_ipip_tunnel_addr": "the node agent: the address of its tunnel device",
    "EndpointStatus.interface_name": "people: where the workload is",
}
NAMES = {"name", "namespace"}
LABELS = {"Node.labels"}
"""Of the other kinds no selector is about the labels."""

KINDS: tuple[type[Record], ...] = (
    BGPConfiguration,
    BGPPeer,
    BGPFilter,
    IPPool,
    BlockAffinity,
    IPAMBlock,
    Node,
    Service,
    EndpointSlice,
    Secret,
    EndpointStatus,
)


def intent_with(changed: Record) -> NodeIntent:
    records = {**BY_KEY, changed.key: changed}
    return compile_intent(records.values(), OPTIONS)


BEFORE = compile_intent(RECORDS, OPTIONS)


def test_the_cluster_is_sound() -> None:
    """But for the mesh beside `back`."""
    assert {str(problem.key) for problem in BEFORE.problems} == {"BGPPeer back"}


@pytest.mark.parametrize(("key", "field", "value"), CHANGES, ids=[f"{c[0].kind}.{c[1]}" for c in CHANGES])
def test_a_change_of_the_field_changes_the_intent(key: Key, field: str, value: Any) -> None:
    assert intent_with(msgspec.structs.replace(BY_KEY[key], **{field: value})) != BEFORE


@pytest.mark.parametrize(("field", "value"), RULE_CHANGES, ids=[c[0] for c in RULE_CHANGES])
def test_a_change_of_a_filter_rule_changes_the_intent(field: str, value: Any) -> None:
    changed = msgspec.structs.replace(RULE, **{field: value})
    assert intent_with(BGPFilter(name="f", import_v4=(changed,), export_v4=(RULE,))) != BEFORE


@pytest.mark.parametrize(("key", "field", "value"), CHANGES, ids=[f"{c[0].kind}.{c[1]}" for c in CHANGES])
def test_a_change_of_the_field_and_back_is_followed(key: Key, field: str, value: Any) -> None:
    """What a running compiler makes of it is what a new one does."""
    compiler = Compiler(OPTIONS)
    compiler.apply(RECORDS)
    changed = msgspec.structs.replace(BY_KEY[key], **{field: value})
    assert compiler.apply([changed])
    assert compiler.intent == intent_with(changed)
    assert compiler.apply([BY_KEY[key]])
    assert compiler.intent == BEFORE
    compiler.apply([], [key])
    assert compiler.intent == compile_intent([r for r in RECORDS if r.key != key], OPTIONS)


def test_no_field_is_left_out() -> None:
    fields = {
        f"{kind.kind}.{field}" for kind in KINDS for field in kind.__struct_fields__ if field not in NAMES
    }
    fields = {field for field in fields if not field.endswith(".labels")} | LABELS
    covered = {f"{key.kind}.{field}" for key, field, _ in CHANGES}
    assert fields - covered == set(NOT_OURS)
    assert not covered & set(NOT_OURS)
    # How a prefix is written shows in a BIRD configuration only: tests/render.
    assert {field for field, _ in RULE_CHANGES} == set(FilterRule.__struct_fields__) - {"cidr_text"}


def test_all_kinds_are_here() -> None:
    """CalicoNodeStatus asks for a report; it changes nothing that a node does."""
    known = {kind for kind in _subclasses(Record) if kind.kind}
    assert known == {*KINDS, CalicoNodeStatus}


def _subclasses(kind: type[Record]) -> set[type[Record]]:
    return {kind, *(found for child in kind.__subclasses__() for found in _subclasses(child))}
