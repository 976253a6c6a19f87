"""Who peers with whom: the rules one by one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address
from typing import Any

import pytest

from routed.bgp.nlri import Family
from routed.intent.compiler import compile_intent
from routed.intent.local_workloads import EndpointStatus
from routed.intent.options import Options
from routed.intent.types import NextHopMode, NodeIntent, PeeringKind
from routed.resources import (
    BGPConfiguration,
    BGPFilter,
    BGPPeer,
    Node,
    PeerAddress,
    Record,
    ReversePeering,
    Secret,
    SecretKeyRef,
    SecretValue,
    SourceAddress,
    parse_selector,
)
from routed.resources import NextHopMode as RecordNextHopMode

NO_MESH = BGPConfiguration(name="default", node_to_node_mesh_enabled=False)
CLUSTER_ID = IPv4Address("10.255.0.1")


def node(name: str, last: int, *, v4: bool = True, v6: bool = False, **fields: Any) -> Node:
    """A node with addresses 10.0.0.<last> and fd00::<last>."""
    return Node(
        name=name,
        ipv4_address=IPv4Interface(f"10.0.0.{last}/24") if v4 else None,
        ipv6_address=IPv6Interface(f"fd00::{last}/64") if v6 else None,
        **fields,
    )


def peer(name: str = "p", ip: str | None = None, port: int | None = None, **fields: Any) -> BGPPeer:
    for selector in ("node_selector", "peer_selector", "local_workload_selector"):
        if selector in fields:
            fields[selector] = parse_selector(fields[selector])
    return BGPPeer(name=name, peer_ip=PeerAddress(ip_address(ip), port) if ip else None, **fields)


def compiled(*records: Record, on: str = "a") -> NodeIntent:
    return compile_intent(records, Options(on))


def names(*records: Record, on: str = "a") -> list[str]:
    return list(compiled(*records, on=on).sessions)


A, B, C = node("a", 1), node("b", 2), node("c", 3)


# --- mesh ---------------------------------------------------------------------------------------------------


def test_the_mesh_is_on_without_any_configuration() -> None:
    intent = compiled(A, B, C)
    assert list(intent.sessions) == ["Mesh_10_0_0_2", "Mesh_10_0_0_3"]
    session = intent.sessions["Mesh_10_0_0_2"]
    assert (session.peer_as, session.local_as, session.port) == (64512, 64512, 179)
    assert session.source_address == ip_address("10.0.0.1")
    assert (session.peer_node, session.explicit) == ("b", frozenset())
    assert str(session.record) == "BGPConfiguration default"
    assert not names(A, B, NO_MESH)


def test_a_mesh_session_needs_the_family_at_both_ends() -> None:
    intent = compiled(
        node("a", 1, v6=True), node("b", 2, v6=True), node("c", 3), node("d", 4, v4=False, v6=True)
    )
    assert list(intent.sessions) == ["Mesh_10_0_0_2", "Mesh_10_0_0_3", "Mesh_fd00__2", "Mesh_fd00__4"]
    assert intent.sessions["Mesh_fd00__2"].family is Family.IPV6
    assert compiled(node("a", 1, v4=False), B).sessions == {}


def test_reflectors_are_not_in_the_mesh() -> None:
    reflector = node("b", 2, route_reflector_cluster_id=CLUSTER_ID)
    assert names(A, reflector, C) == ["Mesh_10_0_0_3"]
    assert names(A, reflector, C, on="b") == []


def test_as_numbers_and_ports_of_the_mesh() -> None:
    settings = BGPConfiguration(
        name="default", as_number=65000, listen_port=1790, node_mesh_max_restart_time=9.5
    )
    intent = compiled(
        A, node("b", 2, as_number=65001), C, settings, BGPConfiguration(name="node.c", listen_port=500)
    )
    b, c = intent.sessions.values()
    assert (b.peer_as, b.local_as, b.port, b.ibgp) == (65001, 65000, 1790, False)
    assert (c.peer_as, c.port, c.ibgp) == (65000, 500, True)
    assert b.restart_time == 10
    assert b.explicit == {"port", "restart_time"}


def test_passive_compares_addresses_as_strings() -> None:
    """Numerically 10.0.0.9 is before 10.0.0.10; as strings it is after."""
    nine, ten = node("a", 9), node("b", 10)
    assert compiled(ten, nine, on="b").sessions["Mesh_10_0_0_9"].passive
    assert not compiled(ten, nine, on="a").sessions["Mesh_10_0_0_10"].passive


def test_two_nodes_with_one_address() -> None:
    intent = compiled(A, B, Node(name="c", ipv4_address=IPv4Interface("10.0.0.2/24")))
    assert [session.peer_node for session in intent.sessions.values()] == ["b"]
    assert "is the address of b too" in intent.problems[0].reason
    assert intent.problems[0].key == C.key


def test_a_cluster_of_one_node() -> None:
    intent = compiled(A)
    assert not intent.sessions
    assert intent.router_id == IPv4Address("10.0.0.1")


def test_a_node_without_record_or_address_says_so() -> None:
    assert "no record of this node" in compiled(B).problems[0].reason
    assert "no sessions" in compiled(Node(name="a"), B).problems[0].reason
    only_v6 = compiled(node("a", 1, v4=False, v6=True))
    assert only_v6.router_id is None
    assert "CALICO_ROUTER_ID" in only_v6.problems[0].reason


def test_a_renamed_node_keeps_its_sessions_with_others() -> None:
    assert names(A, Node(name="new", ipv4_address=B.ipv4_address)) == ["Mesh_10_0_0_2"]


# --- global peers and peers for nodes -----------------------------------------------------------------------


def test_names_and_ports() -> None:
    intent = compiled(
        NO_MESH,
        node("a", 1, v6=True),
        peer("g", "192.0.2.1", as_number=65001),
        peer("n", "192.0.2.2", 1790, as_number=65001, node="a"),
        peer("s", "2001:db8::1", 1790, as_number=65001, node_selector="all()"),
        peer("other", "192.0.2.3", as_number=65001, node="b"),
    )
    assert list(intent.sessions) == [
        "Global_192_0_2_1",
        "Node_192_0_2_2_port_1790",
        "Node_2001_db8__1_port_1790",
    ]
    assert intent.sessions["Global_192_0_2_1"].port == 179


def test_a_peer_of_a_family_that_the_node_lacks() -> None:
    intent = compiled(NO_MESH, A, peer("p", "2001:db8::1", as_number=65001))
    assert not intent.sessions
    assert [str(p) for p in intent.problems] == [
        "BGPPeer p: spec.peerIP: node a has no IPv6 address: no peering with 2001:db8::1"
    ]


def test_never_with_ourselves() -> None:
    assert not names(NO_MESH, A, peer("p", "10.0.0.1", as_number=65001), peer("q", peer_selector="all()"))


def test_the_listen_port_of_a_node_of_the_same_as() -> None:
    settings = BGPConfiguration(name="default", node_to_node_mesh_enabled=False, listen_port=150)
    own = BGPConfiguration(name="node.c", listen_port=500)
    found = names(
        settings,
        own,
        A,
        B,
        C,
        peer("b", "10.0.0.2", as_number=64512, reverse_peering=ReversePeering.MANUAL),
        peer("c", "10.0.0.3", as_number=64512, reverse_peering=ReversePeering.MANUAL),
        peer("foreign", "192.0.2.1", as_number=64512),
    )
    assert found == ["Global_10_0_0_2_port_150", "Global_10_0_0_3_port_500", "Global_192_0_2_1"]
    assert names(settings, A, B, peer("b", "10.0.0.2", as_number=65001)) == ["Global_10_0_0_2"]


def test_the_as_of_a_peer_is_the_global_one_where_none_is_given() -> None:
    settings = BGPConfiguration(name="default", node_to_node_mesh_enabled=False, as_number=65000)
    assert compiled(settings, A, peer("p", "192.0.2.1")).sessions["Global_192_0_2_1"].peer_as == 65000


def test_passive_for_global_peers_that_are_nodes() -> None:
    intent = compiled(
        NO_MESH,
        A,
        B,
        C,
        peer("b", "10.0.0.2", as_number=65001),
        peer("c", "10.0.0.3", as_number=65001, node="a"),
        peer("x", "192.0.2.1", as_number=65001),
    )
    assert [session.passive for session in intent.sessions.values()] == [True, False, False]
    assert not compiled(NO_MESH, A, B, peer("p", peer_selector="all()")).sessions["Global_10_0_0_2"].passive
    assert (
        not compiled(NO_MESH, A, B, peer("p", "10.0.0.1", as_number=65001), on="b")
        .sessions["Global_10_0_0_1"]
        .passive
    )


def test_peers_by_selector() -> None:
    reflector = node("r", 9, v6=True, labels={"rr": ""}, as_number=65009)
    intent = compiled(
        NO_MESH, node("a", 1, v6=True), B, reflector, peer(node_selector="!has(rr)", peer_selector="has(rr)")
    )
    assert list(intent.sessions) == ["Node_10_0_0_9", "Node_fd00__9"]
    assert {session.peer_as for session in intent.sessions.values()} == {65009}


def test_a_node_selector_wins_over_a_node() -> None:
    record = peer("p", "192.0.2.1", as_number=65001, node="a", node_selector="has(nothing)")
    assert not names(NO_MESH, A, record)


# --- precedence ---------------------------------------------------------------------------------------------


def test_a_global_peering_covers_a_node_peering_to_the_same_address_and_port() -> None:
    records = (
        NO_MESH,
        A,
        peer("a-node", "192.0.2.1", as_number=65001, node="a"),
        peer("z-global", "192.0.2.1", as_number=65002),
        peer("other-port", "192.0.2.1", 1790, as_number=65003, node="a"),
    )
    intent = compiled(*records)
    assert list(intent.sessions) == ["Global_192_0_2_1", "Node_192_0_2_1_port_1790"]
    assert intent.sessions["Global_192_0_2_1"].peer_as == 65002


def test_a_mesh_peering_beside_an_explicit_one_is_reported() -> None:
    intent = compiled(A, B, peer("p", "10.0.0.2", as_number=64512))
    assert list(intent.sessions) == ["Global_10_0_0_2", "Mesh_10_0_0_2"]
    assert [str(problem.key) for problem in intent.problems] == ["BGPPeer p"]
    assert "two peerings with one address" in intent.problems[0].reason


def test_of_two_for_one_key_the_first_by_name_wins() -> None:
    records = [peer(name, "192.0.2.1", as_number=n) for name, n in (("q", 2), ("p", 1), ("r", 3))]
    for order in (records, records[::-1]):
        assert compiled(NO_MESH, A, *order).sessions["Global_192_0_2_1"].peer_as == 1


# --- reverse peerings ---------------------------------------------------------------------------------------


def test_the_remote_end_of_a_selector_peers_back_in_both_families() -> None:
    reflector = node("r", 9, v6=True, labels={"rr": ""}, route_reflector_cluster_id=CLUSTER_ID)
    worker = node("a", 1, v6=True)
    record = peer(node_selector="!has(rr)", peer_selector="has(rr)", filters=("f",), ttl_security=1)
    intent = compiled(NO_MESH, reflector, worker, record, BGPFilter(name="f"), on="r")
    assert list(intent.sessions) == ["Node_10_0_0_1", "Node_fd00__1"]
    for session in intent.sessions.values():
        assert session.reverse
        assert session.route_reflector_client
        assert not session.passive
        assert session.ttl_security_hops == 1


def test_the_node_at_a_peer_ip_peers_back_in_that_family() -> None:
    remote, local = node("b", 2, v6=True), node("a", 1, v6=True)
    record = peer("p", "10.0.0.2", as_number=64512, node="a")
    assert names(NO_MESH, local, remote, record, on="b") == ["Node_10_0_0_1"]


@pytest.mark.parametrize(
    ("fields", "settings", "expected"),
    [
        ({"as_number": 64512}, {}, True),
        ({"as_number": 65001}, {}, False),
        ({"as_number": 64512, "port": 179}, {}, True),
        ({"as_number": 64512, "port": 1790}, {}, False),
        ({"as_number": 64512, "port": 1790}, {"listen_port": 1790}, True),
        ({"as_number": 64512, "reverse_peering": ReversePeering.MANUAL}, {}, False),
    ],
)
def test_a_peer_ip_means_a_node_where_as_and_port_agree(
    fields: dict[str, Any], settings: dict[str, Any], expected: bool
) -> None:
    configuration = BGPConfiguration(name="default", node_to_node_mesh_enabled=False, **settings)
    sessions = names(configuration, A, B, peer("p", "10.0.0.2", node="a", **fields), on="b")
    assert bool(sessions) is expected


def test_an_explicit_peering_wins_over_a_reverse_one() -> None:
    back = peer("a-back", node="b", peer_selector="all()", ttl_security=9)
    explicit = peer("z", "10.0.0.2", as_number=64512, node="a", ttl_security=2)
    session = compiled(NO_MESH, A, B, back, explicit).sessions["Node_10_0_0_2"]
    assert (session.reverse, session.ttl_security_hops) == (False, 2)


def test_the_way_back_expects_the_local_as_of_the_local_end_and_has_its_own() -> None:
    record = peer(
        "p", node="b", peer_selector="all()", local_as_number=65001, reachable_by=ip_address("10.0.0.254")
    )
    session = compiled(NO_MESH, A, B, record).sessions["Node_10_0_0_2"]
    assert (session.peer_as, session.local_as) == (65001, 64512)
    assert session.reachable_by is None
    there = compiled(NO_MESH, A, B, record, on="b").sessions["Node_10_0_0_1"]
    assert (there.peer_as, there.local_as) == (64512, 65001)
    assert there.reachable_by == ip_address("10.0.0.254")


# --- local workloads ----------------------------------------------------------------------------------------


def test_local_workloads() -> None:
    status = EndpointStatus(
        name="cali1",
        bgp_peer_name="p",
        ipv4_addresses=(ip_address("10.1.0.1"), ip_address("10.1.0.2")),
        ipv6_addresses=(ip_address("fd01::1"),),
    )
    record = peer("p", local_workload_selector="all()", as_number=65001, local_as_number=65002)
    intent = compiled(NO_MESH, node("a", 1, v6=True), status, record)
    assert list(intent.sessions) == ["Local_Workload_10_1_0_1", "Local_Workload_fd01__1"]
    for session in intent.sessions.values():
        assert session.kind is PeeringKind.LOCAL_WORKLOAD
        assert (session.peer_as, session.local_as) == (65001, 65002)
        assert session.passive
        assert session.source_address is None
    assert not names(NO_MESH, A, status, peer("p", local_workload_selector="all()", as_number=1, node="b"))
    nameless = peer("p", local_workload_selector="all()")
    assert "asNumber" in compiled(NO_MESH, A, status, nameless).problems[0].field


# --- what a session has -------------------------------------------------------------------------------------


def session_of(**fields: Any) -> Any:
    intent = compiled(NO_MESH, A, peer("p", "192.0.2.1", **{"as_number": 65001, **fields}))
    return intent.sessions["Global_192_0_2_1"]


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({}, NextHopMode.AUTO),
        ({"next_hop_mode": RecordNextHopMode.SELF}, NextHopMode.SELF),
        ({"next_hop_mode": RecordNextHopMode.KEEP}, NextHopMode.KEEP),
        ({"keep_original_next_hop": True}, NextHopMode.KEEP),
        ({"keep_original_next_hop": True, "as_number": 64512}, NextHopMode.AUTO),
        ({"keep_original_next_hop": True, "local_as_number": 65001}, NextHopMode.AUTO),
        ({"keep_original_next_hop": True, "next_hop_mode": RecordNextHopMode.AUTO}, NextHopMode.AUTO),
        ({"keep_original_next_hop": True, "next_hop_mode": RecordNextHopMode.SELF}, NextHopMode.SELF),
    ],
)
def test_next_hop(fields: dict[str, Any], mode: NextHopMode) -> None:
    assert session_of(**fields).next_hop_mode is mode


def test_ibgp_is_decided_against_the_effective_local_as() -> None:
    assert session_of(local_as_number=65001).ibgp
    assert not session_of(as_number=64512, local_as_number=65001).ibgp
    assert session_of(local_as_number=64512).explicit == {"local_as"}


def test_reflector_clients() -> None:
    reflector = node("a", 1, route_reflector_cluster_id=CLUSTER_ID)
    same = node("b", 2, route_reflector_cluster_id=CLUSTER_ID)
    another = node("c", 3, route_reflector_cluster_id=IPv4Address("10.255.0.2"))
    plain, foreign = node("d", 4), node("e", 5, as_number=65001)
    everyone = peer("p", peer_selector="all()")
    sessions = compiled(NO_MESH, reflector, same, another, plain, foreign, everyone).sessions.values()
    assert [session.route_reflector_client for session in sessions] == [False, True, True, False]
    assert not compiled(NO_MESH, A, plain, everyone).sessions["Global_10_0_0_4"].route_reflector_client


def test_source_address_and_numbers() -> None:
    assert session_of().source_address == ip_address("10.0.0.1")
    assert session_of(source_address=SourceAddress.NONE).source_address is None
    session = session_of(max_restart_time=0.5, num_allowed_local_as_numbers=3, keepalive_time=2.4)
    assert (session.restart_time, session.allowed_local_as, session.keepalive_time) == (1, 3, 2)
    assert (session_of().restart_time, session_of().keepalive_time) == (120, None)


def test_reachable_by_makes_a_static_route() -> None:
    record = peer("p", "192.0.2.1", as_number=65001, reachable_by=ip_address("10.0.0.254"))
    (route,) = compiled(NO_MESH, A, record).originated.values()
    assert str(route.network) == "192.0.2.1/32"
    assert route.gateway == ip_address("10.0.0.254")
    assert not route.advertise
    assert not route.blackhole


def test_reachable_by_of_another_family_is_an_error() -> None:
    record = peer("p", "192.0.2.1", as_number=65001, reachable_by=ip_address("fd00::fe"))
    intent = compiled(NO_MESH, A, record)
    assert not intent.sessions
    assert (intent.problems[0].field, intent.problems[0].severity) == ("spec.reachableBy", "error")


PASSWORD = SecretKeyRef("s", "k")


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (None, "there is no Secret kube-system/s"),
        (Secret(namespace="default", name="s", data={"k": SecretValue(b"x")}), "there is no Secret"),
        (Secret(namespace="kube-system", name="s", data={"j": SecretValue(b"x")}), "has no key 'k'"),
        (Secret(namespace="kube-system", name="s", data={"k": SecretValue(b"")}), "is empty"),
    ],
)
def test_a_missing_password_is_a_warning(secret: Secret | None, reason: str) -> None:
    records = [NO_MESH, A, peer("p", "192.0.2.1", as_number=65001, password=PASSWORD)]
    intent = compiled(*records, *([secret] if secret else []))
    assert intent.sessions["Global_192_0_2_1"].password is None
    assert reason in intent.problems[0].reason
    assert intent.problems[0].severity == "warning"


def test_a_password_is_there_and_never_shown() -> None:
    secret = Secret(namespace="kube-system", name="s", data={"k": SecretValue(b"hush")})
    intent = compiled(NO_MESH, A, secret, peer("p", "192.0.2.1", as_number=65001, password=PASSWORD))
    password = intent.sessions["Global_192_0_2_1"].password
    assert password is not None
    assert password.reveal() == b"hush"
    assert "hush" not in repr(intent)


def test_a_filter_that_is_not_there_is_pending() -> None:
    intent = compiled(
        NO_MESH,
        A,
        peer("p", "192.0.2.1", as_number=65001, filters=("there", "gone")),
        BGPFilter(name="there"),
    )
    assert [problem.field for problem in intent.problems] == ["spec.filters[1]"]
    assert intent.sessions["Global_192_0_2_1"].filters == ("there", "gone")
    assert list(intent.filters) == ["there"]


# --- a reflector without a record ---------------------------------------------------------------------------


def test_a_reflector_takes_the_nodes_whose_bgp_peer_names_it() -> None:
    options = Options("rr", reflector_address=ip_address("192.0.2.9"), router_id=IPv4Address("192.0.2.9"))
    records = [
        node("a", 1, v6=True),
        B,
        node("c", 3, v4=False, v6=True),
        peer("workers", "192.0.2.9", as_number=65000, node_selector="all()"),
        peer("elsewhere", "192.0.2.8", as_number=65000),
        BGPConfiguration(name="node.b", listen_port=1790),
        BGPConfiguration(name="default", as_number=65000),
    ]
    intent = compile_intent(records, options)
    assert list(intent.sessions) == ["Node_10_0_0_1", "Node_10_0_0_2_port_1790"]
    for session in intent.sessions.values():
        assert (session.peer_as, session.local_as) == (65000, 65000)
        assert session.route_reflector_client
        assert session.passive
        assert str(session.record) == "BGPPeer workers"
    assert intent.cluster_id == intent.router_id == IPv4Address("192.0.2.9")
    assert not intent.problems
    assert not intent.originated
