"""Hypothesis strategies for the records of small clusters: few names and addresses, so that records meet."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_network

import msgspec
from hypothesis import strategies as st

from routed.intent.local_workloads import EndpointStatus
from routed.intent.services import EXCLUDE_LABEL
from routed.resources import (
    Action,
    AddressType,
    AffinityState,
    BGPConfiguration,
    BGPFilter,
    BGPPeer,
    BindMode,
    BlockAffinity,
    BlockAttribute,
    Community,
    EncapsulationMode,
    Endpoint,
    EndpointSlice,
    FilterRule,
    IPAMBlock,
    IPFamily,
    IPPool,
    LargeCommunity,
    LoadBalancerAggregation,
    NextHopMode,
    Node,
    PeerAddress,
    PrefixAdvertisement,
    ProgramClusterRoutes,
    Record,
    ReversePeering,
    Secret,
    SecretKeyRef,
    SecretValue,
    Service,
    ServiceType,
    SourceAddress,
    StandardCommunity,
    TrafficPolicy,
    parse_selector,
)

NODES = ("a", "b", "c")
V4 = tuple(IPv4Address(f"10.0.0.{n}") for n in (1, 2, 3, 9))
V6 = tuple(IPv6Address(f"fd00::{n}") for n in (1, 2, 3, 9))
AS_NUMBERS = (64512, 65001)
BLOCKS = tuple(
    map(ip_network, ("10.1.0.0/30", "10.1.0.0/29", "10.1.0.4/30", "10.1.0.4/32", "fd01::/126", "fd01::1/128"))
)
RANGES = tuple(map(ip_network, ("10.2.0.0/24", "10.2.0.1/32", "10.3.0.0/24", "fd02::/112", "fd02::1/128")))
SERVICE_IPS = tuple(map(ip_address, ("10.2.0.1", "10.2.0.2", "10.3.0.1", "fd02::1")))
SELECTORS = tuple(
    map(parse_selector, ("all()", "has(rr)", "!has(rr)", "zone == 'x'", "zone != 'x' && has(rr)"))
)
FILTERS = ("f1", "f2")
SECRETS = ("s1", "s2")
PEERS = ("p1", "p2", "p3")


def optional(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


def some(values: tuple[object, ...]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


labels = st.sampled_from(
    ({}, {"rr": "x"}, {"zone": "x"}, {"rr": "x", "zone": "y"}, {"zone": "x", EXCLUDE_LABEL: "true"})
)
password = optional(st.builds(SecretKeyRef, st.sampled_from(SECRETS), st.sampled_from(("k", "other"))))
nodes = st.builds(
    Node,
    name=st.sampled_from(NODES),
    labels=labels,
    ipv4_address=optional(st.sampled_from(V4).map(lambda a: IPv4Interface(f"{a}/24"))),
    ipv6_address=optional(st.sampled_from(V6).map(lambda a: IPv6Interface(f"{a}/64"))),
    as_number=optional(st.sampled_from(AS_NUMBERS)),
    route_reflector_cluster_id=optional(st.sampled_from(V4)),
    wireguard_interface_ipv4_address=optional(st.just(IPv4Address("10.9.0.1"))),
    wireguard_interface_ipv6_address=optional(st.just(IPv6Address("fd09::1"))),
    pod_cidrs=some(BLOCKS),
)
peers = st.builds(
    BGPPeer,
    name=st.sampled_from(PEERS),
    node=optional(st.sampled_from(NODES)),
    node_selector=optional(st.sampled_from(SELECTORS)),
    peer_ip=optional(
        st.builds(PeerAddress, st.sampled_from(V4 + V6), optional(st.sampled_from((179, 1790))))
    ),
    peer_selector=optional(st.sampled_from(SELECTORS)),
    local_workload_selector=optional(st.sampled_from(SELECTORS)),
    as_number=optional(st.sampled_from(AS_NUMBERS)),
    local_as_number=optional(st.sampled_from(AS_NUMBERS)),
    keep_original_next_hop=st.booleans(),
    next_hop_mode=optional(st.sampled_from(NextHopMode)),
    password=password,
    source_address=st.sampled_from(SourceAddress),
    max_restart_time=optional(st.sampled_from((0.0, 0.5, 10.0))),
    ttl_security=optional(st.integers(1, 3)),
    reachable_by=optional(st.sampled_from((ip_address("10.0.0.254"), ip_address("fd00::fe")))),
    filters=some(FILTERS),
    reverse_peering=st.sampled_from(ReversePeering),
)
configurations = st.builds(
    BGPConfiguration,
    name=st.sampled_from(("default", "default", "node.a", "node.b", "other")),
    as_number=st.sampled_from(AS_NUMBERS),
    node_to_node_mesh_enabled=st.booleans(),
    listen_port=optional(st.sampled_from((179, 1790))),
    bind_mode=st.sampled_from(BindMode),
    node_mesh_password=password,
    node_mesh_max_restart_time=optional(st.just(7.0)),
    communities=st.just((Community("c1", StandardCommunity(1, 2)), Community("c2", LargeCommunity(1, 2, 3)))),
    prefix_advertisements=optional(
        st.just((PrefixAdvertisement(BLOCKS[0], ("c1", "c2", "c3", StandardCommunity(3, 4))),))
    ),
    service_cluster_ips=some(RANGES),
    service_external_ips=some(RANGES),
    service_load_balancer_ips=some(RANGES),
    service_load_balancer_aggregation=st.sampled_from(LoadBalancerAggregation),
    ignored_interfaces=st.sampled_from(((), ("eth9",))),
    program_cluster_routes=st.sampled_from(ProgramClusterRoutes),
    ipv4_normal_route_priority=st.sampled_from((1024, 100)),
)
affinities = st.builds(
    BlockAffinity,
    name=st.sampled_from(("x1", "x2", "x3", "x4")),
    node=st.sampled_from(NODES),
    cidr=st.sampled_from(BLOCKS),
    state=st.sampled_from(AffinityState),
    deleted=st.sampled_from((False, False, False, True)),
)
blocks = st.builds(
    IPAMBlock,
    name=st.sampled_from(("y1", "y2", "y3")),
    cidr=st.sampled_from(BLOCKS),
    affinity=optional(st.sampled_from(("host:a", "host:b", "virtual:z"))),
    allocations=st.sampled_from(((), (0, None, 1, 5))),
    attributes=st.just(
        (
            BlockAttribute("h", {"node": "a", "pod": "p", "namespace": "n"}),
            BlockAttribute("t", {"node": "a", "type": "ipipTunnelAddress"}),
        )
    ),
    deleted=st.sampled_from((False, False, True)),
)
pools = st.builds(
    IPPool,
    name=st.sampled_from(("o1", "o2")),
    cidr=st.sampled_from(tuple(map(ip_network, ("10.1.0.0/16", "10.0.0.0/8", "fd01::/64")))),
    ipip_mode=st.sampled_from(EncapsulationMode),
    vxlan_mode=st.sampled_from(EncapsulationMode),
    disable_bgp_export=st.booleans(),
    disabled=st.booleans(),
    block_size=st.just(30),
)
filters = st.builds(
    BGPFilter,
    name=st.sampled_from(FILTERS),
    import_v4=st.sampled_from(((), (FilterRule(action=Action.REJECT),))),
    export_v6=st.sampled_from(((), (FilterRule(action=Action.ACCEPT),))),
)
secrets = st.builds(
    Secret,
    namespace=st.sampled_from(("kube-system", "elsewhere")),
    name=st.sampled_from(SECRETS),
    data=st.sampled_from(
        ({}, {"k": SecretValue(b"one")}, {"k": SecretValue(b"two")}, {"k": SecretValue(b"")})
    ),
)
services = st.builds(
    Service,
    namespace=st.just("n"),
    name=st.sampled_from(("w1", "w2")),
    type=st.sampled_from(ServiceType),
    cluster_ips=some(SERVICE_IPS),
    external_ips=some(SERVICE_IPS),
    load_balancer_ingress_ips=some(SERVICE_IPS),
    external_traffic_policy=st.sampled_from(TrafficPolicy),
    ip_families=some(tuple(IPFamily)),
)
slices = st.builds(
    EndpointSlice,
    namespace=st.just("n"),
    name=st.sampled_from(("e1", "e2")),
    service_name=optional(st.sampled_from(("w1", "w2"))),
    address_type=st.sampled_from(AddressType),
    endpoints=st.lists(st.builds(Endpoint, optional(st.sampled_from(NODES)), st.booleans()), max_size=2).map(
        tuple
    ),
)
workloads = st.builds(
    EndpointStatus,
    name=st.sampled_from(("cali1", "cali2")),
    bgp_peer_name=optional(st.sampled_from(PEERS)),
    ipv4_addresses=some(V4),
    ipv6_addresses=some(V6),
)
records: st.SearchStrategy[Record] = st.one_of(
    nodes,
    nodes,
    peers,
    peers,
    configurations,
    affinities,
    blocks,
    pools,
    filters,
    secrets,
    services,
    slices,
    workloads,
)

EVERYTHING: tuple[Record, ...] = (
    BGPConfiguration(
        name="default",
        node_mesh_password=SecretKeyRef("s2", "k"),
        service_cluster_ips=(ip_network("10.2.0.0/24"),),
        service_load_balancer_ips=(ip_network("10.3.0.0/24"),),
        prefix_advertisements=(PrefixAdvertisement(BLOCKS[0], ("c1",)),),
    ),
    *(
        Node(
            name=name,
            labels={"zone": "x"} if name == "c" else {},
            ipv4_address=IPv4Interface(f"{v4}/24"),
            ipv6_address=IPv6Interface(f"{v6}/64"),
            wireguard_interface_ipv4_address=IPv4Address("10.9.0.1"),
        )
        for name, v4, v6 in zip(NODES, V4, V6, strict=False)
    ),
    BGPPeer(
        name="p1",
        node="a",
        peer_ip=PeerAddress(V4[3]),
        as_number=65001,
        filters=("f1",),
        password=SecretKeyRef("s1", "k"),
    ),
    BGPPeer(name="p2", peer_selector=SELECTORS[3], filters=("f2", "f3")),
    BGPPeer(name="p3", local_workload_selector=SELECTORS[0], as_number=65001),
    BGPFilter(name="f1", import_v4=(FilterRule(action=Action.REJECT),)),
    Secret(namespace="kube-system", name="s1", data={"k": SecretValue(b"one")}),
    Secret(namespace="kube-system", name="s2", data={"k": SecretValue(b"two")}),
    BlockAffinity(name="x1", node="a", cidr=BLOCKS[0]),
    IPAMBlock(name="y1", cidr=BLOCKS[0], affinity="host:a"),
    IPAMBlock(
        name="y2",
        cidr=BLOCKS[2],
        affinity="host:b",
        allocations=(0,),
        attributes=(BlockAttribute("h", {"node": "a", "pod": "p", "namespace": "n"}),),
    ),
    IPPool(name="o1", cidr=ip_network("10.1.0.0/16"), block_size=30),
    Service(
        namespace="n",
        name="w1",
        cluster_ips=(SERVICE_IPS[0],),
        external_traffic_policy=TrafficPolicy.LOCAL,
        ip_families=(IPFamily.IPV4,),
    ),
    EndpointSlice(
        namespace="n",
        name="e1",
        service_name="w1",
        address_type=AddressType.IPV4,
        endpoints=(Endpoint("a"),),
    ),
    EndpointStatus(name="cali1", bgp_peer_name="p3", ipv4_addresses=(ip_address("10.1.0.1"),)),
)
"""A cluster in which every kind of record has an effect on node `a`, so that each change of one shows."""


def variants(record: Record) -> st.SearchStrategy[Record]:
    """The record with one field as another record of its kind has it."""
    kinds: dict[str, st.SearchStrategy[Record]] = {
        Node.kind: nodes,
        BGPPeer.kind: peers,
        BGPConfiguration.kind: configurations,
        BlockAffinity.kind: affinities,
        IPAMBlock.kind: blocks,
        IPPool.kind: pools,
        BGPFilter.kind: filters,
        Secret.kind: secrets,
        Service.kind: services,
        EndpointSlice.kind: slices,
        EndpointStatus.kind: workloads,
    }
    fields = [f for f in record.__struct_fields__ if f not in ("name", "namespace")]
    return st.builds(
        lambda other, field: msgspec.structs.replace(record, **{field: getattr(other, field)}),
        kinds[record.kind],
        st.sampled_from(fields),
    )


single_changes: st.SearchStrategy[tuple[Record, str]] = st.sampled_from(EVERYTHING).flatmap(
    lambda record: st.one_of(
        variants(record).map(lambda changed: (changed, "upsert")),
        st.just((record, "delete")),
        st.just((record, "upsert")),
    )
)
