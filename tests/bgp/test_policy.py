"""Compiled policy against the same policy read from top to bottom for each route."""

from __future__ import annotations

from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.attributes import originate
from routed.bgp.nlri import Family, Network, from_network
from routed.bgp.path import Path, SourceKind
from routed.bgp.policy import compile_export, compile_kernel
from routed.bgp.prefix_table import PrefixTable
from routed.intent.types import CommunityRule, ExportPolicy, KernelAction, KernelPolicy, KernelRule
from tests.bgp.routes import address, local, nlri, peer


def within(network: Network, outer: Network) -> bool:
    """`net ~ outer` in a BIRD filter."""
    return network.version == outer.version and (
        network.prefixlen >= outer.prefixlen and network.network_address in outer
    )


# Few bits in play, so that networks hold each other, are equal, and are disjoint.
networks4 = st.builds(
    lambda bits, length: IPv4Network((0x0A000000 | bits << 20, length), strict=False),
    st.integers(0, 15),
    st.integers(0, 13),
)
networks6 = st.builds(
    lambda bits, length: IPv6Network((0xFD << 120 | bits << 116, length), strict=False),
    st.integers(0, 15),
    st.sampled_from([0, 7, 8, 9, 10, 11, 12, 13, 128]),
)


@given(st.lists(networks4 | networks6, max_size=8), st.one_of(networks4, networks6))
def test_prefix_table(items: list[Network], asked: Network) -> None:
    family = Family.of(asked)
    table = PrefixTable(family, ((network, place) for place, network in enumerate(items)))
    expected = tuple(place for place, network in enumerate(items) if within(asked, network))
    assert table.all(from_network(asked)) == expected
    assert table.first(from_network(asked)) == (expected[0] if expected else None)
    assert len(table) == sum(Family.of(network) is family for network in items)


def linear_export(
    policy: ExportPolicy, network: Network, path: Path, ibgp: bool
) -> tuple[bool, tuple[object, ...]]:
    """Steps 3 to 11 of `ExportPolicy`: accepted or not, and the communities added."""
    if path.source.kind.bgp:
        metric = 2147483647 - (100 if path.attributes.local_pref is None else path.attributes.local_pref)
    else:
        metric = policy.normal_priority if path.metric is None else path.metric
    if any(within(network, pool) for pool in policy.rejected):
        return False, ()
    if path.interface is not None:
        if ibgp and any(fnmatchcase(path.interface, one) for one in policy.ibgp_rejected_interfaces):
            return False, ()
        if any(fnmatchcase(path.interface, one) for one in policy.rejected_interfaces):
            return False, ()
    added: list[object] = []
    for rule in policy.communities:
        if within(network, rule.network):
            added += [one for one in (*rule.standard, *rule.large) if one not in added]
    for block in policy.aggregates:
        if network == block:
            return True, tuple(added)
        if within(network, block) and metric < policy.normal_priority:
            return True, tuple(added)
        if within(network, block):
            return False, ()
    for accepted in (*policy.statics, *policy.reflected, *policy.accepted):
        if within(network, accepted):
            return True, tuple(added)
    return False, ()


tuples4 = st.lists(networks4, max_size=3).map(tuple)
policies = st.builds(
    ExportPolicy,
    normal_priority=st.sampled_from([1024, 500]),
    rejected=st.lists(networks4, max_size=1).map(tuple),
    communities=st.lists(
        st.builds(
            CommunityRule,
            networks4,
            st.lists(st.integers(1, 3), max_size=2).map(tuple),
            st.lists(st.tuples(*[st.integers(1, 2)] * 3), max_size=1).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    aggregates=tuples4,
    statics=tuples4,
    reflected=tuples4,
    accepted=tuples4,
)
interfaces = st.sampled_from(
    [None, "eth0", "wireguard.cali", "vxlan.calico", "tunl0", "bpfin.cali", "cali123"]
)
paths = st.one_of(
    st.builds(
        lambda local_pref: peer(2).path(originate(next_hop=address(2), local_pref=local_pref)),
        st.sampled_from([None, 100, 2147483647 - 1024, 2147483647 - 1023, 2147483647 - 499, 2147483647]),
    ),
    st.builds(
        lambda interface, metric: local(SourceKind.KERNEL).path(
            originate(next_hop=bytes(4)), interface=interface, metric=metric
        ),
        interfaces,
        st.sampled_from([None, 0, 499, 1023, 1024]),
    ),
)


@given(policies, st.lists(st.tuples(networks4, paths), min_size=1, max_size=5), st.booleans())
def test_export_is_as_read_from_top_to_bottom(
    policy: ExportPolicy, routes: list[tuple[IPv4Network, Path]], ibgp: bool
) -> None:
    rule = compile_export(policy, Family.IPV4, ibgp=ibgp)
    for network, path in routes:
        verdict = rule(from_network(network), path)
        accepted, added = linear_export(policy, network, path, ibgp)
        assert verdict.accept is accepted
        if accepted:
            assert {*verdict.communities, *verdict.large_communities} == set(added)
        assert rule(from_network(network), path) is verdict, "equal verdicts are one object"


@pytest.mark.parametrize(
    ("prefix", "accept", "reason"),
    [
        ("10.0.0.0/26", True, "block 10.0.0.0/26 of this node"),
        (
            "10.0.0.1/32",
            False,
            "inside block 10.0.0.0/26 of this node, which is advertised as a whole",
        ),
        ("10.0.0.64/32", True, "inside pool 10.0.0.0/16"),
        ("10.96.0.0/12", True, "service route 10.96.0.0/12"),
        ("192.0.2.0/24", False, "in no enabled pool, and no route of this node"),
        ("10.77.0.0/26", False, "inside pool 10.77.0.0/16, which has disableBGPExport"),
        # A reflector passes it on.
        ("203.0.113.7/32", True, "inside service range 203.0.113.0/24"),
    ],
)
def test_reasons_name_the_network(prefix: str, accept: bool, reason: str) -> None:
    policy = ExportPolicy(
        rejected=(ip_network("10.77.0.0/16"),),
        aggregates=(ip_network("10.0.0.0/26"),),
        statics=(ip_network("10.96.0.0/12"),),
        reflected=(ip_network("203.0.113.0/24"),),
        accepted=(ip_network("10.0.0.0/16"),),
    )
    verdict = compile_export(policy, Family.IPV4, ibgp=True)(
        nlri(prefix), local().path(originate(next_hop=bytes(4)))
    )
    assert (verdict.accept, verdict.reason) == (accept, reason)


def test_nested_blocks_are_read_in_their_order() -> None:
    """As in `calico_aggr`: the first block that holds the route decides, whichever is the more specific."""
    inner, outer = ip_network("10.0.0.0/28"), ip_network("10.0.0.0/26")
    path = local().path(originate(next_hop=bytes(4)))
    for aggregates, accepted in (((inner, outer), True), ((outer, inner), False)):
        rule = compile_export(ExportPolicy(aggregates=aggregates), Family.IPV4, ibgp=True)
        assert rule(nlri("10.0.0.0/28"), path).accept is accepted


def test_interfaces_that_internal_peers_do_not_hear_of() -> None:
    policy = ExportPolicy(accepted=(ip_network("10.0.0.0/8"),))
    kernel = local(SourceKind.KERNEL)
    for interface, to_ibgp, to_ebgp in (
        ("eth0", True, True),
        ("vxlan.calico", False, True),
        ("tunl0", False, True),
        ("bpfout.cali", False, False),
    ):
        path = kernel.path(originate(next_hop=bytes(4)), interface=interface)
        for ibgp, expected in ((True, to_ibgp), (False, to_ebgp)):
            rule = compile_export(policy, Family.IPV4, ibgp=ibgp)
            assert rule(nlri("10.1.0.0/26"), path).accept is expected


@given(st.lists(st.tuples(networks4, st.sampled_from(list(KernelAction))), max_size=6), networks4)
def test_kernel_policy_is_its_first_rule_that_holds_the_prefix(
    rows: list[tuple[IPv4Network, KernelAction]], asked: IPv4Network
) -> None:
    rules = tuple(
        KernelRule(network, action, f"rule {place}") for place, (network, action) in enumerate(rows)
    )
    verdict = compile_kernel(KernelPolicy(rules=rules), Family.IPV4)(from_network(asked))
    matching = [(rule.action, rule.reason) for rule in rules if within(asked, rule.network)]
    assert verdict == (matching[0] if matching else (KernelAction.ACCEPT, "no kernel rule holds the prefix"))
