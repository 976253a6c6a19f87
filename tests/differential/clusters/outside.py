"""Clusters with peers of other ASes: routers outside, and nodes with AS numbers of their own."""

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
    BLOCK6,
    OWN,
    POOL,
    ROUTER2_AS,
    ROUTER_AS,
    V4,
    V6,
    cluster_records,
    rule,
    within,
)
from tests.raw_peer import OPTIONAL, PARTIAL, TRANSITIVE, Attribute
from tests.routed_process import block, configuration, peer, pool, record

EBGP = Cluster(
    "ebgp",
    "Two routers outside: paths of all lengths, origins, MEDs and communities, passed on to a node",
    cluster_records(
        node_record("worker02"),
        record("BGPPeer", "node", node=NODE, peerIP=V4["worker02"], asNumber=AS),
        peer("router", V4["router"], ROUTER_AS),
        peer("router2", V4["router2"], ROUTER2_AS),
        pool("203.0.113.0/24"),
        pool("198.18.0.0/15"),
    ),
    (
        Peer("worker02", says=(node_says("10.244.2.0/26", communities=[(64512, 7)]),), dials=True),
        Peer(
            "router",
            ROUTER_AS,
            says=(
                says("0.0.0.0/0", as_path=[ROUTER_AS]),
                says("203.0.113.0/25", as_path=[ROUTER_AS, 65100], med=50, communities=[(65001, 1)]),
                says(
                    "203.0.113.128/25",
                    as_path=[ROUTER_AS, 65100, 65101],
                    origin=2,
                    large_communities=[(65001, 1, 2)],
                ),
                says("198.18.1.0/24", as_path=[ROUTER_AS, 65100], communities=[(0xFFFF, 0xFF01)]),
                says("198.18.2.0/24", as_path=[ROUTER_AS, 65100], communities=[(0xFFFF, 0xFF02)]),
                says("198.18.3.0/24", as_path=[ROUTER_AS, frozenset({65100, 65101})], origin=1),
                # Our own AS in the path.
                says("198.18.4.0/24", as_path=[ROUTER_AS, AS, 65100]),
                # An unknown attribute, transitive and not; LOCAL_PREF from outside means nothing.
                says(
                    "198.18.5.0/24",
                    as_path=[ROUTER_AS],
                    more=[Attribute(OPTIONAL | TRANSITIVE, 200, b"\x01\x02\x03")],
                ),
                says("198.18.6.0/24", as_path=[ROUTER_AS], more=[Attribute(OPTIONAL, 201, b"\x01")]),
                says(
                    "198.18.7.0/24",
                    as_path=[ROUTER_AS],
                    more=[Attribute(OPTIONAL | TRANSITIVE | PARTIAL, 202, b"\x01")],
                ),
                says("198.18.8.0/24", as_path=[ROUTER_AS], local_pref=NORMAL + 10),
                says(
                    "198.18.9.0/24",
                    as_path=[ROUTER_AS],
                    more=[
                        Attribute(TRANSITIVE, 6, b""),
                        Attribute(
                            OPTIONAL | TRANSITIVE, 7, (65001).to_bytes(4, "big") + bytes((192, 0, 2, 99))
                        ),
                    ],
                ),
                # A next hop that is not the router itself.
                says("198.18.10.0/24", as_path=[ROUTER_AS], next_hop=V4["router2"]),
            ),
        ),
        Peer(
            "router2",
            ROUTER2_AS,
            says=(
                # As good but for the MED, which counts between routers of one AS only.
                says("203.0.113.0/25", as_path=[ROUTER2_AS, 65100], med=10),
                says("203.0.113.128/25", as_path=[ROUTER2_AS, 65100, 65101]),
                says("198.18.3.0/24", as_path=[ROUTER2_AS, 65100, 65101, 65102]),
                says("10.244.2.0/26", as_path=[ROUTER2_AS]),
                # Our own block from outside.
                says(BLOCK, as_path=[ROUTER2_AS]),
            ),
        ),
    ),
    changes=(Change("a router goes", ends=("router",)),),
)


LOCAL_AS = Cluster(
    "local-as",
    "Another local AS towards each of three routers, and our own AS allowed in the path",
    cluster_records(
        node_record("worker02"),
        record("BGPPeer", "node", node=NODE, peerIP=V4["worker02"], asNumber=AS),
        peer("router", V4["router"], ROUTER_AS, localASNumber=65010),
        peer("router2", V4["router2"], ROUTER2_AS, numAllowedLocalASNumbers=2),
        # Its AS is the local AS towards it: internal, but not our AS's.
        peer("router4", V4["worker04"], 65020, localASNumber=65020),
        pool("198.18.0.0/15"),
    ),
    (
        Peer("worker02", dials=True, says=(node_says("10.244.2.0/26"),)),
        Peer(
            "router",
            ROUTER_AS,
            says=(
                says("198.18.1.0/24", as_path=[ROUTER_AS, 65010]),
                says("198.18.2.0/24", as_path=[ROUTER_AS, AS]),
                says("198.18.3.0/24", as_path=[ROUTER_AS, 65011]),
            ),
        ),
        Peer(
            "router2",
            ROUTER2_AS,
            says=(
                says("198.18.11.0/24", as_path=[ROUTER2_AS, AS]),
                says("198.18.12.0/24", as_path=[ROUTER2_AS, AS, AS]),
                says("198.18.13.0/24", as_path=[ROUTER2_AS, AS, AS, AS]),
            ),
        ),
        Peer(
            "worker04",
            65020,
            says=(
                says("198.18.21.0/24", local_pref=NORMAL),
                says("198.18.22.0/24", local_pref=NORMAL, as_path=[65030]),
            ),
        ),
    ),
)


EBGP_MESH = Cluster(
    "ebgp-mesh",
    "A mesh of nodes with AS numbers of their own: the same block by one and by two",
    (
        configuration(AS, mesh=True),
        node_record(NODE, asNumber=65010),
        node_record("worker02", asNumber=65002),
        node_record("worker03", asNumber=4200000003),
        node_record("worker04"),
        POOL,
        *OWN,
    ),
    (
        Peer("worker02", 65002, dials=True, says=(says("10.244.2.0/26", "10.244.5.0/26", as_path=[65002]),)),
        Peer(
            "worker03",
            4200000003,
            says=(
                says("10.244.3.0/26", "10.244.5.0/26", as_path=[4200000003]),
                says("10.244.2.0/26", as_path=[4200000003, 65002]),
                says("10.244.4.0/26", as_path=[4200000003, 65010, AS]),
            ),
        ),
        Peer("worker04", dials=True, says=(says("10.244.4.0/26", as_path=[AS]),)),
    ),
    changes=(Change("a node goes", ends=("worker02",)),),
)


IPV6_OUTSIDE = Cluster(
    "ipv6-outside",
    "IPv6 with a router outside: communities, filters, services, a borrowed address, next hops kept",
    (
        configuration(
            AS,
            mesh=False,
            serviceClusterIPs=[{"cidr": "fd00:96::/112"}],
            prefixAdvertisements=[{"cidr": "fd00:10:244::/48", "communities": ["64512:6", "64512:6:6"]}],
            ipv6NormalRoutePriority=2048,
        ),
        node_record(NODE, versions=(4, 6)),
        node_record("worker02", versions=(4, 6)),
        pool("fd00:10:244::/48"),
        pool("2001:db8:f0::/44"),
        *block(NODE, BLOCK6),
        record(
            "BGPFilter",
            "filter",
            importV6=[
                rule("Reject", **within("2001:db8:f3::/48")),
                rule("Accept", asPathPrefix=[ROUTER_AS, 65100], operations=[{"setPriority": {"value": 90}}]),
            ],
            exportV6=[
                rule(
                    "Accept",
                    **within("2001:db8:f4::/48"),
                    operations=[{"prependASPath": {"prefix": [65500]}}],
                ),
                rule("Reject", **within("2001:db8:f5::/48"), peerType="iBGP"),
            ],
        ),
        record(
            "BGPPeer",
            "node",
            node=NODE,
            peerIP=V6["worker02"],
            asNumber=AS,
            filters=["filter"],
            nextHopMode="Self",
        ),
        peer("router", V6["router"], ROUTER_AS, filters=["filter"]),
        peer("router2", V6["router2"], ROUTER2_AS, nextHopMode="Keep"),
    ),
    (
        Peer(
            "worker02",
            version=6,
            dials=True,
            says=(
                node_says("fd00:10:244:2::/122", metric=2048),
                node_says("fd00:10:244:2::40/122", metric=500),
                node_says("fd00:10:244:2::80/122", metric=4000, next_hop=V6["far"]),
            ),
        ),
        Peer(
            "router",
            ROUTER_AS,
            version=6,
            says=(
                says("::/0", as_path=[ROUTER_AS]),
                says("2001:db8:f1::/48", as_path=[ROUTER_AS, 65100], med=5, communities=[(65001, 1)]),
                says("2001:db8:f3::/48", "2001:db8:f3:1::/64", as_path=[ROUTER_AS]),
                says(
                    "2001:db8:f4::/48", "2001:db8:f5::/48", as_path=[ROUTER_AS], large_communities=[(1, 2, 3)]
                ),
                says("2001:db8:f6::/48", as_path=[ROUTER_AS, AS]),
            ),
        ),
        Peer("router2", ROUTER2_AS, version=6, says=(says("2001:db8:f1::/48", as_path=[ROUTER2_AS, 65100]),)),
    ),
    (
        *workload("cali1", "fd00:10:244:1::5", "fd00:10:244:2::9", metric=2048),
        workload_route("cali1", "fd00:10:244:1::6", 100),
    ),
    (
        Change(
            "routes go, and a pod",
            {"router-v6": (Withdrawal(("2001:db8:f1::/48", "::/0")),)},
            ("route del fd00:10:244:2::9 metric 2048",),
        ),
    ),
)
