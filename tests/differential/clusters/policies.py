"""Clusters that differ in what the policies do: filters, communities, priorities, services, pools."""

from __future__ import annotations

from tests.differential.cluster import (
    AS,
    NODE,
    Change,
    Cluster,
    Peer,
    node_record,
    node_says,
    says,
    workload,
    workload_route,
)
from tests.differential.clusters.base import (
    BLOCK,
    MESH_HOSTS,
    ROUTER2_AS,
    ROUTER_AS,
    V4,
    cluster_records,
    rule,
    within,
)
from tests.routed_process import block, peer, pool, record

OPERATIONS = [
    {"addCommunity": {"value": "65001:100"}},
    {"addCommunity": {"value": "65001:1:100"}},
    {"prependASPath": {"prefix": [65500, 65501]}},
]

PRIORITIES = Cluster(
    "priorities",
    "Route priorities: better and worse than normal, ours and theirs; a peer that overrides our block",
    cluster_records(mesh=True, hosts=MESH_HOSTS, ipv4NormalRoutePriority=512),
    (
        Peer(
            "worker02",
            dials=True,
            says=(
                node_says("10.244.2.0/26", metric=512),
                node_says("10.244.2.64/26", metric=100),
                node_says("10.244.2.128/26", metric=2000),
                # A workload that moves here live: its /32 is better than normal.
                node_says("10.244.1.7/32", metric=100),
                # Our own block, no better than normal, and better.
                node_says(BLOCK, metric=512),
            ),
        ),
        Peer("worker03", says=(node_says("10.244.2.0/26", metric=400),)),
    ),
    (
        *workload("cali1", "10.244.1.5", metric=512),
        workload_route("cali1", "10.244.1.6", 100),
        workload_route("cali1", "10.244.1.8", 2000),
    ),
    (Change("a peer overrides our block", {"worker02": (node_says(BLOCK, metric=100),)}),),
)

FILTERS = Cluster(
    "filters",
    "BGPFilters with every match and every operation, towards an internal and an external peer",
    cluster_records(
        record(
            "BGPFilter",
            "export",
            exportV4=[
                rule("Reject", **within("10.244.3.0/24", "Equal")),
                rule("Reject", **within("10.244.0.0/16", "In", min=29, max=31)),
                rule("Reject", peerType="eBGP", communities={"values": ["64512:13"]}),
                rule("Reject", communities={"values": ["64512:1:13"]}),
                rule("Reject", peerType="iBGP", asPathPrefix=[ROUTER_AS, 65100]),
                rule("Reject", priority=300),
                rule("Reject", interface="cali9*"),
                rule("Accept", interface="cali8*", operations=[{"setPriority": {"value": 77}}]),
                rule("Accept", source="RemotePeers", **within("198.18.0.0/15"), operations=OPERATIONS),
                rule(
                    "Accept",
                    **within(BLOCK, "Equal"),
                    operations=[*OPERATIONS, {"setPriority": {"value": 55}}],
                ),
            ],
        ),
        record(
            "BGPFilter",
            "import",
            importV4=[
                rule("Reject", **within("172.16.0.0/12")),
                rule("Reject", **within("10.244.0.0/16", "NotIn", min=24), priority=400),
                rule("Reject", **within("10.0.0.0/8", "NotEqual"), communities={"values": ["65001:66"]}),
                rule(
                    "Accept",
                    asPathPrefix=[ROUTER_AS, 65200],
                    operations=[{"setPriority": {"value": 200}}, *OPERATIONS],
                ),
                rule("Accept", priority=600, operations=[{"setPriority": {"value": 601}}]),
            ],
        ),
        node_record("worker02"),
        record(
            "BGPPeer", "node", node=NODE, peerIP=V4["worker02"], asNumber=AS, filters=["import", "export"]
        ),
        peer("router", V4["router"], ROUTER_AS, filters=["import", "export", "gone"]),
        pool("198.18.0.0/15"),
    ),
    (
        Peer(
            "worker02",
            dials=True,
            says=(
                node_says("10.244.2.0/26"),
                node_says("10.244.2.64/26", metric=600),
                node_says("10.244.2.128/26", metric=400),
                node_says("172.20.0.0/16", "10.244.4.0/24"),
                node_says("10.244.5.0/24", communities=[(65001, 66)]),
                node_says("198.18.0.0/24", "198.18.1.0/24"),
                node_says("198.18.2.0/24", metric=300),
                node_says("198.18.3.0/24", communities=[(64512, 13), (64512, 14)]),
                node_says("198.18.4.0/24", large_communities=[(64512, 1, 13)]),
            ),
        ),
        Peer(
            "router",
            ROUTER_AS,
            says=(
                says("198.18.5.0/24", as_path=[ROUTER_AS, 65100]),
                says("198.18.6.0/24", as_path=[ROUTER_AS, 65200, 65201]),
                says("198.18.7.0/24", as_path=[ROUTER_AS], communities=[(65001, 66)]),
                says("198.18.8.0/24", as_path=[ROUTER_AS], communities=[(64512, 13), (65001, 100)]),
                says("172.16.5.0/24", "10.244.7.0/24", as_path=[ROUTER_AS]),
            ),
        ),
    ),
    (
        *workload("cali1", "10.244.1.5", "10.244.9.5"),
        *workload("cali8", "10.244.9.8"),
        *workload("cali9", "10.244.9.9"),
        "route add 10.244.10.0/30 dev cali1 metric 1024 protocol 80",
        "route add 10.244.3.0/24 dev cali1 metric 1024 protocol 80",
    ),
)

COMMUNITIES = Cluster(
    "communities",
    "Communities by prefixAdvertisements, by name and by value, overlapping, over what routes have",
    cluster_records(
        node_record("worker02"),
        record("BGPPeer", "node", node=NODE, peerIP=V4["worker02"], asNumber=AS),
        peer("router", V4["router"], ROUTER_AS),
        pool("198.18.0.0/15"),
        communities=[{"name": "pods", "value": "64512:1"}, {"name": "large", "value": "64512:1:2"}],
        prefixAdvertisements=[
            {"cidr": "10.244.0.0/16", "communities": ["pods", "large", "64512:99"]},
            {"cidr": "10.244.1.0/24", "communities": ["64512:99", "64512:98"]},
            {"cidr": "198.18.5.0/24", "communities": ["64512:5"]},
        ],
    ),
    (
        Peer("worker02", dials=True, says=(node_says("10.244.2.0/26", communities=[(64512, 99), (1, 1)]),)),
        Peer(
            "router",
            ROUTER_AS,
            says=(
                says(
                    "198.18.5.0/24",
                    as_path=[ROUTER_AS],
                    communities=[(65001, 5)],
                    large_communities=[(1, 2, 3)],
                ),
                says("198.18.6.0/24", as_path=[ROUTER_AS], communities=[(65001, 6), (65001, 6), (65001, 4)]),
                says("198.18.0.0/16", as_path=[ROUTER_AS]),
            ),
        ),
    ),
    changes=(
        Change(
            "the node has a list of its own",
            records=cluster_records(
                node_record("worker02"),
                record("BGPPeer", "node", node=NODE, peerIP=V4["worker02"], asNumber=AS),
                peer("router", V4["router"], ROUTER_AS),
                pool("198.18.0.0/15"),
                record(
                    "BGPConfiguration",
                    f"node.{NODE}",
                    prefixAdvertisements=[{"cidr": "10.244.1.0/24", "communities": ["64512:97"]}],
                ),
            ),
        ),
    ),
)

SERVICES = Cluster(
    "services",
    "Service ranges, single addresses and a load balancer's; a peer that says the same",
    cluster_records(
        node_record("worker02"),
        record("BGPPeer", "node", node=NODE, peerIP=V4["worker02"], asNumber=AS),
        peer("router", V4["router"], ROUTER_AS),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "local", "namespace": "shop"},
            "spec": {
                "type": "LoadBalancer",
                "externalTrafficPolicy": "Local",
                "clusterIP": "10.96.0.10",
                "clusterIPs": ["10.96.0.10"],
                "externalIPs": ["203.0.113.130", "172.16.0.1"],
                "ipFamilies": ["IPv4"],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "198.18.0.10"}]}},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "local-a",
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "local"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.244.1.5"], "nodeName": NODE, "conditions": {"ready": True}}],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "single", "namespace": "shop"},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": "10.96.0.30",
                "clusterIPs": ["10.96.0.30"],
                "externalIPs": ["192.0.2.200"],
                "ipFamilies": ["IPv4"],
            },
        },
        serviceClusterIPs=[{"cidr": "10.96.0.0/16"}],
        serviceExternalIPs=[{"cidr": "203.0.113.128/25"}, {"cidr": "192.0.2.200/32"}],
        serviceLoadBalancerIPs=[{"cidr": "198.18.0.0/24"}],
    ),
    (
        Peer(
            "worker02",
            dials=True,
            says=(
                node_says("10.244.2.0/26"),
                # Another node serves it too: not for our kernel.
                node_says("10.96.0.10/32", "10.96.0.0/16", "198.18.0.11/32"),
                node_says("203.0.113.130/32", metric=100),
            ),
        ),
        Peer("router", ROUTER_AS, says=(says("10.96.0.11/32", as_path=[ROUTER_AS]),)),
    ),
    workload("cali1", "10.244.1.5"),
)

POOLS = Cluster(
    "pools",
    "A pool with disableBGPExport, a disabled pool, no pool at all; pods and learned routes in each",
    cluster_records(
        node_record("worker02"),
        record("BGPPeer", "node", node=NODE, peerIP=V4["worker02"], asNumber=AS),
        peer("router", V4["router"], ROUTER_AS),
        pool("10.245.0.0/16", disableBGPExport=True),
        pool("10.246.0.0/16", disabled=True),
        *block(NODE, "10.245.1.0/26"),
        *block(NODE, "10.246.1.0/26"),
        *block(NODE, "10.249.1.0/26"),
    ),
    (
        Peer(
            "worker02",
            dials=True,
            says=(node_says("10.244.2.0/26", "10.245.2.0/26", "10.246.2.0/26", "10.247.2.0/26"),),
        ),
        Peer(
            "router",
            ROUTER_AS,
            says=(
                says("10.244.9.0/26", "10.245.9.0/26", "10.246.9.0/26", "10.247.9.0/26", as_path=[ROUTER_AS]),
            ),
        ),
    ),
    (
        *workload("cali1", "10.244.9.5", "10.245.9.5", "10.246.9.5", "10.247.9.5"),
        *workload("cali2", "10.246.1.5", "10.249.1.5"),
    ),
)

NEXT_HOPS = Cluster(
    "next-hops",
    "nextHopMode Self and Keep, the old keepOriginalNextHop, inside and outside",
    cluster_records(
        node_record("worker02"),
        node_record("worker03"),
        record("BGPPeer", "n2", node=NODE, peerIP=V4["worker02"], asNumber=AS, nextHopMode="Self"),
        record("BGPPeer", "n3", node=NODE, peerIP=V4["worker03"], asNumber=AS, nextHopMode="Keep"),
        peer("router", V4["router"], ROUTER_AS, nextHopMode="Keep"),
        peer("router2", V4["router2"], ROUTER2_AS, keepOriginalNextHop=True),
        peer("router4", V4["worker04"], 65040, nextHopMode="Self"),
        pool("198.18.0.0/15"),
    ),
    (
        Peer("worker02", dials=True, says=(node_says("10.244.2.0/26"),)),
        Peer("worker03", says=(node_says("10.244.3.0/26", next_hop=V4["worker02"]),)),
        Peer(
            "router",
            ROUTER_AS,
            says=(
                says("198.18.1.0/24", as_path=[ROUTER_AS]),
                says("198.18.2.0/24", as_path=[ROUTER_AS], next_hop=V4["worker02"]),
            ),
        ),
        Peer("router2", ROUTER2_AS, says=(says("198.18.3.0/24", as_path=[ROUTER2_AS]),)),
        Peer("worker04", 65040, says=(says("198.18.4.0/24", as_path=[65040]),)),
    ),
    workload("cali1", "10.244.9.5"),
)
