"""The same node twice, side by side: once as BIRD 1.6 with the configuration that `routed render` wrote, once
as routed, with the same neighbours that say the same. What the control sockets answer is the same, field by
field; docs/bird-socket.md says what is not."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests import netns
from tests.netns import Lab, Machine, wait_for
from tests.observe.bird.replies import Reply, Route, Talk, ask, details, routes, rows
from tests.raw_peer import (
    AGGREGATOR,
    ATOMIC_AGGREGATE,
    EXTENDED_COMMUNITIES,
    EXTENDED_MESSAGE,
    FOUR_OCTET_AS,
    GRACEFUL_RESTART,
    MULTIPROTOCOL,
    OPTIONAL,
    ROUTE_REFRESH,
    TRANSITIVE,
    Attribute,
    Options,
    RawPeer,
)
from tests.rendered_bird import RenderedBird
from tests.routed_process import Record, Records, block, configuration, node, peer, pool, record, routed_run

pytestmark = [pytest.mark.netns, pytest.mark.daemon("bird1")]

EXT, MESH, EXT6 = "Global_192_0_2_50", "Mesh_192_0_2_9", "Global_2001_db8__50"
_CAPABILITIES = (
    (MULTIPROTOCOL, b"\0\1\0\1"),
    (FOUR_OCTET_AS, (65001).to_bytes(4, "big")),
    (ROUTE_REFRESH, b""),
    (GRACEFUL_RESTART, b"\0\x3c\0\1\1\x80"),
    (EXTENDED_MESSAGE, b""),
)
_MORE = (
    Attribute(TRANSITIVE, ATOMIC_AGGREGATE, b""),
    Attribute(OPTIONAL | TRANSITIVE, AGGREGATOR, (65010).to_bytes(4, "big") + b"\1\2\3\4"),
    Attribute(OPTIONAL | TRANSITIVE, 99, b"\x01\x02\xab" * 20),
    Attribute(
        OPTIONAL | TRANSITIVE,
        EXTENDED_COMMUNITIES,
        bytes.fromhex(
            "0002fde900000064 0003fde900000064 4304fde900000064 0102010203040007 8006000000000000"
            "0202000fde900007 4002fde900000064 0006fde900000064 0102ffffffffffff 030c000000000008"
        ),
    ),
)


@dataclass
class Side:
    """One of the two."""

    machine: Machine
    daemon: str

    def v4(self, command: str) -> Reply:
        """A command on bird.ctl."""
        return ask(self.machine.directory / "bird.ctl", command)

    def v6(self, command: str) -> Reply:
        """A command on bird6.ctl."""
        return ask(self.machine.directory / "bird6.ctl", command)

    def table(self, command: str, *, v6: bool = False) -> dict[str, list[Route]]:
        """`show route` by prefix."""
        reply = (self.v6 if v6 else self.v4)(command)
        assert reply.code in (0, 14), reply
        found: dict[str, list[Route]] = {}
        for route in routes(reply.texts(1007, 1008, 1012)):
            found.setdefault(route.prefix, []).append(_comparable(route))
        return found


def _comparable(route: Route) -> Route:
    """Without what BIRD has and routed does not keep, and what BIRD cuts off."""
    attributes = {
        name: value
        for name, value in route.attributes.items()
        if name not in ("Kernel.source", "Kernel.scope", "Kernel.metric") or route.kind.startswith("inherit")
    }
    attributes.pop("Kernel.source", None)
    attributes.pop("Kernel.scope", None)
    if (path := attributes.get("BGP.as_path")) is not None and len(path) > 400:
        attributes["BGP.as_path"] = path[:400]
    return replace(route, attributes=attributes)


def _records(node1: Machine, node2: Machine) -> list[Record]:
    rules = [{"matchOperator": "Equal", "cidr": "10.66.0.0/16", "action": "Reject"}]
    return [
        configuration(64512, mesh=True),
        pool("10.244.0.0/16"),
        pool("fd00:10:244::/48"),
        node(node1),
        node(node2),
        record("BGPFilter", "no66", importV4=rules),
        peer("ext", "192.0.2.50", 65001, filters=["no66"]),
        peer("gone", "192.0.2.77", 65002),
        peer("behind", "198.18.0.1", 65003, reachableBy="192.0.2.51"),
        peer("ext6", "2001:db8::50", 65001),
        *block("node1", "10.244.1.0/26"),
        *block("node1", "fd00:10:244:1::/122"),
        *block("node2", "10.244.2.0/26"),
        *block("node2", "fd00:10:244:2::/122"),
    ]


@contextlib.contextmanager
def _side(lab: Lab, daemon: str) -> Iterator[Side]:
    node1 = lab.machine("node1", "192.0.2.8/24", "2001:db8::8/64")
    others = lab.machine("others", "192.0.2.9/24", "192.0.2.50/24", "192.0.2.51/24", "2001:db8::50/64")
    node2 = replace_addresses(others, "192.0.2.9/24")
    node1.pod("pod", "cali0", ("10.244.1.1", "fd00:10:244:1::1"))
    node1.ip("route", "add", "172.16.0.0/16", "via", "192.0.2.51")
    records = Records(lab.directory / "records")
    records.put("cluster", _records(node1, node2))
    if daemon == "bird":
        RenderedBird(node1, records).start()
    else:
        routed_run(node1, records, "--bird-sockets", str(node1.directory), "--api", "none").start()
    with contextlib.ExitStack() as stack:

        def speak(asn: int, router_id: str, address: str, **options: object) -> RawPeer:
            made = Options(asn, router_id, address=address, end_of_rib=True, **options)  # type: ignore[arg-type]
            return stack.enter_context(RawPeer(others, made))

        ext = speak(65001, "9.9.9.9", "192.0.2.50", capabilities=_CAPABILITIES, remote="192.0.2.8")
        mesh = speak(64512, "8.8.8.8", "192.0.2.9", remote="192.0.2.8")
        ext6 = speak(65001, "9.9.9.9", "2001:db8::50", version=6, remote="2001:db8::8")
        for one in (ext, mesh, ext6):
            one.wait_established()
        _announce(ext, mesh, ext6)
        yield Side(node1, daemon)


def replace_addresses(machine: Machine, *addresses: str) -> Machine:
    """The machine as another node's record sees it."""
    made = Machine(machine.lab, "node2", machine.directory)
    made.addresses = addresses
    return made


def _announce(ext: RawPeer, mesh: RawPeer, ext6: RawPeer) -> None:
    sets = frozenset({65011, 65012})
    communities = [(65001, one) for one in range(100)]
    large = [(65001, one, 1) for one in range(60)]
    ext.announce(
        "203.0.113.0/24",
        as_path=(65001, sets),
        med=7,
        communities=communities,
        large_communities=large,
        more=_MORE,
        origin=2,
    )
    ext.announce("203.0.114.0/24", as_path=(65001, sets, 65013), origin=1)
    ext.announce("203.0.115.0/24", as_path=(65001, *range(65100, 65250)), communities=[(65535, 666)])
    ext.announce("10.9.0.0/16", as_path=(65001, 64512))  # a loop
    ext.announce("10.66.0.0/16", as_path=(65001,))  # rejected by the filter
    ext.announce("10.55.0.0/16", as_path=(65001,))
    mesh.announce("10.244.2.0/26", local_pref=100)
    mesh.announce("10.55.0.0/16", local_pref=100, next_hop="192.0.2.51", med=0, as_path=(65001,))
    reflected = {"originator_id": "7.7.7.7", "cluster_list": ["1.1.1.1", "2.2.2.2"]}
    mesh.announce("10.56.0.0/16", local_pref=200, next_hop="100.100.100.100", **reflected)
    mesh.announce("10.57.0.0/16", local_pref=200, next_hop="172.16.5.5")
    mesh.announce("10.58.0.0/16", local_pref=2147483000)
    mesh.announce("10.244.1.7/32", local_pref=100)
    ext6.announce("2001:db8:5::/48", "::/0", as_path=(65001,))


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """BIRD, and routed, when both have all routes."""
    netns.remove_leftovers()
    with contextlib.ExitStack() as stack:
        both = []
        for daemon in ("bird", "routed"):
            folder = tmp_path_factory.mktemp(daemon)
            lab = stack.enter_context(netns.temporary_lab(folder))
            both.append(stack.enter_context(_side(lab, daemon)))
        for side in both:
            wait_for(lambda side=side: _settled(side), f"{side.daemon} has all routes", timeout=20)
        yield both[0], both[1]


def _settled(side: Side) -> bool:
    count = side.v4("show route count").last
    assert count.startswith("15 of 15 routes for 14"), count
    assert side.v6("show route count").last.startswith("5 of 5 routes for 5")
    if side.daemon == "bird":
        assert "Graceful" not in str(side.v4("show status")), "BIRD waits for its peers"
    assert "10.244.2.0/26" in side.machine.routes(4)
    assert "No route to host" in rows(side.v4("show protocols"))["Global_192_0_2_77"].info
    return True


@pytest.mark.parametrize(
    "command", ["show route all", "show route", "show route primary", "show route table master"]
)
def test_tables(sides: tuple[Side, Side], command: str) -> None:
    bird, routed = sides
    assert routed.table(command) == bird.table(command)
    assert routed.table(command, v6=True) == bird.table(command, v6=True)


@pytest.mark.parametrize("name", [EXT, MESH, "static1", "kernel1", "direct1", "device1", "Global_192_0_2_77"])
def test_routes_of_a_protocol(sides: tuple[Side, Side], name: str) -> None:
    bird, routed = sides
    for command in (f"show route all protocol {name}", f"show route primary protocol {name}"):
        assert routed.table(command) == bird.table(command)
    command = f"show route protocol {name} count"
    assert routed.v4(command) == bird.v4(command)


@pytest.mark.parametrize("mode", ["export", "noexport", "preexport"])
def test_routes_for_a_peer(sides: tuple[Side, Side], mode: str) -> None:
    """The reachableBy route is in no RIB of routed, so it is never a candidate for a peer."""
    bird, routed = sides
    for name in (EXT, MESH):
        for details_too in ("", " all") if mode == "export" else ("",):
            theirs = bird.table(f"show route {mode} {name}{details_too}")
            theirs.pop("198.18.0.1/32", None)
            ours = routed.table(f"show route {mode} {name}{details_too}")
            if mode == "export":
                assert _without_preference(ours) == _without_preference(theirs)
            else:
                assert sorted(ours) == sorted(theirs)
    assert (
        routed.table(f"show route {mode} {EXT6}", v6=True).keys()
        == bird.table(f"show route {mode} {EXT6}", v6=True).keys()
    )
    assert routed.v4(f"show route {mode} Global_192_0_2_77") == bird.v4(
        f"show route {mode} Global_192_0_2_77"
    )


def _without_preference(table: dict[str, list[Route]]) -> dict[str, list[Route]]:
    """BIRD takes LOCAL_PREF away only when it writes a message to an external peer, and shows it before."""
    for found in table.values():
        for route in found:
            route.attributes.pop("BGP.local_pref", None)
    return table


@pytest.mark.parametrize(
    "what",
    [
        "for 10.244.2.1",
        "for 10.244.2.0/26",
        "10.244.2.0/26",
        "10.244.2.0/27",
        "for 10.244.1.7",
        "for 10.244.1.7/32 all",
        "for 203.0.113.255",
        "for 9.9.9.9",
        "198.18.0.1/32",
        f"10.55.0.0/16 protocol {MESH}",
        f"10.55.0.0/16 protocol {EXT} primary",
        "10.99.0.0/16",
        "for 10.244.2.1 all primary",
        "for 10.244.2.1 count",
        "filtered primary",
    ],
)
def test_one_route(sides: tuple[Side, Side], what: str) -> None:
    bird, routed = sides
    theirs, ours = bird.v4(f"show route {what}"), routed.v4(f"show route {what}")
    assert (ours.code, ours.last) == (theirs.code, theirs.last)
    assert routes(ours.texts()) == routes(theirs.texts())


@pytest.mark.parametrize("what", ["for ::1", "for fd00:10:244:1::1", "fd00:10:244:1::/122", "fd00::/48"])
def test_one_route_of_ipv6(sides: tuple[Side, Side], what: str) -> None:
    bird, routed = sides
    theirs, ours = bird.v6(f"show route {what}"), routed.v6(f"show route {what}")
    assert (ours.code, ours.last) == (theirs.code, theirs.last)
    assert routes(ours.texts()) == routes(theirs.texts())


def test_protocols(sides: tuple[Side, Side]) -> None:
    """Names, kinds, states, and what is said of failing ones. Whether one that cannot be reached is just
    being dialled is chance."""
    bird, routed = sides
    for theirs, ours in ((bird.v4, routed.v4), (bird.v6, routed.v6)):
        expected, seen = rows(theirs("show protocols")), rows(ours("show protocols"))
        assert list(seen) == list(expected)
        for name, row in seen.items():
            words = [re.sub("^(Connect|Active|Idle) ", "Trying ", one.info) for one in (row, expected[name])]
            assert words[0] == words[1]
            assert replace(row, since="", info="") == replace(expected[name], since="", info="")
            assert re.fullmatch(r"\d\d:\d\d:\d\d", row.since)
    header = "name     proto    table    state  since       info"
    assert [one.v4("show protocols").texts(2002) for one in sides] == [[header], [header]]
    widths = [[len(line) for line in one.v4("show protocols").texts(1002)[:4]] for one in sides]
    assert widths[0] == widths[1]


#: Where ours say more, or what is wrong with a word that only BIRD's grammar knows.
_OTHER_WORDS = ("show route where", "show route import x", "show route for 1.2.3")
#: What routed does not count, or counts of its own, and what changes by the second.
_NOT_COMPARED = re.compile(
    r"Description:|(Import|Export) (updates|withdraws):|Hold timer:|Keepalive timer:|Connect delay:"
    r"|GR recovery:|BGP state:"
)


@pytest.mark.parametrize("name", ["static1", "direct1", "device1", EXT, MESH, "Global_192_0_2_77"])
def test_details_of_a_protocol(sides: tuple[Side, Side], name: str) -> None:
    theirs, ours = (
        [
            # What a filter, or a loop, keeps out, Calico's BIRD does not keep; and it offers no RFC 8654.
            re.sub(r" \d+ filtered,| ext-messages", "", line)
            for line in details(side.v4(f"show protocols all {name}"))[name]
            if not _NOT_COMPARED.search(line)
        ]
        for side in sides
    )
    assert ours == theirs
    every = [details(side.v4("show protocols all")) for side in sides]
    assert list(every[1]) == list(every[0])


def test_details_of_kernel1(sides: tuple[Side, Side]) -> None:
    """Without the route that cannot be reached, which BIRD programs as unreachable."""
    theirs, ours = (details(side.v4("show protocols all kernel1"))["kernel1"] for side in sides)
    numbers = [re.findall(r"\d+", line) for side in (theirs, ours) for line in side if "imported" in line]
    unreachable = 1
    assert [int(one) for one in numbers[1]] == [
        int(one) - (unreachable if at == 1 else 0) for at, one in enumerate(numbers[0])
    ]
    assert "  Output filter:  calico_kernel_programming" in theirs
    assert "  Output filter:  calico_kernel_programming" in ours


def test_interfaces(sides: tuple[Side, Side]) -> None:
    bird, routed = sides
    for command in ("show interfaces", "show interfaces summary"):
        assert routed.v4(command) == bird.v4(command)
        theirs, ours = (
            [line for line in side.v6(command).texts() if "fe80" not in line] for side in (bird, routed)
        )
        assert ours == theirs


def test_static_routes_and_symbols(sides: tuple[Side, Side]) -> None:
    bird, routed = sides
    assert sorted(routed.v4("show static").texts()) == sorted(bird.v4("show static").texts())
    assert routed.v4("show symbols table") == bird.v4("show symbols table")
    assert routed.v4(f"show symbols {MESH}") == bird.v4(f"show symbols {MESH}")
    names = [set(side.v4("show symbols protocol").texts()) for side in sides]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    "command",
    [
        "",
        "foo",
        "show",
        "show foo",
        "SHOW STATUS",
        "sh st",
        "show status show",
        "show status;",
        "show protocols nosuch",
        'show protocols "nosuch*"',
        'show protocols ""',
        "show protocols all all",
        "show memory foo",
        "show interfaces summary summary",
        "show route protocol nosuch",
        "show route export nosuch",
        "show route table nosuch",
        "show route where",
        "show route import x",
        "show route for zz",
        "show route for fe80::1",
        "show route for 1.2.3",
        "show route 10.0.0.1/8",
        "show route 10.244.2.0/33",
        "show route 10.244.2.1",
        "show route 10.0.0.0/8 10.0.0.0/8",
        "show route for",
        'show route "x"',
        "show roa",
        "show ospf",
        "show bfd sessions",
        "disable",
        "disable nosuch",
        'restart "nosuch*"',
        "reload",
        "configure foo",
        "configure confirm",
        "configure undo",
        "echo",
        "echo all",
        "echo off",
        "quit",
        "show route 'x'",
        'show protocols "Mesh',
        "show status # a comment",
    ],
)
def test_answers_to_others(sides: tuple[Side, Side], command: str) -> None:
    """The code of the last line, for what is no question about routes, or wrong."""
    bird, routed = sides
    theirs, ours = bird.v4(command), routed.v4(command)
    assert ours.code == theirs.code, (ours, theirs)
    if ours.code >= 8000 and command not in _OTHER_WORDS:
        assert ours.last == theirs.last


def test_status(sides: tuple[Side, Side]) -> None:
    """The same lines. routed waits 30 s for a peer that is not there, the BIRD of this test 3 s."""
    theirs, ours = (
        [re.sub(r"\d", "0", text) for text in side.v4("show status").texts(1011)] for side in sides
    )
    assert ours == theirs
    reply: Reply = sides[1].v4("show status")
    assert reply.last == "Daemon is up and running"
    assert reply.texts(24)[:2] == [
        "Graceful restart recovery in progress",
        "  Waiting for 2 protocols to recover",
    ]
    assert re.fullmatch(r"  Wait timer is \d+/\d+", reply.texts(24)[2])
    version = reply.texts(1000)[0]
    assert re.fullmatch(r"BIRD routed-\S+\+birdv1\.6\.8", version)
    talk = Talk(sides[1].machine.directory / "bird.ctl")
    talk.close()
    assert talk.greeting.lines == ((1, f"{version} ready."),)


def test_bird_restarts_as_it_says(sides: tuple[Side, Side]) -> None:
    """Peers are disabled, enabled, reloaded, restarted: the same codes and words, and the same states."""
    talks = [Talk(side.machine.directory / "bird.ctl") for side in sides]
    for command in (
        f"disable {EXT}",
        f"disable {EXT}",
        "show protocols",
        f"enable {EXT}",
        f"enable {EXT}",
        'disable "Global*50"',
        "enable all",
        f"reload in {MESH}",
        "reload Global_192_0_2_77",
        "configure",
        "configure soft",
        "configure check",
        'configure "/nonexistent"',
        "restrict",
        f"disable {EXT}",
        "configure",
        "down",
    ):
        theirs, ours = (talk(command) for talk in talks)
        assert ours.code == theirs.code, (command, ours, theirs)
        if command == "show protocols":
            assert rows(ours)[EXT].state == rows(theirs)[EXT].state == "down"
            assert rows(ours)[EXT].info == rows(theirs)[EXT].info == ""
        elif "configure" not in command:
            assert ours == theirs
    for talk in talks:
        talk.close()
    modes = [(side.machine.directory / "bird.ctl").stat().st_mode for side in sides]
    assert modes[0] == modes[1]
