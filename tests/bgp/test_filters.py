"""BGPFilters at work, rule by rule, and in a speaker while they change."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.as_path import Segment, SegmentType
from routed.bgp.attributes import AttributeSet, originate
from routed.bgp.filters import begins_with, compile_filter_function, prefix_test
from routed.bgp.nlri import Family, from_network, to_network
from routed.bgp.path import Path, Router, Source, SourceKind
from routed.intent.filters import CompiledFilter, Direction, PrefixMatch, compile_filter
from routed.resources import BGPFilter, MatchOperator, parse_record
from tests.bgp.test_speaker import Router as Speaking
from tests.bgp.test_speaker import join
from tests.virtual import Wire, until, virtual

V4 = Family.IPV4
ROUTER = Router(router_id=b"\x0a\0\0\1")
PEER = Source("peer", SourceKind.IBGP, ROUTER, address=b"\x0a\0\0\2", local_as=64512)
KERNEL = Source("kernel", SourceKind.KERNEL, ROUTER)


def bgp_filter(name: str = "f", **lists: list[dict[str, Any]]) -> CompiledFilter:
    """A filter from the rules as a record has them."""
    document = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "BGPFilter",
        "metadata": {"name": name},
        "spec": lists,
    }
    parsed = parse_record(document)
    assert isinstance(parsed.record, BGPFilter), parsed.problems
    return compile_filter(parsed.record)


def attributes(**changes: Any) -> AttributeSet:
    return originate(next_hop=b"\x0a\0\0\2").replace(**changes)


def path(asns: tuple[int, ...] = (), **changes: Any) -> Path:
    as_path = (Segment(SegmentType.AS_SEQUENCE, asns),) if asns else ()
    return PEER.path(attributes(as_path=as_path, **changes))


def judge(
    rules: list[dict[str, Any]], route: Path, prefix: str = "10.1.0.0/26", *, ibgp: bool = True
) -> AttributeSet | str | None:
    function = compile_filter_function(bgp_filter(exportV4=rules), V4, Direction.EXPORT, ibgp=ibgp)
    return function and function(from_network(ip_network(prefix)), route, route.attributes)


ACCEPT, REJECT = {"action": "Accept"}, {"action": "Reject"}


@pytest.mark.parametrize(
    ("rule", "route", "prefix", "matches"),
    [
        ({}, path(), "10.1.0.0/26", True),
        ({"cidr": "10.1.0.0/16", "matchOperator": "In"}, path(), "10.1.0.0/26", True),
        ({"cidr": "10.1.0.0/16", "matchOperator": "In"}, path(), "10.0.0.0/8", False),
        ({"cidr": "10.1.0.0/16", "matchOperator": "NotIn"}, path(), "10.2.0.0/26", True),
        ({"cidr": "10.1.0.0/16", "matchOperator": "Equal"}, path(), "10.1.0.0/26", False),
        ({"cidr": "10.1.0.0/16", "matchOperator": "Equal"}, path(), "10.1.0.0/16", True),
        ({"cidr": "10.1.0.0/16", "matchOperator": "NotEqual"}, path(), "10.1.0.0/16", False),
        (
            {"cidr": "10.1.0.0/16", "matchOperator": "In", "prefixLength": {"min": 24, "max": 28}},
            path(),
            "10.1.0.0/32",
            False,
        ),
        ({"source": "RemotePeers"}, path(), "10.1.0.0/26", True),
        ({"source": "RemotePeers"}, KERNEL.path(attributes(), interface="cali1"), "10.1.0.0/26", False),
        ({"interface": "cali*"}, KERNEL.path(attributes(), interface="cali1"), "10.1.0.0/26", True),
        ({"interface": "eth?"}, KERNEL.path(attributes(), interface="cali1"), "10.1.0.0/26", False),
        ({"interface": "*"}, path(), "10.1.0.0/26", False),
        ({"peerType": "iBGP"}, path(), "10.1.0.0/26", True),
        ({"peerType": "eBGP"}, path(), "10.1.0.0/26", False),
        (
            {"communities": {"values": ["65000:42"]}},
            path(communities=(65000 << 16 | 42,)),
            "10.1.0.0/26",
            True,
        ),
        ({"communities": {"values": ["65000:42"]}}, path(communities=(42,)), "10.1.0.0/26", False),
        (
            {"communities": {"values": ["1:2:3"]}},
            path(large_communities=((1, 2, 3),)),
            "10.1.0.0/26",
            True,
        ),
        ({"asPathPrefix": [65001, 65002]}, path((65001, 65002, 65003)), "10.1.0.0/26", True),
        ({"asPathPrefix": [65001, 65002]}, path((65002, 65001)), "10.1.0.0/26", False),
        ({"asPathPrefix": [65001]}, path(), "10.1.0.0/26", False),
        ({"priority": 512}, path(local_pref=2147483647 - 512), "10.1.0.0/26", True),
        ({"priority": 512}, path(), "10.1.0.0/26", False),
        (
            {"source": "RemotePeers", "cidr": "10.2.0.0/16", "matchOperator": "In"},
            path(),
            "10.1.0.0/26",
            False,
        ),
    ],
)
def test_a_rule_matches_where_all_that_it_gives_does(
    rule: dict[str, Any], route: Path, prefix: str, matches: bool
) -> None:
    assert (judge([{**rule, **ACCEPT}], route, prefix) is route.attributes) is matches
    rejected = judge([{**rule, **REJECT}], route, prefix)
    assert (rejected == "rejected by BGPFilter f, rule 1 of exportV4") is matches


def test_the_first_rule_that_matches_ends_the_filter() -> None:
    rules = [
        {"peerType": "eBGP", **REJECT},
        {"cidr": "10.1.0.0/16", "matchOperator": "In", **ACCEPT},
        REJECT,
    ]
    assert isinstance(judge(rules, path(), "10.1.0.0/26"), AttributeSet)
    assert judge(rules, path(), "10.2.0.0/26") == "rejected by BGPFilter f, rule 3 of exportV4"
    assert judge(rules, path(), "10.1.0.0/26", ibgp=False) == "rejected by BGPFilter f, rule 1 of exportV4"


def test_operations_in_order() -> None:
    rule = {
        **ACCEPT,
        "operations": [
            {"addCommunity": {"value": "65000:1"}},
            {"addCommunity": {"value": "1:2:3"}},
            {"prependASPath": {"prefix": [65001, 65002]}},
            {"setPriority": {"value": 512}},
        ],
    }
    result = judge([rule], path((65009,), communities=(7,)))
    assert isinstance(result, AttributeSet)
    assert result.communities == (7, 65000 << 16 | 1)
    assert result.large_communities == ((1, 2, 3),)
    assert [asn for segment in result.as_path for asn in segment.asns] == [65001, 65002, 65009]
    assert result.local_pref == 2147483647 - 512


@pytest.mark.parametrize(
    ("asns", "matches"), [((1, 2), True), ((1, 3), True), ((1, 2, 4), True), ((1, 4), False), ((2,), False)]
)
def test_an_as_of_a_set_counts_for_its_place(asns: tuple[int, ...], matches: bool) -> None:
    as_path = (
        Segment(SegmentType.AS_SEQUENCE, (1,)),
        Segment(SegmentType.AS_SET, (2, 3)),
        Segment(SegmentType.AS_SEQUENCE, (4,)),
    )
    assert begins_with(as_path, asns) is matches


def prefixes(bits: int) -> st.SearchStrategy[Any]:
    # Few different leading bits, so that prefixes often hold each other.
    addresses = st.integers(0, 15).map(lambda value: value << (bits - 4))
    kind = ip_network(("0.0.0.0" if bits == 32 else "::", 0)).__class__
    return st.builds(
        lambda value, length: kind((value, length), strict=False), addresses, st.integers(0, bits)
    )


@given(
    st.sampled_from([V4, Family.IPV6]).flatmap(
        lambda family: st.tuples(
            st.just(family),
            prefixes(family.max_prefix_length),
            prefixes(family.max_prefix_length),
            st.integers(0, family.max_prefix_length),
            st.integers(0, family.max_prefix_length),
        )
    ),
    st.sampled_from(MatchOperator),
)
def test_the_test_on_nlri_is_the_plain_one(values: Any, operator: MatchOperator) -> None:
    family, network, route, minimum, maximum = values
    match = PrefixMatch(network, operator, max(minimum, network.prefixlen), maximum, str(network), True)
    nlri = from_network(route)
    assert prefix_test(match, family)(nlri) is match.matches(to_network(nlri, family))


@virtual
async def test_filters_of_one_peer_change_live_and_touch_no_session(wire: Wire) -> None:
    a, b, c = Speaking(wire, 1), Speaking(wire, 2), Speaking(wire, 3)
    a.originate("10.1.0.0/26", "10.2.0.0/26")
    join(a, b, c)
    a.speaker.set_peer(a.peer(b, filters=("out",)))
    b.speaker.set_peer(b.peer(a, filters=("in",)))
    await until(lambda: len(b.table()) == len(c.table()) == 2)
    c.changed.clear()

    no_ten_one = {"cidr": "10.1.0.0/16", "matchOperator": "In", **REJECT}
    a.speaker.set_filters({"out": bgp_filter("out", exportV4=[no_ten_one])})
    await until(lambda: set(b.table()) == {"10.2.0.0/26"})
    a.speaker.set_filters({"out": None})
    await until(lambda: len(b.table()) == 2)

    b.speaker.set_filters({"in": bgp_filter("in", importV4=[no_ten_one])})
    await until(lambda: set(b.table()) == {"10.2.0.0/26"})
    reasons = [
        one.ineligible for one in b.speaker.ribs[V4].ineligible(from_network(ip_network("10.1.0.0/26")))
    ]
    assert reasons == ["rejected by BGPFilter in, rule 1 of importV4"]
    accept = {**ACCEPT, "operations": [{"setPriority": {"value": 100}}]}
    b.speaker.set_filters({"in": bgp_filter("in", importV4=[accept])})
    await until(lambda: len(b.table()) == 2)
    best = b.best("10.1.0.0/26")
    assert best.attributes.local_pref == 2147483547
    assert best.preference == 100  # a rule's accept ends the import before the preference is raised

    assert c.changed == []
    for router in (a, b, c):
        assert [peer.session.flaps for peer in router.speaker.peers.values()] == [0, 0]


@virtual
async def test_import_filters_are_in_force_for_a_session_that_comes_back(wire: Wire) -> None:
    a, b = Speaking(wire, 1), Speaking(wire, 2)
    a.originate("10.1.0.0/26")
    b.speaker.set_filters({"in": bgp_filter("in", importV4=[REJECT])})
    a.set_peers(a.peer(b))
    b.set_peers(b.peer(a, filters=("in",), restart_time=0))
    await until(lambda: a.established() == b.established() == 1)
    a.speaker.close(graceful=False)
    await until(lambda: b.established() == 0)
    a.start()
    a.originate("10.1.0.0/26")
    a.set_peers(a.peer(b))
    nlri = from_network(ip_network("10.1.0.0/26"))
    await until(lambda: b.established() == 1 and any(b.speaker.ribs[V4].ineligible(nlri)))
    assert b.table() == {}
    assert str(ip_address(b.config.router_id)) == "10.0.0.2"
