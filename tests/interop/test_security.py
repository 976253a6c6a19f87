"""TCP-MD5 (RFC 2385) and GTSM (RFC 5082) with other daemons; a password that changes under a session."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest

from tests.daemons import DAEMONS, Config, Daemon, Neighbor
from tests.netns import Lab, Machine, wait_for
from tests.routed_process import (
    Record,
    Records,
    RoutedProcess,
    block,
    configuration,
    node,
    peer,
    pool,
    routed_rr,
    routed_run,
)

NODE_AS, PEER_AS = 64512, 65001
BLOCK, LEARNED = "10.244.0.0/26", "203.0.113.0/24"
PASSWORDS = ("Tiramisu-1", "Tiramisu-2", "Tiramisu-3")


def secret(password: str) -> Record:
    data = {"password": base64.b64encode(password.encode()).decode()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bgp", "namespace": "kube-system"},
        "data": data,
    }


PASSWORD_REF = {"secretKeyRef": {"name": "bgp", "key": "password"}}


class Node:
    """A routed with its records, peering with one machine over both families."""

    def __init__(self, machine: Machine, other: Machine, other_as: int, own_block: str = BLOCK) -> None:
        self.machine = machine
        self.other = other
        self.other_as = other_as
        self.records = Records(machine.directory / "records")
        base = [configuration(NODE_AS), node(machine), pool("10.244.0.0/16"), *block(machine.name, own_block)]
        self.records.put("base", base)
        self.routed: RoutedProcess = routed_run(machine, self.records, "--log-level", "debug")

    def password(self, password: str) -> None:
        self.records.put("secret", [secret(password)])

    def peers(self, **spec: Any) -> None:
        self.records.put(
            "peers",
            [peer(f"v{version}", self.other.address(version), self.other_as, **spec) for version in (4, 6)],
        )

    def sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.routed.status()["sessions"]
        return found

    def wait_up(self, flaps: int | None = None) -> None:
        """Until both sessions are up with the configured password."""

        def up() -> bool:
            for session in self.sessions():
                assert session["state"] == "established", session
                assert not session["protection"]["old_password_in_use"], session
                assert flaps is None or session["flaps"] == flaps, session
            return len(self.sessions()) == 2

        wait_for(up, f"{self.machine.name}: sessions up with the new password")

    def check_nothing_is_told(self) -> None:
        """No password in what it says."""
        told = self.routed.output() + self.routed.status_file.read_text()
        assert "Traceback" not in told
        for password in PASSWORDS:
            assert password not in told


def with_daemon(lab: Lab, name: str, **options: Any) -> tuple[Node, Daemon]:
    here = lab.machine("node", "192.0.2.1/24", "2001:db8::1/64")
    there = lab.machine("peer", "192.0.2.9/24", "2001:db8::9/64")
    neighbors = tuple(Neighbor(here.address(version), NODE_AS, **options) for version in (4, 6))
    return Node(here, there, PEER_AS), DAEMONS[name](
        there, Config(PEER_AS, there.address(4), neighbors, (LEARNED,))
    )


def change(daemon: Daemon, **options: Any) -> None:
    """Give the daemon's neighbours other options, live."""
    neighbors = tuple(dataclasses.replace(one, **options) for one in daemon.config.neighbors)
    daemon.config = dataclasses.replace(daemon.config, neighbors=neighbors)
    daemon.reconfigure()


daemons = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.daemon(name)) for name in ("bird2", "frr", "gobgp")]
)
live_daemons = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.daemon(name)) for name in ("bird2", "frr")]
)


@pytest.mark.netns
@daemons
def test_password(lab: Lab, name: str) -> None:
    """A session with the same password at both ends."""
    ours, daemon = with_daemon(lab, name, password=PASSWORDS[0])
    ours.password(PASSWORDS[0])
    ours.peers(password=PASSWORD_REF)
    daemon.start()
    ours.routed.start()
    ours.wait_up(flaps=0)
    daemon.wait_established()
    daemon.wait_routes(have=[BLOCK])
    ours.check_nothing_is_told()


@pytest.mark.netns
@pytest.mark.daemon("bird2")
def test_a_wrong_password(lab: Lab) -> None:
    """No session, and the hint says what to look at; the right one is in force at once."""
    ours, daemon = with_daemon(lab, "bird2", password=PASSWORDS[0])
    ours.password(PASSWORDS[1])
    ours.peers(password=PASSWORD_REF)
    daemon.start()
    ours.routed.start()
    wait_for(
        lambda: any("password" in (session["last_error"] or "") for session in ours.sessions()),
        "a hint at the password",
        timeout=60,
    )
    assert all(session["state"] != "established" for session in ours.sessions())
    ours.password(PASSWORDS[0])
    ours.wait_up(flaps=0)


@pytest.mark.netns
@live_daemons
def test_a_password_changes_here_first(lab: Lab, name: str) -> None:
    """The session goes on with the old one until the other end, which resets it, has the new one; then it is
    back within seconds."""
    ours, daemon = with_daemon(lab, name, password=PASSWORDS[0])
    ours.password(PASSWORDS[0])
    ours.peers(password=PASSWORD_REF)
    daemon.start()
    ours.routed.start()
    ours.wait_up(flaps=0)
    ours.password(PASSWORDS[1])
    wait_for(
        lambda: all(session["protection"]["old_password_in_use"] for session in ours.sessions()),
        "the change is known",
    )
    daemon.announce("198.51.100.0/25")  # the session carries routes, with pauses for trials
    ours.routed.wait_kernel("198.51.100.0/25", {ours.other.address(4)})
    assert all(session["flaps"] == 0 for session in ours.sessions())
    change(daemon, password=PASSWORDS[1])
    ours.wait_up(flaps=1)
    # The peer crashes, and is back with a third password before anybody told us: and with ours after that.
    daemon.kill()
    change_offline = tuple(dataclasses.replace(one, password=PASSWORDS[2]) for one in daemon.config.neighbors)
    daemon.config = dataclasses.replace(daemon.config, neighbors=change_offline)
    daemon.start()
    ours.password(PASSWORDS[2])
    ours.wait_up()
    ours.check_nothing_is_told()


@pytest.mark.netns
@pytest.mark.daemon("bird2")
def test_a_password_is_added_and_removed(lab: Lab) -> None:
    """The other end first, then ours; and the other way round."""
    ours, daemon = with_daemon(lab, "bird2")
    ours.password(PASSWORDS[0])
    ours.peers()
    daemon.start()
    ours.routed.start()
    ours.wait_up(flaps=0)
    change(daemon, password=PASSWORDS[0])
    ours.peers(password=PASSWORD_REF)
    ours.wait_up(flaps=1)
    ours.peers()
    wait_for(
        lambda: all(session["protection"]["old_password_in_use"] for session in ours.sessions()),
        "the change is known",
    )
    change(daemon, password=None)
    ours.wait_up(flaps=2)


@pytest.mark.netns
def test_two_routed_change_the_password_without_losing_the_session(lab: Lab) -> None:
    """They learn of it one after the other, and roll over on the living connection."""
    first = lab.machine("first", "192.0.2.1/24", "2001:db8::1/64")
    second = lab.machine("second", "192.0.2.2/24", "2001:db8::2/64")
    nodes = (Node(first, second, NODE_AS), Node(second, first, NODE_AS, "10.244.1.0/26"))
    for one in nodes:
        one.password(PASSWORDS[0])
        one.peers(password=PASSWORD_REF)
        one.routed.start()
    for one in nodes:
        one.wait_up(flaps=0)
    nodes[0].password(PASSWORDS[1])
    wait_for(lambda: nodes[0].sessions()[0]["protection"]["old_password_in_use"], "the change is known")
    nodes[1].password(PASSWORDS[1])
    for one in nodes:
        one.wait_up(flaps=0)
    for one in nodes:
        one.peers()  # and without one
    for one in nodes:
        one.wait_up(flaps=0)
    nodes[0].records.put("more", block("first", "10.244.2.0/26"))
    nodes[1].routed.wait_kernel("10.244.2.0/26", {first.address(4)})
    for one in nodes:
        one.check_nothing_is_told()


@pytest.mark.netns
@daemons
def test_clients_of_a_reflector_share_a_password(lab: Lab, name: str) -> None:
    """Any address of the range, over both families; the password is in a file."""
    here = lab.machine("rr", "192.0.2.1/24", "2001:db8::1/64")
    there = lab.machine("client", "192.0.2.9/24", "2001:db8::9/64")
    password = here.directory / "password"
    password.write_text(PASSWORDS[0] + "\n")
    ranges = ("192.0.2.0/24", "2001:db8::/64")
    reflector = routed_rr(here, NODE_AS, ranges, "--password-file", str(password), "--max-prefixes", "2")
    neighbors = tuple(Neighbor(here.address(version), NODE_AS, password=PASSWORDS[0]) for version in (4, 6))
    daemon = DAEMONS[name](there, Config(NODE_AS, there.address(4), neighbors, (LEARNED,)))
    reflector.start()
    daemon.start()
    reflector.wait_established(there.address(4), there.address(6))
    assert all(session["protection"]["tcp_md5"] for session in reflector.status()["sessions"])
    daemon.announce("198.51.100.0/25", "198.51.100.128/25")
    wait_for(
        lambda: reflector.sessions()[there.address(4)] == "idle", "the IPv4 session ends over its prefixes"
    )
    (last,) = [one for one in reflector.status()["sessions"] if one["peer"] == there.address(4)]
    assert "Maximum Number of Prefixes Reached" in last["last_error"]
    assert reflector.sessions()[there.address(6)] == "established"
    assert PASSWORDS[0] not in reflector.output()


@pytest.mark.netns
@daemons
def test_ttl_security(lab: Lab, name: str) -> None:
    """One hop away at both ends, changed live here; and a peer that sends with a lower TTL is not heard."""
    ours, daemon = with_daemon(lab, name, ttl_security_hops=1)
    ours.peers(ttlSecurity=1)
    daemon.start()
    ours.routed.start()
    ours.wait_up(flaps=0)
    ours.peers(ttlSecurity=3)
    wait_for(
        lambda: all(session["protection"]["ttl_security_hops"] == 3 for session in ours.sessions()),
        "the change is in force",
    )
    daemon.announce("198.51.100.0/25")
    ours.routed.wait_kernel("198.51.100.0/25", {ours.other.address(4)})
    ours.wait_up(flaps=0)
    daemon.stop()
    neighbors = tuple(dataclasses.replace(one, ttl_security_hops=None) for one in daemon.config.neighbors)
    daemon.config = dataclasses.replace(daemon.config, neighbors=neighbors, multihop=True)
    daemon.start()

    def not_heard() -> bool:
        for session in ours.sessions():
            assert session["state"] != "established", session
            dropped = session["protection"]["segments_dropped"] > 0
            assert dropped or "TTL security" in (session["last_error"] or ""), session
        return True

    wait_for(not_heard, "a peer without TTL security is not heard", timeout=60)
    ours.peers()
    ours.wait_up()
