"""The same node twice, side by side: once as BIRD 1.6 with the configuration that `routed render` wrote, once
as routed, with the same neighbours that say the same. What the control sockets answer is the same, field by
field; docs/bird-socket.md says what is not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.observe.bird.replies import Route, Talk, details, routes, rows
from tests.observe.bird.scene import EXT, EXT6, MESH, Side

pytestmark = [pytest.mark.netns, pytest.mark.daemon("bird1")]


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
            words = [re.sub("^(Connect|Active|Idle) +", "Trying ", one.info) for one in (row, expected[name])]
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
    """The same lines, while both wait for their peers and later."""
    bird, routed = sides
    for replies in ((bird.at_start, routed.at_start), (bird.v4("show status"), routed.v4("show status"))):
        theirs, ours = ([re.sub(r"\d", "0", one) for one in reply.texts(1011)] for reply in replies)
        assert ours == theirs
        assert replies[1].last == replies[0].last == "Daemon is up and running"
    theirs, ours = (side.at_start.texts(24) for side in sides)
    assert ours[:2] == theirs[:2] != []
    assert all(re.fullmatch(r"  Wait timer is \d+/\d+", lines[2]) for lines in (ours, theirs))
    version = routed.at_start.texts(1000)[0]
    assert re.fullmatch(r"BIRD routed-\S+\+birdv1\.6\.8", version)
    talk = Talk(routed.machine.directory / "bird.ctl")
    talk.close()
    assert talk.greeting.lines == ((1, f"{version} ready."),)


def test_the_socket_of_a_bird_is_not_taken_away(sides: tuple[Side, Side]) -> None:
    bird, _ = sides
    options = [
        "rr",
        "--as",
        "64512",
        "--router-id",
        "192.0.2.8",
        "--listen",
        "127.0.0.1:17955",
        "--api",
        "none",
    ]
    options += ["--clients", "127.9.0.0/16", "--bird-sockets", "."]
    with subprocess.Popen(
        [sys.executable, "-m", "routed", *options],
        cwd=bird.machine.directory,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = [next(process.stdout)]
        while "speaking BGP" not in said[-1]:
            said.append(next(process.stdout))
        process.terminate()
    (error,) = (json.loads(line) for line in said if "no --bird-sockets" in line)
    assert "bird.ctl: another process answers there" in error["error"]
    assert bird.v4("show status").texts(1000) == ["BIRD 1.6.8"]


def test_peers_are_disabled_and_enabled(sides: tuple[Side, Side]) -> None:
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
        else:
            texts = [[one for one in reply.lines if one[0] != 2] for reply in (ours, theirs)]
            assert [one[0] for one in ours.lines] == [one[0] for one in theirs.lines]
            assert texts[0] == texts[1] or command in ('configure "/nonexistent"', "down")
    for talk in talks:
        talk.close()
    modes = [(side.machine.directory / "bird.ctl").stat().st_mode for side in sides]
    assert modes[0] == modes[1]
