"""Every gate is the one that stops in some scene: records and peers, a target, and what is to be said."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from routed.bgp.nlri import Family, from_network
from routed.intent.services import EXCLUDE_LABEL
from routed.kernel.base import FibError
from routed.observe.documents import Explanation
from routed.observe.explain import ADDRESS_GATES, LOOKUP_GATES, PEER_GATES, PREFIX_GATES
from routed.observe.explain.gates import Gate
from routed.observe.explain.sessions import CAUSES
from routed.resources import (
    Action,
    AddressType,
    BGPConfiguration,
    BGPFilter,
    EncapsulationMode,
    Endpoint,
    EndpointSlice,
    FilterRule,
    IPFamily,
    LoadBalancerAggregation,
    MatchOperator,
    Node,
    ProgramClusterRoutes,
    Record,
    Secret,
    SecretKeyRef,
    SecretValue,
    Service,
    ServiceType,
    TrafficPolicy,
)
from tests.intent.test_peerings import CLUSTER_ID, NO_MESH, node, peer
from tests.observe.explain.scene import MemoryFib, Scene, affinity, block, ipam, on, pool, vxlan

A, B, C = node("a", 1), node("b", 2), node("c", 3)
OURS, THEIRS = "10.1.1.0/26", "10.1.2.0/26"
BASE: tuple[Record, ...] = (A, B, pool(), *block("a", OURS), *block("b", THEIRS))
Prepare = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """`gate` stops `target`, and says so with this record and field and these words."""

    name: str
    gate: str
    target: str
    records: tuple[Record, ...]
    record: str | None = None
    field: str | None = None
    words: str = ""
    prepare: Prepare | None = None


# What happens before the question


async def theirs(scene: Scene) -> None:
    """b announces its block."""
    await scene.announced(await scene.peer(2), THEIRS)


async def only_a_session(scene: Scene) -> None:
    await scene.peer(2)


async def as_loop(scene: Scene) -> None:
    await scene.peer(2)
    own = scene.source(2).local_as
    scene.receive("Mesh_10_0_0_2", THEIRS, as_path=((2, (65001, own)),))


async def unreachable(scene: Scene) -> None:
    await scene.peer(2)
    scene.receive("Mesh_10_0_0_2", THEIRS, next_hop=ip_address("192.0.2.9").packed)


async def link_is_down(scene: Scene) -> None:
    await theirs(scene)
    scene.link_down()


async def not_read_yet(scene: Scene) -> None:
    state = scene.observed.datastore
    assert state is not None
    state.synced = False
    state.lost_since, state.lost_reason = datetime.now(UTC), "connection refused"


async def kernel_is_missing(scene: Scene) -> None:
    await theirs(scene)
    scene.agent._kernel_error = "no permission: CAP_NET_ADMIN is missing"


async def kernel_refuses(scene: Scene) -> None:
    await theirs(scene)
    assert isinstance(scene.fib, MemoryFib)
    nlri = from_network(ip_network(THEIRS))
    scene.fib.refuse[nlri.hex()] = FibError(Family.IPV4, nlri, None, 101, "ENETUNREACH", "no way to 10.0.0.2")


async def kernel_is_slow(scene: Scene) -> None:
    await theirs(scene)
    assert isinstance(scene.fib, MemoryFib)
    scene.fib.slow.add(from_network(ip_network(THEIRS)).hex())


async def learned_service(scene: Scene) -> None:
    await scene.announced(await scene.peer(2), "10.96.0.5/32")


async def non_client(scene: Scene) -> None:
    await scene.peer(2)
    await scene.peer(3)
    scene.receive("Node_10_0_0_2", THEIRS)


async def own_block_lent(scene: Scene) -> None:
    await scene.peer(2)


async def refused(scene: Scene) -> None:
    """b is there, and its BGP does not listen."""
    await scene.peer(2, wait=False)
    scene.speaker.peers["Node_10_0_0_2"].session.last_error = None
    scene.wire.refuse.add(ip_address("10.0.0.2"))
    await _until_error(scene, "refused")


async def _until_error(scene: Scene, words: str, name: str | None = None) -> None:
    from tests.virtual import until

    def there() -> bool:
        peers = scene.speaker.peers.values()
        return any(words in (one.session.last_error or "") for one in peers if name in (None, one.name))

    await until(there, within=400.0)


async def other_as(scene: Scene) -> None:
    await scene.peer(2, asn=65002, wait=False)
    await _until_error(scene, "Bad Peer AS")


async def other_password(scene: Scene) -> None:
    await scene.peer(2, wait=False, password=SecretValue(b"other"))
    await _until_error(scene, "timed out")


async def falls_silent(scene: Scene) -> None:
    router = await scene.peer(2)
    for one in router.speaker.peers.values():
        one._cancel_timer()
        one._arm = lambda: None  # type: ignore[method-assign]
    await _until_error(scene, "Hold Timer")


async def their_shutdown(scene: Scene) -> None:
    router = await scene.peer(2)
    router.speaker.shut_down_peer("to_a", "maintenance")
    await _until_error(scene, "maintenance")


async def too_many(scene: Scene) -> None:
    await scene.peer(2, max_prefixes=0, wait=False)
    await _until_error(scene, "Maximum Number of Prefixes")


async def our_shutdown(scene: Scene) -> None:
    await scene.peer(2)
    scene.speaker.shut_down_peer("Mesh_10_0_0_2", "cable work")


async def other_family(scene: Scene) -> None:
    """Both families are offered on the IPv4 session, and the peer has the other one."""
    config = scene.speaker.peers["Mesh_10_0_0_2"].config
    scene.speaker.set_peer(replace(config, families=frozenset(Family)))
    await scene.peer(2, families=frozenset({Family.IPV6}))


def rule(cidr: str, action: Action = Action.REJECT) -> FilterRule:
    return FilterRule(action=action, cidr=ip_network(cidr), match_operator=MatchOperator.IN)


def service(**fields: Any) -> Service:
    fields.setdefault("cluster_ips", (ip_address("10.96.0.5"),))
    return Service(name="web", namespace="shop", **fields)


def endpoints(*found: tuple[str, bool]) -> EndpointSlice:
    return EndpointSlice(
        name="web-1",
        namespace="shop",
        service_name="web",
        address_type=AddressType.IPV4,
        endpoints=tuple(Endpoint(name, ready) for name, ready in found),
    )


def configured(**fields: Any) -> BGPConfiguration:
    return BGPConfiguration(name="default", **fields)


CLUSTER_IPS = configured(service_cluster_ips=(ip_network("10.96.0.0/16"),))
PROGRAMS = ProgramClusterRoutes.ENABLED
LOCAL = service(external_traffic_policy=TrafficPolicy.LOCAL)
EXTERNAL = service(external_ips=(ip_address("203.0.113.9"),), external_traffic_policy=TrafficPolicy.LOCAL)
SECRET = SecretKeyRef("bgp", "password")
WITH_PASSWORD = (A, B, NO_MESH, peer("to-b", "10.0.0.2", password=SECRET))
BGP_SECRET = Secret(name="bgp", namespace="kube-system", data={"password": SecretValue(b"ours")})
LONG_SECRET = Secret(name="bgp", namespace="kube-system", data={"password": SecretValue(b"x" * 81)})
#: b announces, and dials: its address sorts after ours.
DIALS_B = (A, B, NO_MESH, peer("to-b", "10.0.0.2", node="a", as_number=64512))
REFLECTOR = node("a", 1, route_reflector_cluster_id=CLUSTER_ID)
SAME_CLUSTER = (
    REFLECTOR,
    node("b", 2, route_reflector_cluster_id=CLUSTER_ID),
    node("c", 3, route_reflector_cluster_id=CLUSTER_ID),
    NO_MESH,
    peer("mates", node="a", peer_selector="all()"),
    pool(),
    *block("b", THEIRS),
)
WIREGUARD: dict[str, Any] = {"wireguard_interface_ipv4_address": IPv4Address("10.9.0.1")}

PREFIX_CASES = (
    Case("no records yet", "datastore", THEIRS, (), words="not known yet", prepare=not_read_yet),
    Case("in no pool", "pool", "198.51.100.0/24", BASE, words="in no IPPool"),
    Case("around a pool", "pool", "10.0.0.0/8", BASE, "IPPool pool", "spec.cidr", "holds the whole of"),
    Case(
        "no ranges of services",
        "service",
        "10.96.0.5/32",
        (A, service()),
        "BGPConfiguration default",
        "spec.serviceClusterIPs",
        "service announcement is off",
    ),
    Case(
        "node excluded from services",
        "service",
        "10.96.0.5/32",
        (node("a", 1, labels={EXCLUDE_LABEL: "true"}), CLUSTER_IPS, LOCAL, endpoints(("a", True))),
        "Node a",
        f"metadata.labels[{EXCLUDE_LABEL}]",
        "label keeps it",
    ),
    Case(
        "whole range, node excluded",
        "service",
        "10.96.0.0/16",
        (node("a", 1, labels={EXCLUDE_LABEL: "true"}), CLUSTER_IPS),
        "Node a",
        f"metadata.labels[{EXCLUDE_LABEL}]",
        "label keeps it",
    ),
    Case(
        "load balancers one by one",
        "service",
        "198.51.100.0/24",
        (
            A,
            configured(
                service_load_balancer_ips=(ip_network("198.51.100.0/24"),),
                service_load_balancer_aggregation=LoadBalancerAggregation.DISABLED,
            ),
        ),
        "BGPConfiguration default",
        "spec.serviceLoadBalancerAggregation",
        "the services' own addresses",
    ),
    Case(
        "headless",
        "service",
        "203.0.113.9/32",
        (
            A,
            configured(service_external_ips=(ip_network("203.0.113.0/24"),)),
            service(cluster_ips=(), external_ips=(ip_address("203.0.113.9"),)),
        ),
        "Service shop/web",
        "spec.clusterIP",
        "headless",
    ),
    Case(
        "external name",
        "service",
        "203.0.113.9/32",
        (
            A,
            configured(service_external_ips=(ip_network("203.0.113.0/24"),)),
            service(type=ServiceType.EXTERNAL_NAME, external_ips=(ip_address("203.0.113.9"),)),
        ),
        "Service shop/web",
        "spec.type",
        "ExternalName",
    ),
    Case(
        "service outside of the ranges",
        "service",
        "203.0.113.9/32",
        (A, CLUSTER_IPS, EXTERNAL, endpoints(("a", True))),
        "BGPConfiguration default",
        "spec.serviceExternalIPs",
        "203.0.113.9 is outside",
    ),
    Case(
        "with its range",
        "service",
        "10.96.0.5/32",
        (A, CLUSTER_IPS, service(), endpoints(("a", True))),
        "Service shop/web",
        "spec.externalTrafficPolicy",
        "with its whole range",
    ),
    Case(
        "no EndpointSlice",
        "service",
        "10.96.0.5/32",
        (A, CLUSTER_IPS, LOCAL),
        "Service shop/web",
        None,
        "no EndpointSlice",
    ),
    Case(
        "endpoints elsewhere",
        "service",
        "10.96.0.5/32",
        (A, CLUSTER_IPS, LOCAL, endpoints(("b", True))),
        "EndpointSlice shop/web-1",
        "endpoints",
        "no endpoint of it runs on node a",
    ),
    Case(
        "endpoint not ready",
        "service",
        "10.96.0.5/32",
        (A, CLUSTER_IPS, LOCAL, endpoints(("a", False), ("b", True))),
        "EndpointSlice shop/web-1",
        "endpoints.conditions.ready",
        "none of its 1 endpoints on node a is ready",
    ),
    Case(
        "endpoint of the other family",
        "service",
        "10.96.0.5/32",
        (
            A,
            CLUSTER_IPS,
            service(external_traffic_policy=TrafficPolicy.LOCAL, ip_families=(IPFamily.IPV6,)),
            endpoints(("a", True)),
        ),
        "EndpointSlice shop/web-1",
        "addressType",
        "families",
    ),
    Case(
        "no such service",
        "service",
        "10.96.7.7/32",
        (A, CLUSTER_IPS, service()),
        "BGPConfiguration default",
        "spec.serviceClusterIPs",
        "no Service has this address",
    ),
    Case(
        "part of a range of services",
        "service",
        "10.96.8.0/24",
        (A, CLUSTER_IPS),
        "BGPConfiguration default",
        "spec.serviceClusterIPs",
        "part of the service range",
    ),
    Case("no block", "block", "10.1.99.0/26", BASE, "IPPool pool", "spec.cidr", "no node has a block here"),
    Case("blocks within", "block", "10.1.0.0/22", BASE, words="it holds 2 of them"),
    Case(
        "within a block",
        "block",
        "10.1.2.0/28",
        BASE,
        f"IPAMBlock {THEIRS}",
        "spec.cidr",
        f"part of block {THEIRS}",
    ),
    Case(
        "pending",
        "affinity",
        OURS,
        (A, pool(), affinity("a", OURS, "pending"), ipam("a", OURS)),
        f"BlockAffinity a-{OURS}",
        "spec.state",
        "pending",
    ),
    Case(
        "pending at another node",
        "affinity",
        THEIRS,
        (A, B, pool(), affinity("b", THEIRS, "pending"), ipam("b", THEIRS)),
        f"BlockAffinity b-{THEIRS}",
        "spec.state",
        "for node b: 10.1.2.0/26 is pending",
    ),
    Case(
        "being deleted",
        "affinity",
        OURS,
        (A, pool(), affinity("a", OURS, "pendingDeletion"), ipam("a", OURS)),
        f"BlockAffinity a-{OURS}",
        "spec.state",
        "no longer advertised",
    ),
    Case(
        "deleted",
        "affinity",
        OURS,
        (A, pool(), affinity("a", OURS, deleted=True)),
        f"BlockAffinity a-{OURS}",
        "spec.deleted",
        "counts as absent",
    ),
    Case(
        "IPAM says another",
        "affinity",
        OURS,
        (A, B, pool(), affinity("a", OURS), ipam("b", OURS)),
        f"BlockAffinity a-{OURS}",
        "spec.node",
        "belongs to host:b",
    ),
    Case(
        "no IPAM block",
        "affinity",
        OURS,
        (A, B, pool(), affinity("a", OURS), *block("b", THEIRS)),
        f"BlockAffinity a-{OURS}",
        "spec.cidr",
        "has no IPAMBlock",
    ),
    Case(
        "no affinity",
        "affinity",
        THEIRS,
        (A, B, pool(), ipam("b", THEIRS)),
        f"IPAMBlock {THEIRS}",
        "spec.affinity",
        "which has no BlockAffinity",
    ),
    Case(
        "no owner",
        "affinity",
        OURS,
        (A, pool(), ipam(None, OURS)),
        f"IPAMBlock {OURS}",
        "spec.affinity",
        "the block has no owner",
    ),
    Case("owner without a record", "owner", "10.1.9.0/26", (*BASE, *block("z", "10.1.9.0/26")), "Node z"),
    Case(
        "owner without the family",
        "owner",
        "fd01::/122",
        (node("a", 1, v6=True), B, pool("six", "fd01::/64"), *block("b", "fd01::/122")),
        "Node b",
        "spec.bgp.ipv6Address",
        "no IPv6 address",
    ),
    Case(
        "session down",
        "session",
        THEIRS,
        BASE,
        "BGPConfiguration default",
        None,
        "the session with node b is Active: waits for the peer to connect",
    ),
    Case(
        "no mesh",
        "session",
        THEIRS,
        (*BASE, NO_MESH),
        "BGPConfiguration default",
        "spec.nodeToNodeMeshEnabled",
        "the node-to-node mesh is off",
    ),
    Case(
        "only others are Established",
        "received",
        "10.1.3.0/26",
        (*BASE, C, NO_MESH, peer("to-b", "10.0.0.2", node="a"), *block("c", "10.1.3.0/26")),
        words="none of the peers announces it (1 Established)",
        prepare=only_a_session,
    ),
    Case(
        "not announced",
        "received",
        THEIRS,
        BASE,
        words="none of the peers announces it (1 Established)",
        prepare=only_a_session,
    ),
    Case("loop", "loop", THEIRS, BASE, words="AS_PATH holds our AS 64512", prepare=as_loop),
    Case(
        "import filter",
        "import",
        THEIRS,
        (
            *BASE,
            NO_MESH,
            peer("to-b", "10.0.0.2", node="a", filters=("none", "few", "strict")),
            BGPFilter(name="few", import_v4=(rule("10.2.0.0/16"),)),
            BGPFilter(name="strict", import_v4=(rule("10.3.0.0/16"), rule("10.1.0.0/16"))),
        ),
        "BGPFilter strict",
        "spec.importV4[1]",
        "rule 2 of importV4 of BGPFilter strict rejects",
        theirs,
    ),
    Case(
        "next hop", "next-hop", THEIRS, BASE, words="192.0.2.9: there is no route to it", prepare=unreachable
    ),
    Case("link down", "next-hop", THEIRS, BASE, words="there is no route to it", prepare=link_is_down),
    Case("nobody to tell", "group", OURS, BASE, words="none of 1 peerings has a session"),
    Case(
        "disableBGPExport",
        "export",
        OURS,
        (A, B, pool(disable_bgp_export=True), *block("a", OURS)),
        "IPPool pool",
        "spec.disableBGPExport",
        "not told to Mesh_10_0_0_2",
        only_a_session,
    ),
    Case(
        "export filter",
        "export",
        OURS,
        (
            *BASE,
            NO_MESH,
            peer("to-b", "10.0.0.2", node="a", filters=("strict",)),
            BGPFilter(name="strict", export_v4=(rule("10.1.0.0/16"),)),
        ),
        "BGPFilter strict",
        "spec.exportV4[0]",
        "rule 1 of exportV4 of BGPFilter strict rejects",
        only_a_session,
    ),
    Case(
        "no client",
        "export",
        THEIRS,
        SAME_CLUSTER,
        words="neither that peer nor this one is a route reflector client",
        prepare=non_client,
    ),
    Case("no kernel", "kernel", THEIRS, BASE, words="CAP_NET_ADMIN", prepare=kernel_is_missing),
    Case(
        "VXLAN",
        "kernel-policy",
        THEIRS,
        (A, B, vxlan(), *block("b", THEIRS)),
        "IPPool pool",
        "spec.vxlanMode",
        "IPPool pool is VXLAN",
        theirs,
    ),
    Case(
        "programClusterRoutes",
        "kernel-policy",
        THEIRS,
        (A, B, pool(ipip_mode=EncapsulationMode.ALWAYS), *block("b", THEIRS)),
        "BGPConfiguration default",
        "spec.programClusterRoutes",
        "programClusterRoutes is",
        theirs,
    ),
    Case(
        "a service's",
        "kernel-policy",
        "10.96.0.5/32",
        (A, B, CLUSTER_IPS, service()),
        "BGPConfiguration default",
        "spec.serviceClusterIPs",
        "a service range",
        learned_service,
    ),
    Case(
        "WireGuard",
        "wireguard",
        THEIRS,
        (node("a", 1, **WIREGUARD), node("b", 2, **WIREGUARD), pool(), *block("b", THEIRS)),
        "Node b",
        "spec.wireguard.interfaceIPv4Address",
        "runs WireGuard",
        theirs,
    ),
    Case(
        "no tunnel",
        "kernel-way",
        THEIRS,
        (
            A,
            B,
            configured(program_cluster_routes=PROGRAMS),
            pool(ipip_mode=EncapsulationMode.ALWAYS),
            *block("b", THEIRS),
        ),
        words="there is no interface tunl0 that is up",
        prepare=theirs,
    ),
    Case("refused", "kernel-route", THEIRS, BASE, words="ENETUNREACH (errno 101)", prepare=kernel_refuses),
    Case("not yet", "kernel-route", THEIRS, BASE, words="is being written", prepare=kernel_is_slow),
)

ONLY_V6 = node("b", 2, v4=False, v6=True)
MESH_FIELD = "spec.nodeToNodeMeshEnabled"
LENT = {"10.1.1.7": ("lent", "b"), "10.1.1.5": ("here", "a")}
ADDRESS_CASES = (
    Case("free", "allocation", "10.1.1.9", BASE, f"IPAMBlock {OURS}", "spec.allocations[9]", "is free"),
    Case("free, by prefix", "allocation", "10.1.1.9/32", BASE, f"IPAMBlock {OURS}", "spec.allocations[9]"),
    Case(
        "no workload route",
        "workload",
        "10.1.1.5",
        (A, B, pool(), *block("a", OURS, LENT)),
        f"IPAMBlock {OURS}",
        None,
        "the kernel has no route of its own",
        only_a_session,
    ),
    Case("nowhere", "longest-match", "198.51.100.1", BASE, words="no route of BGP"),
    Case(
        "lent, and not told of",
        "lookup",
        "10.1.1.7",
        (A, B, pool(), *block("a", OURS, LENT)),
        f"IPAMBlock {OURS}",
        None,
        "packets to it are dropped here",
        only_a_session,
    ),
)

PEER_CASES = (
    Case("no records yet", "datastore", "b", (), words="not known yet", prepare=not_read_yet),
    Case("nothing", "target", "nobody", BASE, words="'nobody' is no prefix"),
    Case("no record of this node", "node", "b", (B,), "Node a", None, "there is no record of this node"),
    Case("no address", "node", "b", (Node(name="a"), B), "Node a", "spec.bgp", "neither an IPv4 nor"),
    Case(
        "no router ID",
        "node",
        "b",
        (node("a", 1, v4=False, v6=True), node("b", 2, v6=True)),
        "Node a",
        "spec.bgp.ipv4Address",
        "no router ID",
    ),
    Case("itself", "peering", "a", BASE, "Node a", None, "is this node itself"),
    Case("its own address", "peering", "10.0.0.1", BASE, "Node a", None, "is this node itself"),
    Case(
        "mesh off", "peering", "b", (A, B, NO_MESH), "BGPConfiguration default", "spec.nodeToNodeMeshEnabled"
    ),
    Case(
        "reflector here",
        "peering",
        "b",
        (REFLECTOR, B),
        "Node a",
        "spec.bgp.routeReflectorClusterID",
        "this node is a route reflector",
    ),
    Case(
        "reflector there",
        "peering",
        "b",
        (A, node("b", 2, route_reflector_cluster_id=CLUSTER_ID)),
        "Node b",
        "spec.bgp.routeReflectorClusterID",
        "node b is a route reflector",
    ),
    Case(
        "no common family",
        "peering",
        "b",
        (A, node("b", 2, v4=False, v6=True)),
        "Node b",
        "spec.bgp",
        "common",
    ),
    Case("no address there", "peering", "b", (A, Node(name="b")), "Node b", "spec.bgp", "neither an IPv4"),
    Case("same address", "peering", "b", (A, node("b", 1)), "Node b", "spec.bgp", "the address of this node"),
    Case(
        "a peer of others",
        "peering",
        "192.0.2.1",
        (A, B, peer("tor", "192.0.2.1", node="b", as_number=65001)),
        "BGPPeer tor",
        "spec.node",
        "the BGPPeer is for node b, not for a",
    ),
    Case(
        "a peer of others by labels",
        "peering",
        "192.0.2.1",
        (A, B, peer("tor", "192.0.2.1", node_selector="has(rack)", as_number=65001)),
        "BGPPeer tor",
        "spec.nodeSelector",
        "is for nodes with has(rack), and a is none",
    ),
    Case(
        "a peer of another family",
        "peering",
        "2001:db8::1",
        (A, peer("tor", "2001:db8::1", as_number=65001)),
        "BGPPeer tor",
        "spec.peerIP",
        "node a has no IPv6 address",
    ),
    Case(
        "reachable by the other family",
        "peering",
        "192.0.2.1",
        (A, peer("tor", "192.0.2.1", as_number=65001, reachable_by=ip_address("fd00::fe"))),
        "BGPPeer tor",
        "spec.reachableBy",
        "not of the family",
    ),
    Case(
        "covered",
        "running",
        "Mesh_10_0_0_2",
        (A, B, peer("to-b", "10.0.0.2", node="a", as_number=64512)),
        "BGPPeer to-b",
        None,
        "covered by Node_10_0_0_2",
    ),
    Case(
        "one family only",
        "families",
        "b",
        (A, B),
        words="does not offer IPv4",
        prepare=other_family,
    ),
    Case(
        "password too long",
        "held",
        "b",
        (*WITH_PASSWORD, LONG_SECRET),
        "BGPPeer to-b",
        "spec.password.secretKeyRef",
        "the password cannot be used",
    ),
    Case("shut down", "shut-down", "b", BASE, words='("cable work")', prepare=our_shutdown),
    Case(
        "no secret",
        "password",
        "b",
        WITH_PASSWORD,
        "BGPPeer to-b",
        "spec.password.secretKeyRef",
        "there is none at Secret kube-system/bgp",
    ),
    Case(
        "no secret of the mesh",
        "password",
        "b",
        (A, B, configured(node_mesh_password=SECRET)),
        "BGPConfiguration default",
        "spec.nodeMeshPassword.secretKeyRef",
        "the password is missing",
    ),
    Case(
        "another password",
        "key-mismatch",
        "b",
        (A, B, NO_MESH, BGP_SECRET, peer("to-b", "10.0.0.2", node="a", as_number=64512, password=SECRET)),
        "BGPPeer to-b",
        "spec.password.secretKeyRef",
        "different passwords",
        other_password,
    ),
    Case(
        "too many prefixes",
        "prefix-limit",
        "b",
        BASE,
        "BGPConfiguration default",
        None,
        "more prefixes than",
        prepare=too_many,
    ),
    Case("refused", "tcp", "b", DIALS_B, "BGPPeer to-b", None, "nothing listens", refused),
    Case("bad AS", "open", "b", DIALS_B, "BGPPeer to-b", "spec.asNumber", "AS numbers", other_as),
    Case(
        "silent",
        "hold-timer",
        "b",
        BASE,
        "BGPConfiguration default",
        None,
        words="not heard for the hold time",
        prepare=falls_silent,
    ),
    Case(
        "their operator",
        "notification",
        "b",
        BASE,
        record="BGPConfiguration default",
        words='"maintenance"',
        prepare=their_shutdown,
    ),
    Case("nobody came", "session", "b", BASE, words="waits for the peer to connect"),
)

CASES = (*PREFIX_CASES, *ADDRESS_CASES, *PEER_CASES)
GATES: tuple[Gate[Any], ...] = (*PREFIX_GATES, *ADDRESS_GATES, *LOOKUP_GATES, *PEER_GATES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.gate}: {case.name}")
def test_the_gate_stops(case: Case) -> None:
    async def test(scene: Scene) -> None:
        if case.prepare is not None:
            await case.prepare(scene)
        said = scene.explain(case.target)
        stop = said.stopped_by
        assert stop is not None, said
        assert (stop.gate, stop.record, stop.field) == (case.gate, case.record, case.field), stop
        assert case.words in stop.text
        assert not said.ok
        assert case.words in said.verdict
        consistent(said)

    on(case.records, test)


def consistent(said: Explanation) -> None:
    """What holds for every explanation."""
    stops = [step for step in said.steps if step.outcome == "stop"]
    assert said.stopped_by == (stops[0] if stops else None)
    assert said.ok == (not stops)
    order = {gate.name: number for number, gate in enumerate(GATES)}
    assert all(step.gate in order for step in said.steps)


def test_every_gate_that_can_stop_has_a_scene() -> None:
    can_stop = {
        gate.name
        for gate in GATES
        if any(word in inspect.getsource(gate.look) for word in ("stops", "_ended"))
    } | {"allocation", "affinity", "loop", "import"}  # by functions of theirs
    assert {case.gate for case in CASES} == can_stop
    for gates, cases in ((PREFIX_GATES, PREFIX_CASES), (PEER_GATES, PEER_CASES)):
        names = [gate.name for gate in gates]
        assert len(set(names)) == len(names)
        assert can_stop.intersection(names) == {case.gate for case in cases}


def test_every_gate_says_what_it_asks() -> None:
    assert all(gate.asks.endswith("?") for gate in GATES)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.pattern.pattern[:30])
def test_a_cause_belongs_to_a_gate_and_is_found(cause: Any) -> None:
    words = cause.pattern.pattern.split("|")[0].replace(r"\d+", "7").replace("-?", "-")

    async def test(scene: Scene) -> None:
        scene.speaker.peers["Mesh_10_0_0_2"].session.last_error = f"sent something: {words}"
        stop = scene.explain("b").stopped_by
        assert stop is not None
        assert stop.gate == cause.gate
        assert cause.meaning in stop.text

    on(BASE, test)
    assert cause.gate in {gate.name for gate in PEER_GATES}


def test_the_document_has_every_gate() -> None:
    document = (Path(__file__).resolve().parents[3] / "docs" / "explain.md").read_text()
    rows = [line for line in document.splitlines() if line.startswith("| `")]
    prefix, address, lookup, peering = (
        [f"| `{gate.name}` | {gate.asks} |" for gate in gates]
        for gates in (PREFIX_GATES, ADDRESS_GATES, LOOKUP_GATES, PEER_GATES)
    )
    assert rows == [*prefix, *address, *lookup, *peering]
