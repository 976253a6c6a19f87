"""Links that go down, peers that fall silent, and third parties that touch our routes: what is lost is
counted, and bounded."""

from __future__ import annotations

import time

import pytest

from tests.faults.conftest import Report
from tests.faults.pair import BLOCKS, PODS, make_pair
from tests.faults.probe import Probe, wait_all
from tests.netns import INTERFACE, Lab, Machine, wait_for
from tests.raw_peer import Options, RawPeer
from tests.routed_process import Records, configuration, node, peer, pool, routed_run

#: How long a link is down, seconds.
OUTAGE = 1.0
#: What an outage may cost on top of itself: no timer of ours is in it, only the kernel's neighbour discovery.
AFTER_LINK = 5.0


def bridge_port(lab: Lab, machine: Machine) -> tuple[Machine, str]:
    """The laboratory's bridge, and the name of the port that a machine's eth0 is plugged into."""
    bridge = lab.machines["bridge"]
    (link,) = machine.ip_json("link", "show", "dev", INTERFACE)
    peer_index = link["link_index"]
    (port,) = [one["ifname"] for one in bridge.ip_json("link", "show") if one["ifindex"] == peer_index]
    return bridge, port


@pytest.mark.netns
@pytest.mark.parametrize("kind", ["carrier", "administrative"])
def test_link_down_and_up(lab: Lab, report: Report, kind: str) -> None:
    """The cable of worker02 is pulled and plugged in; or its interface is shut, which makes the kernel forget
    every route through it."""
    pair = make_pair(lab)
    victim = pair.machines["worker02"]
    # The kernel's default is to forget IPv6 addresses too; only an operator could bring those back.
    victim.sysctl({"ipv6/conf/all/keep_addr_on_down": "1", f"ipv6/conf/{INTERFACE}/keep_addr_on_down": "1"})
    bridge, port = bridge_port(lab, victim)
    machine, interface = (bridge, port) if kind == "carrier" else (victim, INTERFACE)
    pair.start()
    probes = pair.probes()
    machine.ip("link", "set", interface, "down")
    # What passes by is the fault itself, not a condition.
    time.sleep(OUTAGE)
    machine.ip("link", "set", interface, "up")
    wait_all(probes)
    pair.wait_routes()
    pair.wait_established()
    wait_all(probes)
    counts = {probe.name: probe.count() for probe in probes}
    for name, count in counts.items():
        report(f"{name}: {count}, of which {OUTAGE * 1000:.0f} ms without a link")
    assert max(count.gap for count in counts.values()) < OUTAGE + AFTER_LINK
    pair.check()


@pytest.mark.netns
def test_third_party_changes_routes(lab: Lab, report: Report) -> None:
    """Somebody deletes our routes, and replaces one by a way into the void: they are back at once."""
    pair = make_pair(lab)
    pair.start()
    machine = pair.machines["worker01"]
    probes = [Probe(pair.pods["worker01"], address) for address in PODS["worker02"]]
    pair.wait_converged("worker01")
    learned, own = BLOCKS["worker02"], BLOCKS["worker01"]
    for cidr in (*learned, *own):
        machine.ip("route", "del", cidr, "metric", "1024", "proto", "171")
        pair.wait_routes()
    wait_all(probes)
    for version, cidr in zip((4, 6), learned, strict=True):
        void = "192.0.2.200" if version == 4 else "2001:db8::200"
        machine.ip(f"-{version}", "route", "replace", cidr, "via", void, "metric", "1024", "proto", "171")
        pair.wait_routes()
    wait_all(probes)
    counts = {probe.name: probe.count() for probe in probes}
    for name, count in counts.items():
        report(f"{name}: {count}, with two deletions or replacements")
        assert count.gap < AFTER_LINK
    pair.check()


ROUTERS = {"near": ("192.0.2.21", 65001), "spare": ("192.0.2.22", 65002)}
TARGET = "203.0.113.7"
HOLD_TIME = 3


@pytest.mark.netns
def test_half_open_peer(lab: Lab, report: Report) -> None:
    """The better of two routers falls silent: its link looks well, nothing arrives. After its hold time of
    3 s the other one carries the packets; when it speaks again, it has its routes again."""
    here = lab.machine("node", "192.0.2.11/24")
    records = Records(lab.directory / "records")
    peers = [peer(name, address, asn) for name, (address, asn) in ROUTERS.items()]
    records.put("all", [configuration(), node(here), pool("10.244.0.0/16"), *peers])
    pod = here.pod("pod", "cali0", ["10.244.0.1/32"])
    routed = routed_run(here, records)
    speakers: dict[str, RawPeer] = {}
    for name, (address, asn) in ROUTERS.items():
        machine = lab.machine(name, f"{address}/24")
        machine.ip("addr", "add", f"{TARGET}/32", "dev", "lo")
        machine.ip("route", "add", "10.244.0.0/16", "via", "192.0.2.11")
        speakers[name] = RawPeer(machine, Options(asn, address, hold_time=HOLD_TIME)).start()
        lab.cleanup.callback(speakers[name].close)
    routed.start()
    announce(speakers["spare"], 65002, 65100)
    announce(speakers["near"], 65001)
    near, spare = (address for address, _ in ROUTERS.values())
    routed.wait_kernel("203.0.113.0/24", {near})

    probe = Probe(pod, TARGET)
    bridge, port = bridge_port(lab, speakers["near"].machine)
    # Disabled, as spanning tree does it: frames are dropped, and the carrier stays.
    bridge.run("bridge", "link", "set", "dev", port, "state", "0")
    routed.wait_kernel("203.0.113.0/24", {spare})
    probe.wait_answers()
    bridge.run("bridge", "link", "set", "dev", port, "state", "3")
    wait_for(lambda: speakers["near"].sessions == 2, "a new session", timeout=60)
    announce(speakers["near"], 65001)
    routed.wait_kernel("203.0.113.0/24", {near})
    probe.wait_answers()
    count = probe.count()
    report(f"{count}, with a hold time of {HOLD_TIME} s")
    assert count.gap < 2 * HOLD_TIME
    assert "Traceback" not in routed.output()


def announce(speaker: RawPeer, *as_path: int) -> None:
    """The one prefix, over a session that is up."""
    speaker.wait_established(60)
    speaker.announce("203.0.113.0/24", as_path=as_path)
    speaker.send_end_of_rib()
