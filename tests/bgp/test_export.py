"""Which paths leave, and with which attributes (RFC 4271 sections 5 and 9.2, RFC 4456, RFC 1997)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from routed.bgp.as_path import Segment, SegmentType
from routed.bgp.attributes import INCOMPLETE, AttributeSet, originate
from routed.bgp.communities import LLGR_STALE, NO_ADVERTISE, NO_EXPORT, NO_EXPORT_SUBCONFED
from routed.bgp.export import (
    Exporter,
    ExportTarget,
    exported,
    finished,
    next_hop,
    why_not_exported,
)
from routed.bgp.nlri import Family
from routed.bgp.path import Path, SourceKind
from routed.bgp.policy import Verdict, compile_export
from routed.intent.types import CommunityRule, ExportPolicy, NextHopMode
from tests.bgp.routes import LOCAL_AS, OUR_ADDRESS, ROUTER, address, local, nlri, peer

P = nlri("10.1.0.0/26")
US, THEM, GATEWAY = OUR_ADDRESS, address(2), b"\xac\x10\0\7"
NONE, CLUSTER = bytes(4), ROUTER.cluster_id or b""


def target(kind: SourceKind = SourceKind.IBGP, **values: object) -> ExportTarget:
    made = ExportTarget(Family.IPV4, kind, LOCAL_AS, US, ROUTER)
    return replace(made, **values)  # type: ignore[arg-type]


IBGP, CLIENT, EBGP = target(), target(client=True), target(SourceKind.EBGP)


def sequence(*asns: int) -> tuple[Segment, ...]:
    return (Segment(SegmentType.AS_SEQUENCE, asns),)


def from_ibgp(*, client: bool = False, **values: object) -> Path:
    base = originate(next_hop=THEM, local_pref=150, med=7).replace(as_path=sequence(65000))
    return peer(2, client=client).path(base.replace(**values))  # type: ignore[arg-type]


def from_ebgp(**values: object) -> Path:
    base = originate(next_hop=THEM, med=7, origin=INCOMPLETE).replace(as_path=sequence(65002, 65003))
    return peer(2, SourceKind.EBGP).path(base.replace(**values))  # type: ignore[arg-type]


def static(hop: bytes = NONE, **values: object) -> Path:
    return local().path(originate(next_hop=hop, **values))  # type: ignore[arg-type]


def kernel(hop: bytes = NONE, metric: int | None = None) -> Path:
    return local(SourceKind.KERNEL).path(originate(next_hop=hop), interface="cali1", metric=metric)


@pytest.mark.parametrize(
    ("path", "to", "passes"),
    [
        (from_ibgp(), IBGP, False),
        (from_ibgp(), CLIENT, True),
        (from_ibgp(client=True), IBGP, True),
        (from_ibgp(client=True), CLIENT, True),
        (from_ibgp(), EBGP, True),
        (from_ebgp(), IBGP, True),
        (from_ebgp(), EBGP, True),
        (static(), IBGP, True),
        (kernel(), IBGP, True),
        (static(), EBGP, True),
        # Another local AS: not the iBGP of one AS.
        (from_ibgp(), target(local_as=64999), True),
    ],
)
def test_who_is_told(path: Path, to: ExportTarget, passes: bool) -> None:
    """RFC 4271 section 9.2, RFC 4456 section 6."""
    reason = why_not_exported(path, to)
    assert (reason is None) is passes
    if reason is not None:
        assert reason == "learned by iBGP, and neither that peer nor this one is a route reflector client"
    assert (Exporter(to).decide(P, path).attributes is not None) is passes


@pytest.mark.parametrize(
    ("community", "to_ibgp", "to_ebgp"),
    [
        (NO_ADVERTISE, False, False),
        (NO_EXPORT, True, False),
        (NO_EXPORT_SUBCONFED, True, False),
        (0x10001, True, True),
    ],
)
def test_well_known_communities(community: int, to_ibgp: bool, to_ebgp: bool) -> None:
    """RFC 1997."""
    path = from_ibgp(client=True, communities=[0xFFFF, community])
    assert (why_not_exported(path, IBGP) is None) is to_ibgp
    assert (why_not_exported(path, EBGP) is None) is to_ebgp


def test_long_lived_stale_paths_go_to_those_who_know_what_that_is() -> None:
    """RFC 9494 section 4.3."""
    path = from_ibgp(client=True, communities=[LLGR_STALE])
    for to in (IBGP, CLIENT, EBGP):
        assert "long-lived stale" in str(why_not_exported(path, to))
        aware = replace(to, long_lived=True)
        assert why_not_exported(path, aware) is None
        assert LLGR_STALE in exported(path, aware).communities


@pytest.mark.parametrize(
    ("path", "to", "auto", "self_", "keep"),
    [
        (from_ibgp(client=True), CLIENT, THEM, US, THEM),
        (from_ibgp(), EBGP, US, US, THEM),
        (from_ebgp(), IBGP, THEM, US, THEM),
        (from_ebgp(), EBGP, US, US, THEM),
        (static(), IBGP, US, US, US),
        (static(), EBGP, US, US, US),
        (kernel(GATEWAY), IBGP, GATEWAY, US, GATEWAY),
        (kernel(GATEWAY), EBGP, US, US, GATEWAY),
    ],
)
def test_next_hop(path: Path, to: ExportTarget, auto: bytes, self_: bytes, keep: bytes) -> None:
    """RFC 4271 section 5.1.3, and BIRD's `next hop self` and `next hop keep`."""
    for mode, hop in ((NextHopMode.AUTO, auto), (NextHopMode.SELF, self_), (NextHopMode.KEEP, keep)):
        with_mode = replace(to, next_hop_mode=mode)
        assert next_hop(path, with_mode) == hop
        assert exported(path, with_mode).next_hop == hop


def test_ipv6_next_hops() -> None:
    us, them = bytes(15) + b"\1", bytes(15) + b"\2"
    link_local = b"\xfe\x80" + bytes(13) + b"\7"
    to = replace(IBGP, family=Family.IPV6, local_address=us)
    assert next_hop(local().path(originate(next_hop=bytes(16))), to) == us
    # A gateway that only this link knows is no next hop for others.
    assert next_hop(local(SourceKind.KERNEL).path(originate(next_hop=link_local)), to) == us
    assert next_hop(local(SourceKind.KERNEL).path(originate(next_hop=them)), to) == them
    both = them + link_local
    assert next_hop(peer(2, client=True).path(originate(next_hop=both, local_pref=100)), to) == both


def described(attributes: AttributeSet) -> dict[str, object]:
    return {
        name: value for name, value in attributes.describe().items() if name not in ("origin", "next_hop")
    }


@pytest.mark.parametrize(
    ("path", "to", "expected"),
    [
        # Reflected: nothing changes but ORIGINATOR_ID and CLUSTER_LIST (RFC 4456 section 8).
        (
            from_ibgp(client=True, communities=[1]),
            CLIENT,
            {
                "as_path": "65000",
                "local_pref": 150,
                "med": 7,
                "communities": ["0:1"],
                "originator_id": "10.0.0.2",
                "cluster_list": ["10.0.0.99"],
            },
        ),
        (
            from_ibgp(originator_id=b"\1\1\1\1", cluster_list=[b"\2\2\2\2"]),
            CLIENT,
            {
                "as_path": "65000",
                "local_pref": 150,
                "med": 7,
                "originator_id": "1.1.1.1",
                "cluster_list": ["10.0.0.99", "2.2.2.2"],
            },
        ),
        # To an external peer: our AS in front; MED and everything of our own AS stays here.
        (
            from_ibgp(originator_id=b"\1\1\1\1", cluster_list=[b"\2\2\2\2"], large_communities=[(1, 2, 3)]),
            EBGP,
            {"as_path": "64512 65000", "large_communities": ["1:2:3"]},
        ),
        (from_ebgp(), EBGP, {"as_path": "64512 65002 65003"}),
        (from_ebgp(), target(SourceKind.EBGP, local_as=64999), {"as_path": "64999 65002 65003"}),
        # From an external to an internal peer: LOCAL_PREF is added (RFC 4271 section 5.1.5), as BIRD's
        # default.
        (from_ebgp(), IBGP, {"as_path": "65002 65003", "local_pref": 100, "med": 7}),
        # Another local AS: no reflection.
        (from_ibgp(), target(local_as=64999), {"as_path": "65000", "local_pref": 150, "med": 7}),
        # Our own: LOCAL_PREF is 2147483647 less the metric; our own MED may leave.
        (static(), IBGP, {"as_path": "", "local_pref": 2147483647 - 1024}),
        (static(med=3), EBGP, {"as_path": "64512", "med": 3}),
        (kernel(metric=512), IBGP, {"as_path": "", "local_pref": 2147483647 - 512}),
        (kernel(metric=0), IBGP, {"as_path": "", "local_pref": 2147483647}),
        (kernel(metric=4294967295), IBGP, {"as_path": "", "local_pref": 0}),
    ],
)
def test_attributes(path: Path, to: ExportTarget, expected: dict[str, object]) -> None:
    assert why_not_exported(path, to) is None
    assert described(finished(exported(path, to), to)) == expected
    assert finished(exported(path, to), to).origin == path.attributes.origin


def test_normal_priority_is_the_nodes() -> None:
    router = replace(ROUTER, normal_priority=2000)
    path = local(router=router).path(originate(next_hop=NONE))
    assert exported(path, IBGP).local_pref == 2147483647 - 2000


def test_a_reflector_without_cluster_id_uses_its_router_id() -> None:
    """RFC 4456 section 7."""
    to = replace(CLIENT, router=replace(ROUTER, cluster_id=None))
    assert exported(from_ibgp(), to).cluster_list == (ROUTER.router_id,)


def test_what_needs_no_change_stays_the_same_object() -> None:
    path = from_ebgp(local_pref=100)
    assert exported(path, IBGP) is path.attributes
    assert finished(path.attributes, IBGP) is path.attributes


POLICY = ExportPolicy(
    rejected=(ip_network("10.9.0.0/16"),),
    accepted=(ip_network("10.0.0.0/8"),),
    communities=(CommunityRule(ip_network("10.1.0.0/16"), (0x10002,), ((1, 2, 3),)),),
)


def test_policy_and_communities() -> None:
    exporter = Exporter(IBGP, compile_export(POLICY, Family.IPV4, ibgp=True))
    prefixes = [
        nlri(text) for text in ("10.1.0.0/26", "10.2.0.0/26", "10.9.0.0/26", "10.1.1.0/26", "192.0.2.0/24")
    ]
    path = from_ebgp(communities=[0x10001])
    by_attributes = {attributes: list(some) for attributes, some in exporter.export(path, prefixes)}
    with_communities = path.attributes.replace(
        local_pref=100, communities=[0x10001, 0x10002], large_communities=[(1, 2, 3)]
    )
    plain = path.attributes.replace(local_pref=100)
    rejected = [some for attributes, some in exporter.export(path, prefixes) if attributes is None]
    assert by_attributes[with_communities] == [prefixes[0], prefixes[3]]
    assert by_attributes[plain] == [prefixes[1]]
    assert rejected == [[prefixes[2]], [prefixes[4]]]
    for one in prefixes:
        decision = exporter.decide(one, path)
        assert one in by_attributes.get(decision.attributes, ()) or [one] in rejected
    assert exporter.decide(prefixes[0], path).reason == "inside pool 10.0.0.0/8"
    assert exporter.decide(prefixes[2], path).reason == "inside pool 10.9.0.0/16, which has disableBGPExport"


def test_a_community_that_is_there_is_not_added_again() -> None:
    rule = lambda one, path: Verdict(True, "yes", (0x10001, 0x10002))  # noqa: E731
    path = from_ebgp(communities=[0x10001], local_pref=100)
    assert Exporter(IBGP, rule).decide(P, path).attributes is path.attributes.replace(
        communities=[0x10001, 0x10002]
    )


def test_filters_come_before_the_policy_and_see_the_final_as_path() -> None:
    """The first filter that decides ends it; LOCAL_PREF can be asked for towards an external peer too."""
    seen: list[tuple[str, int | None]] = []

    def reject_p(one: bytes, path: Path, attributes: AttributeSet) -> AttributeSet | str | None:
        seen.append((str(attributes.as_path[0].asns), attributes.local_pref))
        return "filter a, rule 1" if one == P else None

    def accept_q(one: bytes, path: Path, attributes: AttributeSet) -> AttributeSet | str | None:
        return attributes.replace(communities=[5]) if one == Q else None

    Q = nlri("192.0.2.0/24")  # noqa: N806
    other = nlri("10.9.0.0/24")
    exporter = Exporter(EBGP, compile_export(POLICY, Family.IPV4, ibgp=False), [reject_p, accept_q])
    path = from_ibgp()
    assert exporter.decide(P, path).reason == "filter a, rule 1"
    accepted = exporter.decide(Q, path)
    assert accepted.reason == "accepted by a filter"
    assert accepted.attributes is not None
    assert accepted.attributes.communities == (5,)
    assert accepted.attributes.local_pref is None
    assert exporter.decide(other, path).reason == "inside pool 10.9.0.0/16, which has disableBGPExport"
    assert seen[0] == ("(64512, 65000)", 150)
    assert dict(exporter.export(path, [P, Q, other])) == {None: [P, other], accepted.attributes: [Q]}
