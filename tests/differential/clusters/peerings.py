"""Clusters that differ in who peers with whom: mesh, reflectors, routers outside."""

from __future__ import annotations

from tests.differential.cluster import (
    AS,
    NODE,
    NORMAL,
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
    BLOCK,
    MESH_HOSTS,
    OWN,
    POOL,
    POOL6,
    ROUTER2_AS,
    ROUTER_AS,
    V4,
    cluster_records,
    mesh_peers,
)
from tests.raw_peer import ADD_PATH
from tests.routed_process import configuration, peer, pool, record

MESH = Cluster(
    "mesh",
    "Two mesh nodes; a pod in our block and one gone; a block that comes and goes",
    cluster_records(mesh=True, hosts=MESH_HOSTS),
    mesh_peers(),
    workload("cali1", "10.244.1.5"),
    (
        Change(
            "a peer has one block more and one less, a pod comes",
            {"worker02": (node_says("10.244.2.64/26"), Withdrawal(("10.244.2.0/26",)))},
            (workload_route("cali1", "10.244.1.6"),),
        ),
        Change("a peer goes", ends=("worker03",)),
    ),
)


IPV6 = Cluster(
    "ipv6",
    "A dual-stack mesh: a session a family",
    cluster_records(mesh=True, hosts=MESH_HOSTS, versions=(4, 6)),
    (*mesh_peers(4), *mesh_peers(6)),
    workload("cali1", "10.244.1.5", "fd00:10:244:1::5"),
    (Change("one family of a peer withdraws", {"worker02-v6": (Withdrawal(("fd00:10:244:2::/122",)),)}),),
)


REFLECTORS = Cluster(
    "reflectors",
    "A client of two reflectors, which tell the same routes of other nodes",
    cluster_records(
        node_record("worker03", labels={"rr": "yes"}, routeReflectorClusterID="10.0.0.1"),
        node_record("worker04", labels={"rr": "yes"}, routeReflectorClusterID="10.0.0.1"),
        node_record("worker02"),
        record("BGPPeer", "reflectors", nodeSelector="!has(rr)", peerSelector="has(rr)"),
    ),
    tuple(
        Peer(
            host,
            says=(
                node_says(
                    "10.244.2.0/26",
                    next_hop=V4["worker02"],
                    originator_id=V4["worker02"],
                    cluster_list=["10.0.0.1"],
                ),
                # Our own, come back; and one that passed our own cluster's other reflector twice.
                node_says(BLOCK, next_hop=V4[NODE], originator_id=V4[NODE], cluster_list=["10.0.0.1"]),
                node_says(
                    "10.244.9.0/26",
                    next_hop=V4["worker02"],
                    originator_id=V4["worker02"],
                    cluster_list=["10.0.0.1", "10.0.0.2"] if host == "worker03" else ["10.0.0.1"],
                ),
            ),
        )
        for host in ("worker03", "worker04")
    ),
    changes=(Change("one reflector goes", ends=("worker03",)),),
)


REFLECTOR = Cluster(
    "reflector",
    "The node is itself a reflector: two clients, another reflector of its cluster and one of another",
    (
        configuration(AS, serviceLoadBalancerIPs=[{"cidr": "198.18.0.0/24"}]),
        node_record(NODE, labels={"rr": "yes"}, routeReflectorClusterID="10.0.0.1"),
        node_record("worker02"),
        node_record("worker03"),
        node_record("worker04", labels={"rr": "yes"}, routeReflectorClusterID="10.0.0.1"),
        node_record("router2", labels={"rr": "yes"}, routeReflectorClusterID="10.0.0.9"),
        POOL,
        POOL6,
        *OWN,
        record("BGPPeer", "clients", nodeSelector="has(rr)", peerSelector="!has(rr)"),
        record("BGPPeer", "reflectors", nodeSelector="has(rr)", peerSelector="has(rr)"),
    ),
    (
        Peer("worker02", says=(node_says("10.244.2.0/26"), node_says("198.18.0.7/32"))),
        Peer("worker03", says=(node_says("10.244.3.0/26"), node_says("10.250.0.0/24"))),
        Peer(
            "worker04",
            says=(
                node_says("10.244.4.0/26"),
                node_says("10.244.5.0/26", originator_id="10.9.9.9", cluster_list=["10.0.0.1"]),
            ),
        ),
        Peer(
            "router2",
            says=(
                node_says("10.244.6.0/26"),
                node_says(
                    "10.244.7.0/26",
                    next_hop=V4["worker04"],
                    originator_id="10.9.9.9",
                    cluster_list=["10.0.0.9"],
                ),
                node_says("10.244.8.0/26", originator_id=V4[NODE], cluster_list=["10.0.0.9"]),
            ),
        ),
    ),
    changes=(
        Change(
            "a client goes and another takes its block",
            {"worker03": (node_says("10.244.2.0/26"),)},
            ends=("worker02",),
        ),
    ),
)


SESSIONS = Cluster(
    "sessions",
    "Ports, passwords, TTL security, timers and a peer behind a gateway; WireGuard on both ends",
    (
        configuration(
            AS,
            mesh=False,
            listenPort=1790,
            nodeMeshMaxRestartTime="90s",
            bindMode="NodeIP",
            nodeMeshPassword={"secretKeyRef": {"name": "bgp", "key": "mesh"}},
        ),
        node_record(NODE, wireguard="10.9.0.11"),
        node_record("worker02", wireguard="10.9.0.2"),
        POOL,
        *OWN,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "bgp", "namespace": "kube-system"},
            "data": {"outside": "b3V0c2lkZSBzZWNyZXQ="},
        },
        record("BGPPeer", "node", node=NODE, peerIP=V4["worker02"], asNumber=AS),
        peer(
            "router",
            f"{V4['router']}:1179",
            ROUTER_AS,
            password={"secretKeyRef": {"name": "bgp", "key": "outside"}},
            maxRestartTime="30s",
            keepaliveTime="20s",
        ),
        peer("router2", V4["router2"], ROUTER2_AS, ttlSecurity=1, sourceAddress="None"),
        peer("far", V4["far"], AS, reachableBy=V4["router"]),
    ),
    (
        Peer(
            "worker02",
            port=1790,
            says=(node_says("10.244.2.0/26"), node_says("10.244.3.0/26", next_hop=V4["worker03"])),
        ),
        Peer(
            "router",
            ROUTER_AS,
            port=1179,
            password="outside secret",
            says=(says("198.18.1.0/24", as_path=[ROUTER_AS]),),
        ),
        Peer("router2", ROUTER2_AS, ttl=255, says=(says("198.18.2.0/24", as_path=[ROUTER2_AS]),)),
        Peer("far", says=(node_says("10.244.5.0/26"),)),
    ),
    ("route del 198.51.100.0/24 via 192.0.2.1",),
)


ADD_PATHS = Cluster(
    "add-path",
    "A reflector with clients that send and receive several paths to a prefix, and a router that does",
    (
        configuration(AS),
        node_record(NODE, labels={"rr": "yes"}, routeReflectorClusterID="10.0.0.1"),
        node_record("worker02"),
        node_record("worker03"),
        node_record("worker04"),
        POOL,
        *OWN,
        record("BGPPeer", "clients", nodeSelector="has(rr)", peerSelector="!has(rr)"),
        peer("router", V4["router"], ROUTER_AS),
        pool("198.18.0.0/15"),
    ),
    (
        Peer(
            "worker02",
            capabilities=((ADD_PATH, bytes((0, 1, 1, 3))),),
            says=(
                says("10.244.2.0/26", local_pref=NORMAL, path_id=1),
                says("10.244.2.0/26", local_pref=NORMAL, path_id=2, next_hop=V4["router2"]),
                says("10.244.3.0/26", local_pref=NORMAL - 5, path_id=7, next_hop=V4["router2"]),
                says("10.244.3.0/26", local_pref=NORMAL, path_id=9),
            ),
        ),
        Peer("worker03", says=(node_says("10.244.2.0/26"),)),
        Peer("worker04", capabilities=((ADD_PATH, bytes((0, 1, 1, 1))),), says=(node_says("10.244.4.0/26"),)),
        Peer(
            "router",
            ROUTER_AS,
            capabilities=((ADD_PATH, bytes((0, 1, 1, 1))),),
            says=(says("198.18.1.0/24", as_path=[ROUTER_AS]),),
        ),
    ),
    changes=(
        Change(
            "one of the paths goes",
            {"worker02": (Withdrawal(("10.244.2.0/26",), 1), Withdrawal(("10.244.3.0/26",), 9))},
        ),
        Change("a client goes", ends=("worker03",)),
    ),
)
