"""Routes of whole speakers: what is received, what is told, what is turned down, what is in the kernel."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from routed.bgp.attributes import originate
from routed.bgp.capabilities import AddPathMode
from routed.bgp.config import PeerConfig
from routed.bgp.nlri import Family
from routed.bgp.path import SourceKind
from routed.bgp.route import FibRoute
from routed.bgp.update_encode import encode_announcements, encode_end_of_rib
from routed.intent.types import (
    FamilyIntent,
    KernelAction,
    KernelPolicy,
    KernelRule,
    OriginatedRoute,
    OriginKind,
)
from routed.kernel.base import FibError, Prefix
from routed.kernel.dryrun import NullFib
from routed.kernel_writer import KernelWriter
from routed.observe.documents import Route
from routed.observe.observed import Observed
from routed.observe.views.route_queries import RouteQuery
from routed.observe.views.routes import routes
from routed.resources import Key
from tests.bgp.scripted import Scripted
from tests.bgp.test_filters import REJECT, bgp_filter
from tests.bgp.test_speaker import Router, join, nlri
from tests.observe.views.scene import observed
from tests.observe.views.tables import Tables, source
from tests.virtual import Wire, until, virtual

V4, V6 = Family.IPV4, Family.IPV6
BOTH = frozenset(Family)


def ask(watched: Observed, **query: Any) -> list[Route]:
    page = routes(watched, RouteQuery(limit=10_000, **query))
    assert page.next is None
    assert page.total in (len(page.routes), -1)
    return page.routes


def brief(found: list[Route]) -> list[tuple[str, str, bool]]:
    return [(route.prefix, route.source, route.best) for route in found]


def on_the_wire(route: Route) -> dict[str, Any]:
    """What of a route both ends of a session must agree on."""
    shown: dict[str, Any] = msgspec.to_builtins(route)
    names = ("prefix", "family", "next_hop", "as_path", "origin", "local_pref", "med", "communities")
    more = ("large_communities", "originator_id", "cluster_list", "path_id")
    return {name: shown[name] for name in (*names, *more)}


def assert_both_ends_agree(watched: Mapping[str, Observed]) -> int:
    """What each speaker says it tells another is what that one says it received; returns how many routes
    that was about."""
    count = 0
    for address, teller in watched.items():
        for peer in teller.speaker.peers.values():
            other = watched.get(str(peer.config.remote.address))
            if other is None or not peer.established:
                continue
            told = [on_the_wire(one) for one in ask(teller, advertised_to=peer.name)]
            heard = [on_the_wire(one) for one in ask(other, received_from=f"to_{address}")]
            order = lambda one: (one["family"], one["prefix"], one["path_id"] or 0)  # noqa: E731
            assert sorted(told, key=order) == sorted(heard, key=order)
            count += len(told)
    return count


@virtual
async def test_what_one_says_it_tells_is_what_the_other_says_it_heard(wire: Wire) -> None:
    """Clients of a reflector with and without ADD-PATH, a peer outside, both families, communities."""
    reflector = Router(wire, 1, cluster_id="10.0.0.1")
    plain, several, third = Router(wire, 2), Router(wire, 3), Router(wire, 4)
    outside = Router(wire, 5, asn=65001)
    everybody = (reflector, plain, several, third, outside)
    watched = {router.address: observed(router) for router in everybody}
    for number, router in enumerate((plain, several, third), 2):
        router.originate("10.9.0.0/24", f"10.{number}.0.0/26")
        router.speaker.originate(V6, bytes((64,)) + bytes((0xFD, 0, 0, 0, 0, 0, 0, number)))
        router.speaker.originate(V6, bytes((64,)) + bytes((0xFD, 0, 0, 0, 0, 0, 0, 99)))
    outside.originate("192.0.2.0/24")

    def peer(one: Router, other: Router, **changes: Any) -> PeerConfig:
        mode = AddPathMode(0) if plain in (one, other) else AddPathMode.RECEIVE | AddPathMode.SEND
        return replace(one.peer(other), families=BOTH, add_path=mode, **changes)

    clients = (plain, several, third)
    reflector.set_peers(
        *(peer(reflector, one, route_reflector_client=True) for one in clients), peer(reflector, outside)
    )
    for one in (*clients, outside):
        one.set_peers(peer(one, reflector))
    await until(lambda: reflector.speaker.converged and len(plain.table()) == 5)
    await until(lambda: "10.9.0.0/24" in outside.table() and len(outside.speaker.ribs[V6].routes) == 4)
    assert assert_both_ends_agree(watched) > 30

    told = ask(watched["10.0.0.1"], advertised_to="to_10.0.0.4", prefix=ip_network("10.9.0.0/24"))
    assert [(one.source, one.best, one.next_hop, one.originator_id, one.cluster_list) for one in told] == [
        ("to_10.0.0.2", True, "10.0.0.2", "10.0.0.2", ["10.0.0.1"]),
        ("to_10.0.0.3", False, "10.0.0.3", "10.0.0.3", ["10.0.0.1"]),
    ], "not its own route"
    told = ask(watched["10.0.0.1"], advertised_to="to_10.0.0.2", prefix=ip_network("10.9.0.0/24"))
    assert told == [], "the best route is its own, and it gets no other"
    (told_outside,) = ask(watched["10.0.0.1"], advertised_to="to_10.0.0.5", prefix=ip_network("10.2.0.0/26"))
    assert (told_outside.as_path, told_outside.local_pref, told_outside.next_hop) == (
        "64512",
        None,
        "10.0.0.1",
    )
    shared = ask(watched["10.0.0.1"], prefix=ip_network("fd00:0:0:63::/64"))
    assert [(one.source, one.best, one.multipath) for one in shared] == [
        ("to_10.0.0.2", True, True),
        ("to_10.0.0.3", False, True),
        ("to_10.0.0.4", False, True),
    ]
    assert shared[1].not_best == "router ID 10.0.0.3, but 10.0.0.2 from to_10.0.0.2 (10.0.0.2, AS 64512)"
    assert shared[0].next_hop == "::ffff:a00:2"

    several.speaker.withdraw(V4, nlri("10.9.0.0/24"), SourceKind.STATIC)
    plain.originate("10.2.0.64/26")
    reflector.speaker.drain()
    await until(lambda: len(third.speaker.ribs[V4].routes) == 6)
    await until(lambda: "graceful-shutdown" in ask(watched["10.0.0.4"], scope="best")[0].communities)
    assert assert_both_ends_agree(watched) > 30
    assert ask(watched["10.0.0.1"], advertised_to="to_10.0.0.2")[0].communities == ["graceful-shutdown"]


@virtual
async def test_a_peer_without_a_session_is_told_nothing_and_nothing_is_heard_of_it(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    watched = observed(a)
    a.originate("10.1.0.0/26")
    a.set_peers(a.peer(b))
    for query in ({"advertised_to": "to_10.0.0.2"}, {"received_from": "to_10.0.0.2"}):
        page = routes(watched, RouteQuery(**query))  # type: ignore[arg-type]
        assert (page.routes, page.total, page.next) == ([], 0, None)
    assert brief(ask(watched, received_from="static")) == [("10.1.0.0/26", "static", True)]
    (own,) = ask(watched)
    assert (own.next_hop, own.peer_address, own.source_kind) == (None, None, "static")
    assert (own.local_pref, own.preference, own.igp_cost, own.reachable) == (None, 200, None, True)


@virtual
async def test_a_session_that_ends_or_a_group_that_changes_in_the_middle_of_a_walk(wire: Wire) -> None:
    from routed.observe.views.routes import iterate

    a, b = Router(wire, 1), Router(wire, 2)
    watched = observed(a)
    a.originate(*(f"10.{n}.0.0/26" for n in range(50)))
    join(a, b)
    await until(lambda: len(b.table()) == 50)
    walks = [iterate(watched, RouteQuery(advertised_to="to_10.0.0.2", limit=1000)) for _ in range(2)]
    ended, moved = map(iter, walks)
    assert next(ended) == next(moved) == []
    a.speaker.set_filters({"out": bgp_filter("out", exportV4=[REJECT])})
    a.speaker.set_peer(a.peer(b, filters=("out",)))
    assert [one for portion in moved for one in portion] == []
    a.speaker.remove_peer("to_10.0.0.2")
    assert [one for portion in ended for one in portion] == []


@virtual
async def test_filters_and_loops_are_reasons_that_are_shown(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2, asn=65001), Router(wire, 3, asn=65001)
    watched = observed(c)
    a.originate("10.1.0.0/26", "10.2.0.0/26")
    c.speaker.set_filters(
        {"in": bgp_filter("in", importV4=[{**REJECT, "cidr": "10.1.0.0/16", "matchOperator": "In"}])}
    )
    a.set_peers(a.peer(b), a.peer(c))
    b.set_peers(b.peer(a))
    b.originate("10.3.0.0/26")
    c.set_peers(c.peer(a, filters=("in",)))
    await until(lambda: len(c.speaker.attachment(c.speaker.peers["to_10.0.0.1"]).received()) > 0)
    await until(lambda: c.speaker.received(c.speaker.peers["to_10.0.0.1"])[V4] == 3)
    assert [(one.prefix, one.best, one.ineligible) for one in ask(watched)] == [
        ("10.1.0.0/26", False, "rejected by BGPFilter in, rule 1 of importV4"),
        ("10.2.0.0/26", True, None),
        ("10.3.0.0/26", False, "AS_PATH holds our AS 65001 (1 times, allowed: 0)"),
    ]
    assert ask(watched, received_from="to_10.0.0.1") == ask(watched)
    rejected = ask(watched, scope="rejected")
    assert [one.prefix for one in rejected] == ["10.1.0.0/26", "10.3.0.0/26"]
    assert ask(watched, scope="rejected", received_from="to_10.0.0.1") == rejected
    assert brief(ask(watched, scope="best", received_from="to_10.0.0.1")) == [
        ("10.2.0.0/26", "to_10.0.0.1", True)
    ]
    assert ask(watched, scope="kernel") == ask(watched, scope="kernel", received_from="to_10.0.0.1") == []
    assert ask(watched, scope="rejected", prefix=ip_network("10.3.0.0/26")) == rejected[1:]


@virtual
async def test_stale_routes_are_shown_as_such(wire: Wire) -> None:
    """With path identifiers and without: what is stale, and what was announced again."""
    router = Router(wire, 1)
    watched = observed(router)
    address = replace(router.config.listen[0], address=ip_address("10.0.0.9"))
    router.set_peers(replace(router.peer(router), name="it", remote=address, passive=True))
    attributes = originate(next_hop=bytes((10, 0, 0, 9)), local_pref=5)
    for mode in (AddPathMode(0), AddPathMode.RECEIVE | AddPathMode.SEND):
        peer = Scripted(wire, 9, router.address, restart_time=100, add_path=mode)

        def announce(*prefixes: str, mode: AddPathMode = mode, peer: Scripted = peer) -> None:
            head = (7).to_bytes(4) if mode else b""
            keys = [head + nlri(prefix) for prefix in prefixes]
            peer.send(*encode_announcements(V4, attributes, keys))

        await peer.connect()
        announce("10.1.0.0/26", "10.1.0.64/26")
        await until(lambda: len(router.table()) == 2)
        before = ask(watched, received_from="it")
        assert [(one.prefix, one.best, one.stale) for one in before] == [
            ("10.1.0.0/26", True, False),
            ("10.1.0.64/26", True, False),
        ]
        peer.vanish()
        await until(lambda: router.established() == 0)
        stale = ask(watched, received_from="it")
        assert [one.stale for one in stale] == [True, True]
        assert [one.path_id for one in stale] == ([7, 7] if mode else [None, None])
        assert ask(watched) == ask(watched, scope="best") == stale
        assert ask(watched, advertised_to="it") == []
        await peer.connect()
        announce("10.1.0.64/26")
        await until(lambda: not ask(watched)[1].stale)
        assert ask(watched)[0].stale
        peer.send(encode_end_of_rib(V4))
        await until(lambda: len(router.table()) == 1)
        assert [(one.prefix, one.stale) for one in ask(watched)] == [("10.1.0.64/26", False)]
        router.speaker.remove_peer("it")
        peer.vanish()
        router.set_peers(replace(router.peer(router), name="it", remote=address, passive=True))


class Kernel(NullFib):
    """A kernel that takes what it is given, but for some prefixes."""

    def __init__(self, refused: frozenset[bytes], late: frozenset[bytes]) -> None:
        super().__init__()
        self.refused, self.late = refused, late
        self.left_over = bytes((26,)) + bytes((10, 99, 0, 0))

    @property
    def port(self) -> int:
        return 1

    @property
    def installed(self) -> Mapping[Family, Mapping[bytes, FibRoute]]:
        away = self.refused | self.late
        found = {
            family: {one: route for one, route in routes.items() if one not in away}
            for family, routes in self.wanted.items()
        }
        found[V4][self.left_over] = FibRoute((), 1024)
        return found

    @property
    def failed(self) -> Mapping[Prefix, FibError]:
        return {
            (V4, one): FibError(V4, one, None, errno.ENETUNREACH, "ENETUNREACH", "no \x1b way \udcff")
            for one in self.refused
        }


class Records:
    """As much of a compiler as there is to see here."""

    def __init__(self, *originated: OriginatedRoute) -> None:
        self.originated = {route.network: route for route in originated}


def test_the_kernel_has_a_word_for_each_prefix() -> None:
    block = OriginatedRoute(
        ip_network("10.1.0.0/26"),
        OriginKind.BLOCK,
        Key("BlockAffinity", "n\udcff"),
        "confirmed affinity",
        True,
        True,
    )
    unadvertised = OriginatedRoute(
        ip_network("10.1.0.64/26"), OriginKind.BLOCK, Key("BlockAffinity", "y"), "not advertised", False, True
    )
    gateway = OriginatedRoute(
        ip_network("10.7.0.7/32"),
        OriginKind.REACHABLE_BY,
        Key("BGPPeer", "z"),
        "the peer of z",
        False,
        False,
        ip_address("10.0.0.254"),
    )
    tables = Tables()
    fib = Kernel(frozenset({nlri("10.3.0.0/26")}), frozenset({nlri("10.4.0.0/26")}))
    writer = KernelWriter(fib, tables.ribs, lambda: None)
    tables.observed.writer = writer
    tables.observed.compiler = Records(block, unadvertised, gateway)  # type: ignore[assignment]
    rule = KernelRule(ip_network("10.5.0.0/16"), KernelAction.REJECT, "pool p: the agent does it")
    writer.set_family(
        V4, FamilyIntent(V4, ip_interface("10.0.0.1/24"), kernel_policy=KernelPolicy(rules=(rule,)))
    )
    rib, peer = tables.ribs[V4], source(2)
    local = source(9, SourceKind.STATIC)
    rib.insert(local.path(originate(next_hop=bytes(4))), [nlri("10.1.0.0/26")])
    learned = [nlri(f"10.{n}.0.0/26") for n in (2, 3, 4, 5)]
    rib.announce(peer, originate(next_hop=bytes((10, 0, 0, 2)), local_pref=1), learned)
    rib.announce(source(3), originate(next_hop=bytes((10, 0, 0, 3)), local_pref=1), learned[:1])
    for route in (block, unadvertised, gateway):
        writer.originate(V4, nlri(str(route.network)), route)
    writer.update(V4, rib.routes)
    assert not writer.work()

    found = ask(tables.observed, scope="kernel")
    assert [(one.prefix, one.source, one.kernel) for one in found] == [
        ("10.1.0.0/26", "peer9", "installed"),
        ("10.1.0.64/26", "static", "installed"),
        ("10.2.0.0/26", "peer2", "installed"),
        ("10.3.0.0/26", "peer2", "ENETUNREACH: no \x1b way \ufffd"),
        ("10.4.0.0/26", "peer2", "not yet installed"),
        ("10.5.0.0/26", "peer2", "pool p: the agent does it"),
        ("10.7.0.7/32", "static", "installed"),
        ("10.99.0.0/26", "kernel", "installed"),
    ]
    assert msgspec.json.decode(msgspec.json.encode(found), type=list[Route]) == found
    assert (found[0].origin_record, found[0].origin_reason) == ("BlockAffinity n\ufffd", "confirmed affinity")
    assert (found[1].best, found[1].origin_record) == (False, "BlockAffinity y")
    assert (found[6].next_hop, found[6].origin_reason) == ("10.0.0.254", "the peer of z")
    assert "nobody wishes it" in str(found[7].origin_reason)
    assert [
        (one.multipath, one.kernel) for one in ask(tables.observed, prefix=ip_network("10.2.0.0/26"))
    ] == [
        (True, "installed"),
        (True, "installed"),
    ]
    kept_out = ask(tables.observed, scope="rejected")
    assert [one.prefix for one in kept_out] == ["10.3.0.0/26", "10.5.0.0/26"]
    assert ask(tables.observed, scope="kernel", prefix=ip_network("10.99.0.0/26")) == found[7:]
    assert [one.prefix for one in ask(tables.observed, scope="kernel", received_from="static")] == []


def test_with_the_kernel_left_alone_there_is_nothing_to_be_in_it() -> None:
    tables = Tables()
    writer = KernelWriter(NullFib(), tables.ribs, lambda: None)
    tables.observed.writer = writer
    rule = KernelRule(ip_network("10.5.0.0/16"), KernelAction.REJECT, "pool p: the agent does it")
    writer.set_family(V4, FamilyIntent(V4, None, kernel_policy=KernelPolicy(rules=(rule,))))
    learned = [nlri("10.2.0.0/26"), nlri("10.5.0.0/26")]
    tables.ribs[V4].announce(source(2), originate(next_hop=bytes((10, 0, 0, 2)), local_pref=1), learned)
    writer.update(V4, learned)
    assert not writer.work()
    assert [one.kernel for one in ask(tables.observed)] == [None, "pool p: the agent does it"]


class Ways:
    """Next hops of which one cannot be reached."""

    def follow(self, path: Any) -> Any:
        return self if path.attributes.next_hop[3] == 2 else _Away()

    cost, reason = 7, ""

    @property
    def ways(self) -> Any:
        from routed.bgp.route import NextHop

        return (NextHop(ip_address("10.0.0.254"), "eth0"),)


class _Away:
    cost, ways, reason = None, (), "next hop 10.0.0.3: there is no route to it \udcff"


def test_the_way_to_the_next_hop_is_shown() -> None:
    tables = Tables()
    rib = tables.ribs[V4]
    ways = Ways()
    for number in (2, 3):
        by = source(number)
        by.router = replace(by.router, next_hops=ways)
        attributes = originate(next_hop=bytes((10, 0, 0, number)), local_pref=100 * number)
        rib.announce(by, attributes, [nlri("10.1.0.0/26")])
    near, away = ask(tables.observed)
    assert (near.reachable, near.unreachable_reason, near.igp_cost, near.interface) == (True, None, 7, "eth0")
    assert (away.reachable, away.igp_cost, away.interface) == (False, None, None)
    assert away.unreachable_reason == "next hop 10.0.0.3: there is no route to it \ufffd"
    assert away.not_best == (
        "next hop 10.0.0.3, which cannot be reached, but 10.0.0.2 from peer2 (10.0.0.2, AS 64512)"
    )


@pytest.mark.parametrize("scope", ["all", "best"])
def test_local_routes_lose_and_win_for_reasons_that_are_told(scope: Any) -> None:
    tables = Tables()
    rib, one = tables.ribs[V4], nlri("10.1.0.0/26")
    rib.insert(
        source(9, SourceKind.KERNEL).path(originate(next_hop=bytes(4)), interface="cali\udcff", metric=5),
        [one],
    )
    rib.announce(source(2), originate(next_hop=bytes((10, 0, 0, 2)), local_pref=2147483647), [one])
    rib.insert(source(8, SourceKind.STATIC).path(originate(next_hop=bytes(4))), [one])
    found = ask(tables.observed, scope=scope)
    assert found[0].source == "peer2"
    if scope == "all":
        assert [route.not_best for route in found] == [
            None,
            "preference 200, and a peer's path from peer2 (10.0.0.2, AS 64512) goes before it",
            "preference 10, but 200 from peer2 (10.0.0.2, AS 64512)",
        ]
        assert found[2].interface == "cali\ufffd"


def test_paths_that_are_the_same_in_every_step_are_told_apart_all_the_same() -> None:
    """Two peerings with one address: nothing in the decision process says which is better."""
    tables = Tables()
    for _ in range(2):
        tables.ribs[V4].announce(source(2), originate(next_hop=bytes((10, 0, 0, 2))), [nlri("10.1.0.0/26")])
    first, second = ask(tables.observed)
    assert (first.best, second.best) == (True, False)
    assert second.not_best == "the same in every step as that from peer2 (10.0.0.2, AS 64512)"
    assert ask(tables.observed, received_from="static") == []
