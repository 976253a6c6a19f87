"""Answers that no BIRD is asked for beside: what is of routed alone, and states that are hard to meet."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from ipaddress import IPv4Network, ip_address, ip_network
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.bgp.attributes import originate
from routed.bgp.capabilities import NO_ADD_PATH
from routed.bgp.communities import LLGR_STALE
from routed.bgp.nlri import Family, from_network, to_text
from routed.bgp.path import Source, SourceKind
from routed.bgp.rib import LocRib
from routed.bgp.transport import Endpoint
from routed.kernel.base import FibError
from routed.observe.bird.attributes import LINE_OCTETS, attribute_lines, lines
from routed.observe.bird.commands import Client, answer
from routed.observe.bird.counts import count_routes, giver
from routed.observe.bird.replies import CommandError, Encoder, Line, Portions, whole
from routed.observe.bird.view import View, short_time, symbol
from routed.observe.bird.words import Word, matcher, split
from routed.resources import BGPConfiguration, BGPPeer, Node, PeerAddress
from tests.bgp.routes import ROUTER, nlri
from tests.bgp.test_speaker import Router
from tests.observe.bird.here import fill, many, reply_of
from tests.observe.bird.replies import Route, details, routes, rows
from tests.observe.explain.scene import MemoryFib, Scene, affinity, interface, on, pool
from tests.observe.views.scene import observed
from tests.virtual import Wire, run_on_a_wire, until, virtual

T = TypeVar("T")
STOP = object()
V4, V6 = Family.IPV4, Family.IPV6
A = Node(name="a", ipv4_address=interface("10.0.0.1/24"), ipv6_address=interface("fd00::1/64"))
B, C = (
    Node(name=name, ipv4_address=interface(f"10.0.0.{number}/24")) for number, name in ((2, "b"), (3, "c"))
)
RECORDS = (
    BGPConfiguration(name="default"),
    A,
    B,
    C,
    pool(),
    affinity("a", "10.1.0.0/26"),
    affinity("a", "10.1.0.64/26", "pendingDeletion"),
)


def table(scene: Scene, command: str = "show route all", family: Family = V4) -> dict[str, list[Route]]:
    """Routes by prefix."""
    found: dict[str, list[Route]] = {}
    for route in routes(reply_of(View(scene.observed, family), command).texts(1007, 1008, 1012)):
        found.setdefault(route.prefix, []).append(route)
    return found


def test_routes_of_a_node() -> None:
    """A block, one that is about to go, equal paths by two peers, a network of an interface, what somebody
    else put into the kernel, and what the kernel refused."""

    async def body(scene: Scene) -> None:
        await scene.peer(2)
        await scene.peer(3)
        for peer in ("Mesh_10_0_0_2", "Mesh_10_0_0_3"):
            scene.receive(peer, "10.1.7.0/26")
        scene.receive("Mesh_10_0_0_2", "10.1.8.0/26", communities=(LLGR_STALE,))
        scene.receive("Mesh_10_0_0_2", "10.1.9.0/26")
        scene.alien("10.99.0.0/16", "eth0")
        assert isinstance(scene.fib, MemoryFib)
        scene.fib.refuse[nlri("10.1.9.0/26").hex()] = FibError(V4, b"", None, 101, "ENETUNREACH", "no way")
        scene.settle()
        shown = table(scene)
        assert list(shown) == sorted(shown, key=lambda text: ip_network(text).network_address)
        assert [one.way for one in shown["10.1.0.0/26"]] == ["blackhole"]
        assert (shown["10.1.0.64/26"][0].way, shown["10.1.0.64/26"][0].preference) == ("blackhole", "200")
        assert [(one.way, one.best) for one in shown["10.1.7.0/26"]] == [
            ("via 10.0.0.2 on eth0", True),
            ("via 10.0.0.3 on eth0", False),
        ]
        assert shown["10.1.8.0/26"][0].preference == "7s"
        assert shown["10.99.0.0/16"][0].way == "dev eth0"
        assert shown["10.99.0.0/16"][0].protocol == "kernel1"
        assert shown["10.0.0.0/24"][0].protocol == "direct1"
        lines_of_refused = reply_of(View(scene.observed, V4), "show route 10.1.9.0/26").texts()
        assert "] ! (100/0) [i]" in lines_of_refused[0]
        assert list(table(scene, family=V6)) == ["fd00::/64"]
        counted = reply_of(View(scene.observed, V4), "show route count").last
        assert counted == "8 of 8 routes for 7 networks"
        static = details(reply_of(View(scene.observed, V4), "show protocols all static1"))["static1"]
        assert "  Routes:         2 imported, 0 exported, 2 preferred" in static
        assert sorted(reply_of(View(scene.observed, V4), "show static").texts()) == [
            "10.1.0.0/26 blackhole",
            "10.1.0.64/26 blackhole",
        ]
        scene.link_down()
        assert table(scene)["10.1.7.0/26"][0].way == "unreachable"
        assert table(scene)["10.1.7.0/26"][0].cost == "-"

    on(RECORDS, body)


def test_a_way_to_a_peer_is_a_static_route() -> None:
    """`reachableBy`; without the kernel nobody knows the interface."""
    records = (
        *RECORDS,
        BGPPeer(
            name="far",
            peer_ip=PeerAddress(interface("198.18.0.1/32").ip),
            as_number=65001,
            reachable_by=interface("10.0.0.9/32").ip,
        ),
    )

    async def body(scene: Scene) -> None:
        view = View(scene.observed, V4)
        (route,) = table(scene)["198.18.0.1/32"]
        assert route.way == f"via 10.0.0.9 on {'eth0' if scene.observed.next_hops else '?'}"
        assert route.kind == "static unicast univ"
        assert "198.18.0.1/32 via 10.0.0.9" in reply_of(view, "show static").texts()
        assert reply_of(view, "show route for 198.18.0.1 protocol static1").code == 0
        assert rows(reply_of(view, "show protocols"))["kernel1"].state == (
            "up" if scene.observed.next_hops else "down"
        )

    on(records, body)
    on(records, body, kernel=False)


@virtual
async def test_a_reflector_knows_no_interface_and_makes_no_routes(wire: Wire) -> None:
    rr, client, other = Router(wire, 1, cluster_id="10.0.0.1"), Router(wire, 2), Router(wire, 3)
    rr.set_peers(*(rr.peer(one, route_reflector_client=True) for one in (client, other)))
    for one in (client, other):
        one.set_peers(one.peer(rr))
    client.originate("10.2.0.0/16")
    other.originate("10.2.0.0/16", "10.3.0.0/16")
    rib = rr.speaker.ribs[V4]
    await until(lambda: sum(len(rib.ranked(one)) for one in rib.routes) == 3 and len(other.table()) == 2)
    view = View(observed(rr, reflector=True), V4)
    protocols = rows(reply_of(view, "show protocols"))
    assert {one.state for name, one in protocols.items() if name.endswith("1") and name[0] != "t"} == {"down"}
    shown = routes(reply_of(view, "show route").texts())
    assert {one.way for one in shown} == {"via 10.0.0.2 on ?", "via 10.0.0.3 on ?"}
    assert {one.cost for one in shown} == {"?"}
    exported = routes(reply_of(view, "show route export to_10.0.0.3 all").texts())
    assert [(one.prefix, one.attributes["BGP.cluster_list"]) for one in exported] == [
        ("10.2.0.0/16", "10.0.0.1")
    ]
    assert reply_of(view, "show route export to_10.0.0.3 count").last == "1 of 3 routes for 2 networks"
    assert reply_of(view, "show route noexport to_10.0.0.3").texts() == []
    lines_of = details(reply_of(view, "show protocols all to_10.0.0.3"))["to_10.0.0.3"]
    assert any("2 imported, 1 exported, 1 preferred" in line for line in lines_of)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 2), st.booleans()),
        min_size=1,
        max_size=25,
    ),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_what_is_exported_is_what_the_peer_has(
    announced: list[tuple[int, int, int, bool]], add_path: bool
) -> None:
    """With one path of a prefix and with many, while routes come and go."""

    async def body(wire: Wire) -> None:
        rr = Router(wire, 1, cluster_id="10.0.0.1")
        peers = [Router(wire, number, asn=64512 if number < 5 else 65005) for number in range(2, 6)]
        changes = {} if add_path else {"add_path": NO_ADD_PATH}
        rr.set_peers(*(rr.peer(one, route_reflector_client=one.asn == 64512, **changes) for one in peers))
        for one in peers:
            one.set_peers(one.peer(rr, **changes))
        await until(lambda: rr.established() == 4)
        for who, prefix, attributes, there in announced:
            router, network = peers[who], nlri(f"10.{prefix}.0.0/16")
            if there:
                made = originate(next_hop=bytes(4), communities=range(attributes))
                source = router.speaker.tables._local_source(V4, SourceKind.STATIC)
                router.speaker.ribs[V4].insert(source.path(made), (network,))
                router.speaker.tables._changed()
            else:
                router.speaker.withdraw(V4, network, SourceKind.STATIC)
        await asyncio.sleep(5)
        view = View(observed(rr), V4)
        every = details(reply_of(view, "show protocols all"))
        for one in peers:
            name = f"to_{one.address}"
            (theirs,) = one.speaker.peers.values()
            has = one.speaker.received(theirs).get(V4, 0)
            shown = routes(reply_of(view, f"show route export {name}").texts())
            assert len(shown) == has
            (numbers,) = (line for line in every[name] if "imported" in line)
            assert f" {has} exported" in numbers
            both = [
                len(routes(reply_of(view, f"show route {mode} {name}").texts()))
                for mode in ("preexport", "noexport")
            ]
            assert both[0] == both[1] + len(shown)

    run_on_a_wire(body)


@virtual
async def test_paths_that_leave_alike_are_told_once(wire: Wire) -> None:
    """Two paths of one peer, with path identifiers, to a peer that gets all."""
    rr, client = Router(wire, 1, cluster_id="10.0.0.1"), Router(wire, 2)
    rr.set_peers(rr.peer(client, route_reflector_client=True))
    client.set_peers(client.peer(rr))
    await until(lambda: rr.established() == 1)
    router = rr.speaker.tables.router[V4]
    source = Source("x", SourceKind.IBGP, router, address=bytes((10, 0, 0, 9)), client=True, add_path=True)
    for path_id in (1, 2):
        made = source.path(originate(next_hop=bytes((10, 0, 0, 9)), local_pref=100), path_id=path_id)
        rr.speaker.ribs[V4].insert(made, (nlri("10.1.0.0/16"),))
    rr.speaker.flush()
    view = View(observed(rr), V4)
    for mode, count in (("preexport", 2), ("export", 1), ("noexport", 1)):
        reply = reply_of(view, f"show route {mode} to_10.0.0.2 count")
        assert reply.last == f"{count} of 2 routes for 1 networks"


@virtual
async def test_peers_and_routes_that_go_while_they_are_shown(wire: Wire) -> None:
    """Between any two portions, and in the middle of one: never an error, and what is shown was there."""
    for command in (
        "show protocols all",
        "show route all",
        "show route filtered",
        "disable all",
        "reload all",
    ):
        for turns in range(3):
            a, b = Router(wire, 1), Router(wire, 2)
            a.set_peers(a.peer(b), a.peer(b, name="z", remote=Endpoint(ip_address("10.0.0.9"), 179)))
            b.set_peers(b.peer(a))
            await until(lambda a=a: a.established() == 1)  # type: ignore[misc]
            fill(a.speaker, many(17_000))
            rib = a.speaker.ribs[V4]
            rib.recheck(next(iter(rib.sources)))
            view = View(observed(a), V4)
            lines = whole(answer(view, Client(), command))
            pauses = 0
            while pauses < turns and (line := next(lines, STOP)) is not STOP:
                pauses += line is None
            for name in list(a.speaker.peers):
                a.speaker.remove_peer(name)
            for source in list(rib.sources):
                rib.drop(source)
            rest = list(lines)
            assert all(line is None or line.code < 8000 for line in rest), command
            a.speaker.close(graceful=False)
            b.speaker.close(graceful=False)


@virtual
async def test_peers_are_in_the_view_of_what_their_session_carries(wire: Wire) -> None:
    """Both families, until the session has agreed on one."""
    a, b = Router(wire, 1), Router(wire, 2)
    a.set_peers(a.peer(b, families=frozenset(Family)))
    watched = observed(a)
    assert [len(View(watched, family).peers) for family in Family] == [1, 1]
    b.set_peers(b.peer(a))
    await until(lambda: a.established() == 1)
    assert [len(View(watched, family).peers) for family in Family] == [1, 0]


@virtual
async def test_actions_on_peers(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.set_peers(a.peer(b))
    b.set_peers(b.peer(a))
    view, name = View(observed(a), V4), "to_10.0.0.2"
    b.originate("10.2.0.0/16")
    await until(lambda: "10.2.0.0/16" in a.table())
    assert reply_of(view, f"reload {name}").lines[0] == (15, f"{name}: reloading")
    assert reply_of(view, f"restart {name}").lines[0] == (12, f"{name}: restarted")
    await until(lambda: a.established() == 1)
    assert reply_of(view, "disable static1").code == 8007
    assert reply_of(view, 'disable "*"').lines == ((9, f"{name}: disabled"), (0, ""))
    row = rows(reply_of(view, "show protocols"))[name]
    assert (row.state, row.info) == ("down", "")
    assert "received NOTIFICATION Cease" in str(b.speaker.peers["to_10.0.0.1"].session.last_error)
    for command, code in (("disable", 8), ("restart", 8), ("reload", 8)):
        assert reply_of(view, f"{command} {name}").lines[0] == (code, f"{name}: already disabled")
    assert reply_of(view, f"enable {name}").lines[0] == (11, f"{name}: enabled")
    assert rows(reply_of(view, "show protocols"))[name].info in ("Active", "Connect")
    await until(lambda: a.established() == 1)
    assert reply_of(view, f"enable {name}").lines[0] == (10, f"{name}: already enabled")
    client = Client(restricted=True)
    assert reply_of(view, f"disable {name}", client).code == 8007


@virtual
async def test_why_a_session_is_down(wire: Wire) -> None:
    """In BIRD's words."""
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3, asn=65003)
    a.set_peers(
        a.peer(b), a.peer(c, remote_as=65099), a.peer(c, name="held", remote_as=1, held="no password")
    )
    c.set_peers(c.peer(a))
    view = View(observed(a), V4)
    await until(lambda: all(peer.session.last_error for peer in a.speaker.peers.values()))
    info = {name: one.info for name, one in rows(reply_of(view, "show protocols")).items()}
    assert info["to_10.0.0.2"].split(maxsplit=1)[1] == "Socket: Connection refused"
    assert "BGP Error: OPEN Message Error/Bad Peer AS" in info["to_10.0.0.3"]
    assert info["held"] == "Idle          Error: no password"
    passive = replace(a.peer(b), passive=True)
    a.speaker.set_peer(passive)
    await until(lambda: rows(reply_of(view, "show protocols"))["to_10.0.0.2"].info.startswith("Passive"))


prefixes = st.builds(
    lambda address, length: ip_network((address & ~((1 << (32 - length)) - 1), length)),
    st.integers(0, 7).map(lambda high: high << 29) | st.integers(0, (1 << 32) - 1),
    st.integers(0, 32),
)


@given(st.lists(prefixes, max_size=12, unique=True), prefixes)
@settings(max_examples=80, deadline=None)
def test_the_longest_match_is_that_of_the_ipaddress_module(
    table: list[IPv4Network], asked: IPv4Network
) -> None:
    async def body(wire: Wire) -> None:
        router = Router(wire, 1)
        if table:
            fill(router.speaker, [from_network(one) for one in table])
        reply = reply_of(View(observed(router), V4), f"show route for {asked}")
        covering = [one for one in table if asked.subnet_of(one)]
        if covering:
            (route,) = routes(reply.texts())
            assert ip_network(route.prefix) == max(covering, key=lambda one: one.prefixlen)
        else:
            assert reply.lines == ((8001, "Network not in table"),)

    run_on_a_wire(body)


def finished(work: Portions[T]) -> T:
    """What work in portions comes to."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 2)), max_size=60))
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_a_plain_walk(announced: list[tuple[int, int, int]]) -> None:
    rib = LocRib(V4)
    kinds = (SourceKind.IBGP, SourceKind.EBGP, SourceKind.STATIC, SourceKind.KERNEL)
    sources = [
        Source(kind.value, kind, ROUTER, address=bytes((10, 0, 0, one)), local_as=64512)
        for one, kind in enumerate(kinds, 2)
    ]
    prefixes = many(31)
    for who, prefix, attributes in announced:
        made = originate(next_hop=bytes((10, 0, 0, who + 2)), local_pref=attributes)
        rib.announce(sources[who], made, (prefixes[prefix],))
    counts = finished(count_routes(rib))
    for source in sources:
        ranked = [rib.ranked(one) for one in rib.routes]
        assert counts.imported[giver(source)] == sum(
            path.source is source for paths in ranked for path in paths
        )
        assert counts.preferred[giver(source)] == sum(paths[0].source is source for paths in ranked)


def test_graceful_restart_is_told_until_the_start_is_over() -> None:
    async def body(scene: Scene) -> None:
        view = View(scene.observed, V4)
        reply = reply_of(view, "show status")
        assert reply.texts(24) == [
            "Graceful restart recovery in progress",
            "  Waiting for 2 protocols to recover",
            "  Wait timer is 30/30",
        ]
        assert (
            reply_of(View(scene.observed, V6), "show status").texts(24)[1]
            == "  Waiting for 0 protocols to recover"
        )
        await scene.peer(2)
        await until(lambda: scene.speaker.converged, within=120)
        assert reply_of(view, "show status").texts(24) == []

    on(RECORDS, body)


def test_times() -> None:
    now = time.time()
    assert short_time(now) == time.strftime("%H:%M:%S", time.localtime(now))
    assert short_time(now - 21 * 3600) == time.strftime("%Y-%m-%d", time.localtime(now - 21 * 3600))


def test_words() -> None:
    assert split("show  route\t'a b' \"Mesh *\" # rest") == [
        Word("show"),
        Word("route"),
        Word("a b"),
        Word("Mesh *", quoted=True),
    ]
    for line in ('"', "show 'x", 'a"b'):
        with pytest.raises(CommandError):
            split(line)
    assert matcher("Mesh_*_?").fullmatch("Mesh_10_0_0_1")
    assert not matcher("M[e]sh").fullmatch("Mesh")
    assert matcher("*" * 50 + "b").fullmatch("a" * 200) is None
    assert symbol("a b\tc") == "a_b_c"


@given(st.text(max_size=80), st.integers(0, 9999), st.booleans())
def test_a_line_is_one_line(text: str, code: int, last: bool) -> None:
    """Whatever is in it."""
    written = Encoder().encode(Line(code, text, last))
    assert written.endswith("\n")
    assert written.count("\n") == 1
    assert written[:-1].replace("\t", "").isprintable()


@given(st.lists(st.text("ab", min_size=1, max_size=700), max_size=30), st.integers(0, 40))
def test_long_lists_go_on_in_the_next_line(words: list[str], used: int) -> None:
    found = list(lines(words, used))
    assert " ".join(found).split() == words
    assert all(len(line) <= LINE_OCTETS or " " not in line for line in found)


def test_attributes_without_some() -> None:
    """No AS_PATH, no LOCAL_PREF: BIRD shows both."""
    shown = list(attribute_lines(originate(next_hop=b"\x0a\0\0\2"), 100))
    assert shown == [
        "\tBGP.origin: IGP",
        "\tBGP.as_path: ",
        "\tBGP.next_hop: 10.0.0.2",
        "\tBGP.local_pref: 100",
    ]
    both = bytes.fromhex("fd00" + "00" * 13 + "02" + "fe80" + "00" * 13 + "02")
    assert "\tBGP.next_hop: fd00::2 fe80::2" in attribute_lines(originate(next_hop=both), 100)
    assert to_text(from_network(ip_network("10.0.0.0/8")), V4) == "10.0.0.0/8"
