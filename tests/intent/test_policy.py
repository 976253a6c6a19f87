"""Export and kernel policy, communities, filters, and what the node itself is."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.nlri import Family
from routed.intent.compiler import compile_intent
from routed.intent.filters import Direction, PrefixMatch, compile_filter
from routed.intent.local_workloads import parse_endpoint_status, read_endpoint_statuses
from routed.intent.options import Options, hashed_router_id
from routed.intent.types import CommunityRule, FamilyIntent, KernelAction, NodeIntent
from routed.resources import (
    Action,
    BGPConfiguration,
    BGPFilter,
    BindMode,
    BlockAffinity,
    Community,
    EncapsulationMode,
    FilterRule,
    IPPool,
    LargeCommunity,
    LogSeverity,
    MatchOperator,
    Node,
    PeerType,
    PrefixAdvertisement,
    PrefixLength,
    ProgramClusterRoutes,
    Source,
    StandardCommunity,
)

A = Node(name="a", ipv4_address=IPv4Interface("10.0.0.1/24"), ipv6_address=IPv6Interface("fd00::1/64"))
NEVER, ALWAYS, CROSS = EncapsulationMode.NEVER, EncapsulationMode.ALWAYS, EncapsulationMode.CROSS_SUBNET
DEFAULT = ProgramClusterRoutes.ENABLED_NO_ENCAP_ONLY


def pool(
    name: str, cidr: str, ipip: EncapsulationMode = NEVER, vxlan: EncapsulationMode = NEVER, **fields: Any
) -> IPPool:
    return IPPool(name=name, cidr=ip_network(cidr), ipip_mode=ipip, vxlan_mode=vxlan, block_size=26, **fields)


def compiled(*records: Any, options: Options | None = None) -> NodeIntent:
    return compile_intent([A, *records], options or Options("a"))


def family(*records: Any, of: Family = Family.IPV4) -> FamilyIntent:
    return compiled(*records).families[of]


# --- export -------------------------------------------------------------------------------------------------


def test_pools_in_the_order_of_their_text() -> None:
    policy = family(
        pool("p", "192.168.0.0/16"),
        pool("q", "172.16.0.0/16", disable_bgp_export=True),
        pool("r", "10.1.0.0/16", disabled=True),
        pool("s", "10.20.0.0/16"),
        pool("t", "fd01::/64"),
    ).export_policy
    assert list(map(str, policy.accepted)) == ["10.20.0.0/16", "192.168.0.0/16"]
    assert list(map(str, policy.rejected)) == ["172.16.0.0/16"]


@pytest.mark.parametrize(
    ("program", "tunnel"),
    [
        (ProgramClusterRoutes.ENABLED, False),
        (ProgramClusterRoutes.ENABLED_IPIP_ONLY, False),
        (ProgramClusterRoutes.ENABLED_NO_ENCAP_ONLY, True),
        (ProgramClusterRoutes.DISABLED, True),
    ],
)
def test_routes_out_of_the_tunnel_stay_where_the_agent_makes_them(
    program: ProgramClusterRoutes, tunnel: bool
) -> None:
    policy = family(BGPConfiguration(name="default", program_cluster_routes=program)).export_policy
    assert ("tunl0" in policy.ibgp_rejected_interfaces) is tunnel
    assert {"*.cali", "*.calico"} <= set(policy.ibgp_rejected_interfaces)


def test_priorities_by_family() -> None:
    settings = BGPConfiguration(name="default", ipv4_normal_route_priority=1, ipv6_normal_route_priority=2)
    for of, priority in ((Family.IPV4, 1), (Family.IPV6, 2)):
        intent = family(settings, of=of)
        assert intent.export_policy.normal_priority == intent.kernel_policy.normal_priority == priority


def test_aggregates_are_the_confirmed_blocks() -> None:
    blocks = [
        BlockAffinity(name=cidr, node="a", cidr=ip_network(cidr))
        for cidr in ("192.168.221.192/26", "192.168.221.64/26", "10.0.0.1/32")
    ]
    aggregates = family(*blocks).export_policy.aggregates
    assert list(map(str, aggregates)) == ["10.0.0.1/32", "192.168.221.192/26", "192.168.221.64/26"]


NAMED = (Community("std", StandardCommunity(100, 6532)), Community("large", LargeCommunity(100, 555, 107)))


def test_communities_by_name_and_by_value() -> None:
    settings = BGPConfiguration(
        name="default",
        communities=NAMED,
        prefix_advertisements=(
            PrefixAdvertisement(
                ip_network("10.1.0.0/16"), ("std", StandardCommunity(5663, 12), "large", "large", "unknown")
            ),
            PrefixAdvertisement(ip_network("fd01::/64"), ("large",)),
            PrefixAdvertisement(ip_network("10.2.0.0/16"), ("unknown",)),
        ),
    )
    intent = compiled(settings)
    assert intent.families[Family.IPV4].export_policy.communities == (
        CommunityRule(ip_network("10.1.0.0/16"), ((100 << 16) + 6532, (5663 << 16) + 12), ((100, 555, 107),)),
    )
    assert [rule.large for rule in intent.families[Family.IPV6].export_policy.communities] == [
        ((100, 555, 107),)
    ]
    assert [problem.field for problem in intent.problems] == [
        "spec.prefixAdvertisements[0].communities[4]",
        "spec.prefixAdvertisements[2].communities[0]",
    ]


def test_a_list_of_the_nodes_own_replaces_the_global_one() -> None:
    settings = BGPConfiguration(
        name="default",
        communities=NAMED,
        prefix_advertisements=(PrefixAdvertisement(ip_network("10.1.0.0/16"), ("std",)),),
    )
    advertised = (PrefixAdvertisement(ip_network("10.2.0.0/16"), ("large",)),)
    own = BGPConfiguration(name="node.a", prefix_advertisements=advertised)
    other = BGPConfiguration(name="node.b", prefix_advertisements=())
    rules = family(settings, own, other).export_policy.communities
    assert [str(rule.network) for rule in rules] == ["10.2.0.0/16"]
    assert family(settings, other).export_policy.communities[0].standard
    assert not family(
        settings, BGPConfiguration(name="node.a", prefix_advertisements=())
    ).export_policy.communities


# --- kernel -------------------------------------------------------------------------------------------------

R, K, T, X = KernelAction.REJECT, KernelAction.ACCEPT, KernelAction.TUNNEL, KernelAction.TUNNEL_CROSS_SUBNET
ENABLED, IPIP_ONLY, DISABLED = (
    ProgramClusterRoutes.ENABLED,
    ProgramClusterRoutes.ENABLED_IPIP_ONLY,
    ProgramClusterRoutes.DISABLED,
)


@pytest.mark.parametrize(
    ("ipip", "vxlan", "program", "action"),
    [
        (NEVER, NEVER, DEFAULT, K),
        (NEVER, NEVER, ENABLED, K),
        (NEVER, NEVER, IPIP_ONLY, R),
        (NEVER, NEVER, DISABLED, R),
        (ALWAYS, NEVER, DEFAULT, R),
        (ALWAYS, NEVER, ENABLED, T),
        (ALWAYS, NEVER, IPIP_ONLY, T),
        (ALWAYS, NEVER, DISABLED, R),
        (CROSS, NEVER, DEFAULT, R),
        (CROSS, NEVER, ENABLED, X),
        (NEVER, ALWAYS, ENABLED, R),
        (NEVER, CROSS, ENABLED, R),
    ],
)
def test_what_becomes_of_learned_routes(
    ipip: EncapsulationMode, vxlan: EncapsulationMode, program: ProgramClusterRoutes, action: KernelAction
) -> None:
    settings = BGPConfiguration(name="default", program_cluster_routes=program)
    (rule,) = family(settings, pool("p", "10.1.0.0/16", ipip, vxlan)).kernel_policy.rules
    assert rule.action is action
    assert "IPPool p" in rule.reason


def test_there_is_no_ipip_for_ipv6() -> None:
    settings = BGPConfiguration(name="default", program_cluster_routes=ENABLED)
    (rule,) = family(settings, pool("p", "fd01::/64", ALWAYS), of=Family.IPV6).kernel_policy.rules
    assert rule.action is K


def test_next_hops_that_run_wireguard_while_we_do() -> None:
    running: dict[str, Any] = {"wireguard_interface_ipv4_address": IPv4Address("10.9.0.1")}
    b = Node(name="b", ipv4_address=IPv4Interface("10.0.0.2/24"), **running)
    ours = Node(name="a", ipv4_address=IPv4Interface("10.0.0.1/24"), **running)
    assert family(b).kernel_policy.rejected_next_hops == frozenset()
    intent = compile_intent(
        [ours, b, Node(name="c", ipv4_address=IPv4Interface("10.0.0.3/24"))], Options("a")
    )
    assert intent.families[Family.IPV4].kernel_policy.rejected_next_hops == {ip_address("10.0.0.2")}
    assert intent.families[Family.IPV6].kernel_policy.rejected_next_hops == frozenset()


def test_overlapping_pools_are_reported() -> None:
    intent = compiled(
        pool("p", "10.0.0.0/8"), pool("q", "10.1.0.0/16"), pool("r", "10.1.2.0/24"), pool("s", "11.0.0.0/8")
    )
    assert [(str(p.key), p.reason.split(":")[0]) for p in intent.problems] == [
        ("IPPool q", "10.1.0.0/16 overlaps 10.0.0.0/8 of IPPool p"),
        ("IPPool r", "10.1.2.0/24 overlaps 10.1.0.0/16 of IPPool q"),
    ]


def test_a_block_outside_every_pool_is_reported_and_advertised() -> None:
    block = BlockAffinity(name="x", node="a", cidr=ip_network("172.16.0.0/26"))
    intent = compiled(block, pool("p", "10.1.0.0/16"))
    assert "172.16.0.0/26 is in no IPPool" in intent.problems[0].reason
    assert intent.originated[block.cidr].advertise
    assert not compiled(block, pool("p", "172.16.0.0/16")).problems
    assert not compiled(block, pool("p", "fd00::/48")).problems
    assert not compiled(block).problems


# --- filters ------------------------------------------------------------------------------------------------


def test_a_filter_has_a_list_a_family_and_direction() -> None:
    accept, reject = FilterRule(action=Action.ACCEPT), FilterRule(action=Action.REJECT)
    compiled_filter = compile_filter(BGPFilter(name="f", import_v4=(accept, reject), export_v6=(reject,)))
    assert [rule.accept for rule in compiled_filter.of(Family.IPV4, Direction.IMPORT)] == [True, False]
    assert [rule.accept for rule in compiled_filter.of(Family.IPV6, Direction.EXPORT)] == [False]
    assert compiled_filter.of(Family.IPV4, Direction.EXPORT) == ()


def test_a_rule_in_full() -> None:
    rule = FilterRule(
        action=Action.ACCEPT,
        cidr=ip_network("10.0.0.0/8"),
        match_operator=MatchOperator.NOT_IN,
        prefix_length=PrefixLength(None, 24),
        source=Source.REMOTE_PEERS,
        interface="eth*",
        peer_type=PeerType.EBGP,
        communities=(StandardCommunity(1, 2), StandardCommunity(3, 4)),
        as_path_prefix=(65000,),
        priority=100,
    )
    (found,) = compile_filter(BGPFilter(name="f", import_v4=(rule,))).of(Family.IPV4, Direction.IMPORT)
    assert found.prefix is not None
    assert (found.prefix.minimum, found.prefix.maximum, found.prefix.bounded) == (8, 24, True)
    assert (found.learned_by_bgp, found.interface, found.ibgp) == (True, "eth*", False)
    assert (found.community, found.as_path_prefix) == (StandardCommunity(1, 2), (65000,))
    assert found.local_pref == 2147483547


@given(
    st.sampled_from(MatchOperator),
    st.integers(0, 32),
    st.integers(0, 32),
    st.integers(0, 32),
    st.integers(0, 32),
    st.integers(0, 2**32 - 1),
)
def test_prefix_matches_against_their_definition(
    operator: MatchOperator, length: int, minimum: int, maximum: int, route_length: int, bits: int
) -> None:
    ours = ip_network((0x0A0A0A0A, length), strict=False)
    for number in (bits, 0x0A0A0A0A):
        route = ip_network((number, route_length), strict=False)
        bounded = minimum <= route.prefixlen <= maximum
        expected = {
            MatchOperator.EQUAL: route == ours and bounded,
            MatchOperator.NOT_EQUAL: not (route == ours and bounded),
            MatchOperator.IN: route.subnet_of(ours) and bounded,  # type: ignore[arg-type]
            MatchOperator.NOT_IN: not (route.subnet_of(ours) and bounded),  # type: ignore[arg-type]
        }
        match = PrefixMatch(ours, operator, minimum, maximum, text=str(ours))
        assert match.matches(route) is expected[operator]


# --- the node itself ----------------------------------------------------------------------------------------


def test_router_id() -> None:
    assert compiled().router_id == IPv4Address("10.0.0.1")
    assert compiled(options=Options("a", router_id=IPv4Address("9.9.9.9"))).router_id == IPv4Address(
        "9.9.9.9"
    )
    assert compiled(options=Options("a", router_id="hash")).router_id == hashed_router_id("a")


def test_the_hash_is_calicos() -> None:
    assert hashed_router_id("kube-master") == IPv4Address("25.79.212.8")
    firsts = [hashed_router_id(f"node-{n}").packed[0] for n in range(200)]
    assert max(firsts) <= 223


def test_listening() -> None:
    intent = compiled(BGPConfiguration(name="default", bind_mode=BindMode.NODE_IP, listen_port=1790))
    assert intent.bind_address == (ip_address("10.0.0.1"), ip_address("fd00::1"))
    assert (intent.listen_port, intent.explicit) == (1790, frozenset(("listen_port",)))
    own = BGPConfiguration(name="node.a", listen_port=1791)
    assert compiled(BGPConfiguration(name="default", listen_port=1790), own).listen_port == 1791
    assert compiled().bind_address == ()


def test_log_severity() -> None:
    settings = BGPConfiguration(name="default", log_severity_screen=LogSeverity.WARNING)
    own = BGPConfiguration(name="node.a", log_severity_screen=LogSeverity.DEBUG)
    assert compiled().log_severity == "Info"
    assert compiled(settings).log_severity == "Warning"
    assert compiled(settings, own).log_severity == "Debug"
    assert compiled(own, options=Options("a", log_severity=LogSeverity.ERROR)).log_severity == "Error"


def test_options_from_the_environment() -> None:
    options = Options.from_environ(
        {
            "CALICO_ROUTER_ID": "hash",
            "CALICO_K8S_NODE_REF": "k",
            "CALICO_ADVERTISE_CLUSTER_IPS": "10.101.0.0/16, fd00:96::/112",
            "USE_POD_CIDR": "true",
            "NAMESPACE": "calico-system",
            "CALICO_ENDPOINT_STATUS_PATH_PREFIX": "/x",
            "BGP_LOGSEVERITYSCREEN": "debug",
        },
        "a",
    )
    assert options == Options(
        "a",
        router_id="hash",
        k8s_node_ref="k",
        advertise_cluster_ips=(ip_network("10.101.0.0/16"), ip_network("fd00:96::/112")),
        use_pod_cidr=True,
        secret_namespace="calico-system",
        endpoint_status_prefix=Path("/x"),
        log_severity=LogSeverity.DEBUG,
    )
    assert Options.from_environ({"CALICO_ROUTER_ID": ""}, "a") == Options("a")
    assert Options.from_environ({"CALICO_ROUTER_ID": "1.2.3.4"}, "a").router_id == IPv4Address("1.2.3.4")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CALICO_ROUTER_ID", "fd00::1"),
        ("CALICO_ROUTER_ID", "0.0.0.0"),
        ("CALICO_ADVERTISE_CLUSTER_IPS", "10.0.0.0/99"),
        ("USE_POD_CIDR", "maybe"),
        ("BGP_LOGSEVERITYSCREEN", "loud"),
    ],
)
def test_a_bad_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        Options.from_environ({name: value}, "a")


# --- endpoint-status files ----------------------------------------------------------------------------------

STATUS = {
    "ifaceName": "cali1",
    "ipv4Nets": ["10.1.0.1/32"],
    "ipv6Nets": ["fd01::1/128"],
    "bgpPeerName": "p",
    "more": 1,
}


def test_an_endpoint_status() -> None:
    record, problems = parse_endpoint_status("w", json.dumps(STATUS).encode())
    assert record is not None
    assert not problems
    assert (record.bgp_peer_name, record.interface_name) == ("p", "cali1")
    assert (record.ipv4_addresses, record.ipv6_addresses) == (
        (ip_address("10.1.0.1"),),
        (ip_address("fd01::1"),),
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        json.dumps(STATUS).encode()[:-9],
        b"[]",
        b"\xff",
        b"[" * 100000,
        b'{"ipv4Nets": "10.0.0.1"}',
        b'{"ipv4Nets": [1]}',
        b'{"ipv4Nets": ["fd00::1/128"]}',
        b'{"ipv6Nets": ["10.0.0.1/32"]}',
        b'{"bgpPeerName": 1}',
        b'{"ifaceName": []}',
        b" " * (1 << 20) + b"{}",
    ],
)
def test_a_bad_endpoint_status_is_reported(content: bytes) -> None:
    record, problems = parse_endpoint_status("w", content)
    assert record is None
    assert str(problems[0].key) == "EndpointStatus w"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda c: st.lists(c, max_size=2) | st.dictionaries(st.sampled_from([*STATUS, "x"]), c, max_size=4),
    )
)
def test_an_endpoint_status_never_raises(document: Any) -> None:
    parse_endpoint_status("w", json.dumps(document).encode())


def test_a_folder_of_endpoint_statuses(tmp_path: Path) -> None:
    assert read_endpoint_statuses(tmp_path) == ([], [])
    folder = tmp_path / "endpoint-status"
    folder.mkdir()
    (folder / "b").write_text(json.dumps(STATUS))
    (folder / "a").write_text("{}")
    (folder / "c").write_text("{")
    (folder / ".tmp").write_text("{")
    (folder / "d").mkdir()
    records, problems = read_endpoint_statuses(tmp_path)
    assert [record.name for record in records] == ["a", "b"]
    assert [problem.key and problem.key.name for problem in problems] == ["c", "d"]
