"""Clusters that differ in what goes into the kernel: borrowed addresses, tunnels, ECMP, next hops."""

from __future__ import annotations

from typing import Any

from tests.differential.cluster import (
    AS,
    NODE,
    Change,
    Cluster,
    Peer,
    Withdrawal,
    node_record,
    node_says,
    says,
    workload,
    workload_route,
)
from tests.differential.clusters.base import (
    MESH_HOSTS,
    ROUTER2_AS,
    ROUTER_AS,
    V4,
    cluster_records,
    rule,
    within,
)
from tests.routed_process import Record, block, peer, pool, record

BORROWED = Cluster(
    "borrowed",
    "A pod of ours with an address from another node's block, and another node's pod with one of ours",
    (
        *cluster_records(mesh=True, hosts=MESH_HOSTS),
        # IPAM knows of the first, and of a pod of ours that has no route yet.
        *block("worker02", "10.244.2.0/26", {"10.244.2.9": ("pod-a", NODE), "10.244.2.10": ("pod-b", NODE)}),
    ),
    (
        Peer("worker02", dials=True, says=(node_says("10.244.2.0/26"), node_says("10.244.1.9/32"))),
        Peer("worker03", says=(node_says("10.244.3.0/26"), node_says("10.244.2.7/32"))),
    ),
    (*workload("cali1", "10.244.1.5"), *workload("cali2", "10.244.2.9")),
    (
        Change(
            "the borrowed addresses go",
            {"worker02": (Withdrawal(("10.244.1.9/32",)),), "worker03": (Withdrawal(("10.244.2.7/32",)),)},
            ("route del 10.244.2.9 metric 1024",),
        ),
        Change("one moves here", kernel=(workload_route("cali2", "10.244.2.7"),)),
    ),
)


def encapsulated(**spec: Any) -> tuple[Record, ...]:
    """A pool of each encapsulation."""
    return cluster_records(
        node_record("worker02"),
        node_record("far"),
        pool("10.10.0.0/16"),
        _encapsulated_pool("10.11.0.0/16", "Always", "Never"),
        _encapsulated_pool("10.12.0.0/16", "CrossSubnet", "Never"),
        _encapsulated_pool("10.13.0.0/16", "Never", "Always"),
        _encapsulated_pool("10.14.0.0/16", "Never", "CrossSubnet"),
        *(one for number in range(10, 15) for one in block(NODE, f"10.{number}.1.0/26")),
        mesh=True,
        **spec,
    )


def _encapsulated_pool(cidr: str, ipip: str, vxlan: str) -> Record:
    made = pool(cidr)
    made["spec"] |= {"ipipMode": ipip, "vxlanMode": vxlan}
    return made


ENCAPSULATED_PEERS = (
    Peer("worker02", dials=True, says=(node_says(*(f"10.{number}.2.0/26" for number in range(10, 15))),)),
    Peer("far", dials=True, says=(node_says(*(f"10.{number}.5.0/26" for number in range(10, 15))),)),
)

CROSS_SUBNET = Cluster(
    "cross-subnet",
    "Pools of every encapsulation, learned from our subnet and from another; everything programmed by BGP",
    encapsulated(programClusterRoutes="Enabled"),
    ENCAPSULATED_PEERS,
    workload("cali1", "10.11.5.9"),
    (
        Change("by default BGP programs what is not encapsulated", records=encapsulated()),
        Change("BGP programs IPIP alone", records=encapsulated(programClusterRoutes="EnabledIPIPOnly")),
        Change("BGP programs nothing", records=encapsulated(programClusterRoutes="Disabled")),
    ),
)

ECMP = Cluster(
    "ecmp",
    "Equal paths by several peers, and paths that look equal",
    cluster_records(
        node_record("worker02"),
        node_record("worker03"),
        node_record("far"),
        peer("router", V4["router"], ROUTER_AS),
        peer("router2", V4["router2"], ROUTER2_AS),
        pool("198.18.0.0/15"),
        mesh=True,
    ),
    (
        Peer(
            "worker02",
            dials=True,
            says=(node_says("10.244.2.0/26", "10.244.4.0/26"), node_says("10.244.5.0/26", metric=900)),
        ),
        Peer(
            "worker03",
            says=(
                node_says("10.244.2.0/26"),
                node_says("10.244.5.0/26", "10.244.6.0/26"),
                node_says("10.244.4.0/26", as_path=[65009]),
            ),
        ),
        Peer("far", dials=True, says=(node_says("10.244.2.0/26", "10.244.6.0/26"),)),
        Peer(
            "router",
            ROUTER_AS,
            says=(
                says("198.18.1.0/24", as_path=[ROUTER_AS, 65100]),
                says("198.18.2.0/24", as_path=[ROUTER_AS, 65100], med=10),
                says("198.18.3.0/24", as_path=[ROUTER_AS, 65100], origin=2),
                says("198.18.4.0/24", as_path=[ROUTER_AS, 65100]),
            ),
        ),
        Peer(
            "router2",
            ROUTER2_AS,
            says=(
                says("198.18.1.0/24", as_path=[ROUTER2_AS, 65101]),
                says("198.18.2.0/24", as_path=[ROUTER2_AS, 65100], med=20),
                says("198.18.3.0/24", as_path=[ROUTER2_AS, 65100]),
                says("198.18.4.0/24", as_path=[ROUTER2_AS, 65100], next_hop=V4["router"]),
            ),
        ),
    ),
    changes=(
        Change("one of three equal paths goes", {"worker03": (Withdrawal(("10.244.2.0/26",)),)}),
        Change("a router goes", ends=("router2",)),
    ),
)

CONNECTED = Cluster(
    "connected",
    "Connected routes, which only filters let out; ignored interfaces; next hops that nobody reaches",
    cluster_records(
        record("BGPFilter", "connected", exportV4=[rule("Accept", **within("172.16.0.0/12"))]),
        node_record("worker02"),
        record("BGPPeer", "node", node=NODE, peerIP=V4["worker02"], asNumber=AS),
        peer("router", V4["router"], ROUTER_AS, filters=["connected"]),
        ignoredInterfaces=["ignored*"],
    ),
    (
        Peer(
            "worker02",
            dials=True,
            says=(
                node_says("10.244.2.0/26"),
                node_says("10.244.3.0/26", next_hop="172.17.0.9"),
                node_says("10.244.4.0/26", next_hop="172.31.0.9"),
                node_says("10.244.5.0/26", next_hop=V4["far"]),
                node_says("10.244.6.0/26", next_hop=V4[NODE]),
            ),
        ),
        Peer("router", ROUTER_AS, says=(says("10.244.7.0/26", as_path=[ROUTER_AS]),)),
    ),
    (
        "link add other type veth peer name otherp",
        "link set otherp up",
        "link set other up",
        "addr add 172.17.0.1/24 dev other",
        "link add ignored0 type veth peer name ignored0p",
        "link set ignored0p up",
        "link set ignored0 up",
        "addr add 172.18.0.1/24 dev ignored0",
        *workload("cali1", "172.19.0.5"),
        "addr add 172.20.0.1/24 dev cali1",
    ),
    (
        Change("a network comes", kernel=("addr add 172.31.0.1/24 dev other",)),
        Change("a network goes", kernel=("addr del 172.17.0.1/24 dev other",)),
    ),
)
