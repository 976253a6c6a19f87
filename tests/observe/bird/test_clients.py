"""The real clients, birdc of BIRD 1.6, birdcl and birdc of BIRD 2, on a live `routed run` and `routed rr`."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import netns
from tests.cli.terminal import Terminal
from tests.daemons import bird1_folder, bird2_program
from tests.netns import Machine, wait_for
from tests.observe.bird import calico
from tests.observe.bird.replies import ask
from tests.routed_process import Records, affinity, configuration, node, peer, pool, routed_rr, routed_run

pytestmark = [pytest.mark.netns, pytest.mark.daemon("bird1", "bird2")]

BLOCKS = 200


@dataclass
class Live:
    """A node and its reflector."""

    node: Machine
    reflector: Machine


#: BIRD 1.6's for IPv6 is another program.
CLIENTS = ("birdc 1.6", "birdcl 2", "birdc 2")


def program_of(client: str) -> Path:
    """One of `CLIENTS`."""
    if client == "birdc 1.6":
        return bird1_folder() / "birdc"
    return Path(bird2_program()).with_name(client.split()[0])


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Both at work, with all routes."""
    netns.remove_leftovers()
    with netns.temporary_lab(tmp_path_factory.mktemp("clients")) as lab:
        node1 = lab.machine("node1", "192.0.2.8/24", "2001:db8::8/64")
        reflector = lab.machine("rr", "192.0.2.1/24", "2001:db8::1/64")
        records = Records(lab.directory / "records")
        blocks = [affinity("node1", f"10.244.{one >> 2}.{64 * (one & 3)}/26") for one in range(BLOCKS)]
        records.put(
            "cluster",
            [
                configuration(64512),
                pool("10.244.0.0/16"),
                pool("fd00:10:244::/48"),
                node(node1),
                *blocks,
                affinity("node1", "fd00:10:244:1::/122"),
                peer("rr", "192.0.2.1", 64512),
                peer("rr6", "2001:db8::1", 64512),
            ],
        )
        sockets = ("--bird-sockets", "calico", "--api", "none")
        for made in (
            routed_rr(reflector, 64512, ["192.0.2.0/24", "2001:db8::/64"], *sockets),
            routed_run(node1, records, *sockets),
        ):
            made.command[made.command.index("calico")] = str(made.machine.directory / "calico")
            made.start()
        one = Live(node1, reflector)
        path = reflector.directory / "calico"

        def complete() -> bool:
            assert ask(path / "bird.ctl", "show route count").last.startswith(f"{BLOCKS} of")
            assert ask(path / "bird6.ctl", "show route count").last.startswith("1 of")
            return True

        wait_for(complete, "the reflector has all routes", timeout=60)
        yield one


def run(
    program: Path, machine: Machine, *arguments: str, name: str = "bird.ctl", text: str | None = None
) -> str:
    """What a client prints."""
    done = subprocess.run(
        [str(program), "-s", name, *arguments],
        cwd=machine.directory / "calico",
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TERM": "dumb"},
    )
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("client", CLIENTS)
def test_one_command(live: Live, client: str) -> None:
    program = program_of(client)
    for machine, router in ((live.node, "192.0.2.8"), (live.reflector, "192.0.2.1")):
        status = run(program, machine, "show", "status").splitlines()
        assert status[0] == "BIRD routed-0.1.0+birdv1.6.8 ready."
        assert status[2] == f"Router ID is {router}"
        assert status[-1] == "Daemon is up and running"
        assert run(program, machine, "show", "status", name="bird6.ctl").splitlines()[2] == status[2]
    shown = run(program, live.node, "show", "protocols")
    assert re.search(r"^Global_192_0_2_1 BGP {6}master   up     [\d:]{8}    Established", shown, re.MULTILINE)
    assert "2001" not in shown
    assert "Global_2001_db8__1" in run(program, live.node, "show", "protocols", name="bird6.ctl")
    shown = run(program, live.reflector, "show", "protocols", "all", "Client_192_0_2_8")
    assert "Session:          internal multihop route-reflector AS4" in shown
    assert f"Routes:         {BLOCKS} imported, 0 exported, {BLOCKS} preferred" in shown
    assert run(program, live.reflector, "show", "route", "count").endswith(
        f"{BLOCKS} of {BLOCKS} routes for {BLOCKS} networks\n"
    )
    assert (
        run(program, live.reflector, "show", "route").count(" via 192.0.2.8 on ? [Client_192_0_2_8 ")
        == BLOCKS
    )
    found = run(program, live.reflector, "show", "route", "for", "fd00:10:244:1::5", name="bird6.ctl")
    assert re.search(
        r"^fd00:10:244:1::/122 via 2001:db8::8 on \? \[Client_2001_db8__8 .*\] \* \(100/\?\) \[i\]$",
        found,
        re.M,
    )
    assert "interface state address" in run(program, live.node, "show", "interfaces", "summary")


@pytest.mark.parametrize("client", CLIENTS)
def test_restricted_and_refused(live: Live, client: str) -> None:
    program = program_of(client)
    shown = run(program, live.node, "-r", "disable", "all").splitlines()
    assert shown[1:] == ["Access restricted", "Access denied"]
    assert "Access denied: stop routed" in run(program, live.node, "down")
    assert run(program, live.node, "configure").splitlines()[-1] == "Reconfigured"
    assert "is not a protocol" in run(program, live.node, "disable", "nosuch")
    assert "0014 " in run(program, live.node, "-v", "show", "route", "count")


@pytest.mark.parametrize("client", CLIENTS)
def test_commands_on_standard_input(live: Live, client: str) -> None:
    shown = run(
        program_of(client),
        live.node,
        text='show status\nshow route count\nshow protocols "Glob*"\nshow interfaces\nquit\n',
    )
    assert "Daemon is up and running" in shown
    assert f"{BLOCKS + 1} of {BLOCKS + 1} routes" in shown
    assert "Global_192_0_2_1" in shown
    assert "MTU=1500" in shown


@pytest.mark.parametrize("client", CLIENTS)
def test_a_terminal_with_pages_and_completion(live: Live, client: str) -> None:
    program = [str(program_of(client)), "-s", str(live.node.directory / "calico" / "bird.ctl")]
    with Terminal(program=program, columns=100) as terminal:
        terminal.next("bird> ")
        terminal.press("show route\n")
        terminal.next("--More--")
        assert terminal.screen.count("blackhole") < 60
        terminal.press(" ")
        terminal.next("--More--")
        terminal.press("q")
        terminal.next("bird> ")
        if "birdc " in client:
            terminal.press("sh int sum\t\n")
        else:
            terminal.press("show interfaces summary\n")
        terminal.next("interface state address")
        terminal.next("bird> ")
        terminal.press("show protocols ?\n")
        terminal.next("Show routing protocol details")
        terminal.next("bird> ")
        terminal.press("echo all\n")
        # It says nothing; what comes after it does.
        terminal.press("show status\n")
        terminal.next("Daemon is up and running")
        run(program_of("birdcl 2"), live.node, "reload", "out", "Global_192_0_2_1")
        terminal.next(">>> Global_192_0_2_1: ")
        terminal.press("quit\n")
        assert terminal.end() == 0


def test_calico_node_is_ready(live: Live) -> None:
    """As soon as the peers' tables are there."""
    for name, version in (("bird.ctl", 4), ("bird6.ctl", 6)):
        path = live.node.directory / "calico" / name
        wait_for(lambda path=path, version=version: calico.not_ready(path, version) is None, "ready")  # type: ignore[misc]
        (one,) = calico.peers(path, version)
        assert (one.kind, one.state, one.bgp_state, one.info) == ("global", "up", "Established", "")


def test_a_session_is_disabled_and_enabled(live: Live) -> None:
    """The same as an operator's action in the API: the reflector forgets the node, and has it back."""
    program = program_of("birdcl 2")
    reflector = live.reflector.directory / "calico" / "bird.ctl"
    assert "Global_192_0_2_1: disabled" in run(program, live.node, "disable", "Global_192_0_2_1")
    assert re.search(
        r"Global_192_0_2_1 BGP +master +down +[\d:]{8} +$", run(program, live.node, "show", "protocols"), re.M
    )
    wait_for(lambda: ask(reflector, "show route count").last.startswith("0 of 0"), "the routes are gone")
    assert "Global_192_0_2_1: enabled" in run(program, live.node, "enable", "Global_192_0_2_1")
    wait_for(
        lambda: ask(reflector, "show route count").last.startswith(f"{BLOCKS} of"), "the routes are back"
    )
    assert "Global_192_0_2_1: reloading" in run(program, live.node, "reload", "Global_192_0_2_1")
    assert "Client_192_0_2_8: restarted" in run(program, live.reflector, "restart", "Client_192_0_2_8")
    wait_for(
        lambda: ask(reflector, "show route count").last.startswith(f"{BLOCKS} of"), "the routes are back"
    )


def test_a_second_process_takes_no_socket_away(live: Live) -> None:
    """It says so, and goes on without."""
    records = Records(live.node.lab.directory / "records")
    other = live.node.lab.machine("second", "192.0.2.99/24")
    made = routed_run(other, records, "--bird-sockets", str(live.node.directory / "calico"), "--api", "none")
    made.start()
    assert "no --bird-sockets" in made.output()
    assert "bird.ctl: another process answers there" in made.output()
    made.stop()
    assert "Router ID is 192.0.2.8" in run(program_of("birdc 1.6"), live.node, "show", "status")
