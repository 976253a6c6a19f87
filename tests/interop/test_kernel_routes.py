"""A node's kernel routes as the network around it changes: next hops through links, addresses and other
routes; tunnels; networks of interfaces; routes that a BIRD has left."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.daemons import Bird2, Config, Neighbor
from tests.netns import Lab, Machine, wait_for
from tests.raw_peer import Options, RawPeer
from tests.routed_process import (
    Record,
    Records,
    block,
    configuration,
    node,
    peer,
    pool,
    routed_run,
)

AS = 64512
NORMAL = 2147483647 - 1024
#: Long before anything is tried again, or read back, by the clock.
SOON = 10.0
#: By IP version: the second network of the node, its address there; a network that is elsewhere.
SECOND = {4: ("198.51.100.0/24", "198.51.100.1/24"), 6: ("2001:db8:51::/64", "2001:db8:51::1/64")}
ELSEWHERE = {4: ("203.0.113.0/24", "203.0.113.9"), 6: ("2001:db8:113::/64", "2001:db8:113::9")}
NEAR, FAR, HIDDEN, SHARED = range(4)
PREFIXES = {
    4: [f"10.244.{n}.0/26" for n in (1, 2, 3, 4)],
    6: [f"fd00:10:244:{n}::/122" for n in (1, 2, 3, 4)],
}


class Node:
    """A node with a second interface, eth1, and two iBGP peers on its first."""

    def __init__(self, lab: Lab, version: int, *options: str, spec: Record | None = None) -> None:
        self.version = version
        self.machine = lab.machine("node", "192.0.2.1/24", "2001:db8::1/64")
        others = [lab.machine(f"peer{n}", f"192.0.2.{n}/24", f"2001:db8::{n}/64") for n in (8, 9)]
        # The kernel's default is to forget IPv6 addresses with the link; only an operator could bring those
        # back.
        self.machine.sysctl({f"ipv6/conf/{name}/keep_addr_on_down": "1" for name in ("all", "default")})
        self.machine.ip_batch(
            [
                "link add eth1 type veth peer name other1",
                "link set other1 up",
                "link set eth1 up",
                f"address add {SECOND[version][1]} dev eth1",
            ]
        )
        self.peers = [RawPeer(one, Options(AS, one.address(4), version=version)) for one in others]
        self.records = Records(lab.directory / "records")
        base = [configuration(AS, mesh=False, **(spec or {})), node(self.machine)]
        base += [peer(f"peer{n}", one.address, AS) for n, one in enumerate(self.peers)]
        self.records.put("base", base)
        self.records.put("pools", [pool("10.244.0.0/16"), pool("fd00:10:244::/48")])
        self.routed = routed_run(self.machine, self.records, *options)

    @contextmanager
    def running(self) -> Iterator[None]:
        with self.peers[0], self.peers[1]:
            self.routed.start()
            for one in self.peers:
                one.wait_established()
                one.send_end_of_rib()
            yield
            assert "Traceback" not in self.routed.output()

    def announce(self, number: int, prefix: str, next_hop: str) -> None:
        self.peers[number].announce(prefix, next_hop=next_hop, local_pref=NORMAL)

    def host(self, number: int) -> str:
        """An address of somebody in the second network."""
        return str(ipaddress.ip_network(SECOND[self.version][0])[number])

    def ways(self, prefix: str) -> set[str]:
        """The kernel's route: gateways with their interfaces, `onlink` where it is."""
        found = self.machine.routes(self.version).get(prefix)
        if found is None or str(found.get("protocol")) != "171":
            return set()
        hops = found.get("nexthops", [found])
        return {
            f"{hop['gateway']} {hop['dev']}" + (" onlink" if "onlink" in hop["flags"] else "") for hop in hops
        }

    def wait(self, prefix: str, *ways: str) -> None:
        """Until the kernel's route is by these ways; none: there is none."""

        def there() -> bool:
            assert self.ways(prefix) == set(ways), f"{prefix}: {self.ways(prefix)}, not {set(ways)}"
            return True

        wait_for(there, f"kernel route to {prefix}", SOON)


@pytest.mark.netns
@pytest.mark.parametrize("version", [4, 6])
def test_next_hops_follow_links_addresses_and_routes(lab: Lab, version: int) -> None:
    one = Node(lab, version)
    machine, prefixes = one.machine, PREFIXES[version]
    on_first = one.peers[0].address
    elsewhere, hidden = ELSEWHERE[version]
    with one.running():
        one.announce(0, prefixes[NEAR], on_first)
        one.announce(0, prefixes[FAR], one.host(9))
        one.announce(0, prefixes[HIDDEN], hidden)
        one.announce(0, prefixes[SHARED], on_first)
        one.announce(1, prefixes[SHARED], one.host(9))
        near, far = f"{on_first} eth0", f"{one.host(9)} eth1"
        one.wait(prefixes[NEAR], near)
        one.wait(prefixes[FAR], far)
        one.wait(prefixes[SHARED], near, far)
        one.wait(prefixes[HIDDEN])
        wait_for(
            lambda: (
                one.routed.status()["kernel"]["not_installed"][f"ipv{version}"]
                == {prefixes[HIDDEN]: f"next hop {hidden}: there is no route to it"}
            ),
            "the reason in the status",
        )
        watch = machine.start("monitor", ["ip", "-o", f"-{version}", "monitor", "route"])

        # Routes of others to where the next hop is.
        machine.ip("route", "add", elsewhere, "via", on_first)
        one.wait(prefixes[HIDDEN], near)
        machine.ip("route", "replace", elsewhere, "via", one.host(7))
        one.wait(prefixes[HIDDEN], f"{one.host(7)} eth1")
        machine.ip("route", "del", elsewhere)
        one.wait(prefixes[HIDDEN])
        machine.ip(f"-{version}", "route", "add", "default", "via", one.host(7))
        one.wait(prefixes[HIDDEN], f"{one.host(7)} eth1")
        machine.ip(f"-{version}", "route", "del", "default")
        one.wait(prefixes[HIDDEN])

        # The link, then its address; what does not depend on it stays as it is.
        machine.ip("link", "set", "eth1", "down")
        one.wait(prefixes[SHARED], near)
        one.wait(prefixes[FAR])
        machine.ip("link", "set", "eth1", "up")
        one.wait(prefixes[SHARED], near, far)
        one.wait(prefixes[FAR], far)
        machine.ip("address", "del", SECOND[version][1], "dev", "eth1")
        one.wait(prefixes[SHARED], near)
        one.wait(prefixes[FAR])
        machine.ip("address", "add", SECOND[version][1], "dev", "eth1")
        one.wait(prefixes[SHARED], near, far)
        one.wait(prefixes[FAR], far)
        machine.ip("link", "set", "eth1", "down")
        machine.ip("link", "set", "eth1", "name", "eth7")
        machine.ip("link", "set", "eth7", "up")
        one.wait(prefixes[FAR], f"{one.host(9)} eth7")
        one.wait(prefixes[SHARED], near, f"{one.host(9)} eth7")
        machine.ip("link", "del", "eth7")
        one.wait(prefixes[SHARED], near)
        one.wait(prefixes[FAR])
        one.wait(prefixes[NEAR], near)
        watch.stop()
        assert prefixes[FAR] in watch.output()
        assert prefixes[NEAR] not in watch.output()


@pytest.mark.netns
@pytest.mark.parametrize("version", [4, 6])
def test_all_our_routes_are_flushed_by_somebody(lab: Lab, version: int) -> None:
    one = Node(lab, version)
    with one.running():
        gateway = one.peers[0].address
        for prefix in PREFIXES[version]:
            one.announce(0, prefix, gateway)
        for _ in range(3):
            for prefix in PREFIXES[version]:
                one.wait(prefix, f"{gateway} eth0")
            one.machine.ip(f"-{version}", "route", "flush", "proto", "171")


@pytest.mark.netns
def test_tunnels(lab: Lab) -> None:
    """IPIP by way of the device `tunl0` (here a tun device of that name: the routes are the same): Always,
    and CrossSubnet, where next hops in the node's own subnet need none."""
    one = Node(lab, 4, spec={"programClusterRoutes": "Enabled"})
    always, cross = "10.245.0.0/26", "10.246.0.0/26"
    pools = [pool("10.245.0.0/16"), pool("10.246.0.0/16")]
    for each, mode in zip(pools, ("Always", "CrossSubnet"), strict=True):
        each["spec"]["ipipMode"] = mode
    one.records.put("pools", pools)
    near, far = one.peers[0].address, one.host(9)
    with one.running():
        one.announce(0, always, near)
        one.announce(0, cross, near)
        one.announce(1, cross, far)
        one.wait(cross, f"{near} eth0")
        one.wait(always)
        one.machine.ip("tuntap", "add", "dev", "tunl0", "mode", "tun")
        one.machine.ip("link", "set", "tunl0", "up")
        one.wait(always, f"{near} tunl0 onlink")
        one.wait(cross, f"{near} eth0", f"{far} tunl0 onlink")
        # The other end has to be reachable, too.
        one.machine.ip("link", "set", "eth1", "down")
        one.wait(cross, f"{near} eth0")
        one.machine.ip("link", "set", "eth1", "up")
        one.wait(cross, f"{near} eth0", f"{far} tunl0 onlink")
        one.machine.ip("link", "del", "tunl0")
        one.wait(cross, f"{near} eth0")
        one.wait(always)


@pytest.mark.netns
@pytest.mark.parametrize("version", [4, 6])
def test_networks_of_interfaces_are_advertised_where_the_policy_accepts_them(lab: Lab, version: int) -> None:
    one = Node(lab, version)
    network, _ = SECOND[version]
    first = "192.0.2.0/24" if version == 4 else "2001:db8::/64"
    with one.running():
        one.peers[0].wait_end_of_rib()
        one.records.put("second", [pool(network)])
        one.peers[0].wait_prefixes(have=[network], lack=[first])
        one.machine.ip("link", "set", "eth1", "down")
        one.peers[0].wait_prefixes(lack=[network])
        one.machine.ip("link", "set", "eth1", "up")
        one.peers[0].wait_prefixes(have=[network])
        base = [configuration(AS, mesh=False, ignoredInterfaces=["eth1"]), node(one.machine)]
        base += [peer(f"peer{n}", each.address, AS) for n, each in enumerate(one.peers)]
        one.records.put("base", base)
        one.peers[0].wait_prefixes(lack=[network, first])


@pytest.mark.netns
@pytest.mark.daemon("bird2")
@pytest.mark.parametrize("takeover", [True, False])
def test_routes_of_a_bird_that_was_there_before(lab: Lab, takeover: bool) -> None:
    """BIRD runs the node, is killed, and routed takes its place: packets pass all the while, and no route of
    BIRD's is left; unless nobody said that they are to be taken over."""
    here, there = lab.machine("node", "192.0.2.1/24"), lab.machine("peer", "192.0.2.9/24")
    there.ip("address", "add", "203.0.113.9/32", "dev", "lo")
    learned, stale, own = "203.0.113.0/24", "198.51.100.0/24", "10.244.0.0/26"
    other = Bird2(there, Config(AS, "192.0.2.9", (Neighbor("192.0.2.1", AS),), (learned, stale)))
    before = Bird2(here, Config(AS, "192.0.2.1", (Neighbor("192.0.2.9", AS),), kernel=True))
    other.start()
    before.start()
    wait_for(lambda: {learned, stale} <= of_bird(here), "BIRD's routes in the kernel")
    before.kill()
    other.withdraw(stale)
    here.ip("route", "add", "blackhole", own, "proto", "bird")
    assert of_bird(here) == {learned, stale, own}
    probe = here.start("ping", ["ping", "-n", "-O", "-i", "0.01", "203.0.113.9"])
    records = Records(lab.directory / "records")
    records.put("base", [configuration(AS), node(here), pool("10.244.0.0/16"), *block("node", own)])
    records.put("peers", [peer("peer", "192.0.2.9", AS)])
    routed = routed_run(here, records, *(("--takeover", "bird") if takeover else ()))
    routed.start()
    if takeover:
        wait_for(lambda: not of_bird(here), "BIRD's routes are gone", timeout=60)
        routed.wait_kernel(stale, None)
    else:
        wait_for(lambda: routed.status()["converged"], "converged", timeout=60)
        assert {stale, own} <= of_bird(here)
        assert "--takeover bird" in routed.output()
    routed.wait_kernel(learned, {"192.0.2.9"})
    routed.wait_kernel(own, set())
    # IPv4: BIRD has no metric here, ours is another one, so that both are there where BIRD's stays.
    assert len(here.ip_json("route", "show", own)) == (1 if takeover else 2)
    probe.interrupt()
    sent, received = counts(probe.output())
    assert sent - received <= 1  # the last one may be under way
    assert "no answer yet" not in probe.output()


def of_bird(machine: Machine) -> set[str]:
    """Destinations of routes of protocol bird."""
    return {one["dst"] for one in machine.ip_json("route", "show", "proto", "bird")}


def counts(output: str) -> tuple[int, int]:
    """Packets transmitted and received, as ping says at its end."""
    (line,) = [line for line in output.splitlines() if "packets transmitted" in line]
    words = line.split()
    return int(words[0]), int(words[3])
