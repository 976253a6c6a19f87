"""From BIRD on every node to routed on every node, and back, with packets between pods all the time: the
figures of docs/replacing-bird.md."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.pair import RouteMonitor
from tests.faults.probe import Count, Probe, wait_all
from tests.mixed.nodes import NODES, Nodes, make_nodes, pod_addresses
from tests.netns import Lab, wait_for
from tests.rendered_bird import BIRD_PROTOCOL, RenderedBird
from tests.routed_process import RoutedProcess

ROUTED_PROTOCOL = 171
TO_BIRD = Path(__file__).resolve().parents[2] / "examples" / "replacing-bird" / "give-routes-to-bird"
on_demand = pytest.mark.skipif(
    not os.environ.get("ROUTED_LONG_TESTS"), reason="takes longer: set ROUTED_LONG_TESTS=1"
)


def start_probes(nodes: Nodes) -> list[Probe]:
    """From each pod to the one on the next node, in both families: every node is crossed both ways."""
    return [
        Probe(nodes.pods[name], address)
        for name, target in zip(NODES, (*NODES[1:], NODES[0]), strict=True)
        for address in pod_addresses(target)
    ]


def end_probes(probes: list[Probe], report: Report) -> list[Count]:
    """What each of them amounts to, reported."""
    counts = [probe.count() for probe in probes]
    for probe, count in zip(probes, counts, strict=True):
        report(f"{probe.name}: {count}")
    return counts


def routes_of(nodes: Nodes, name: str, protocol: int) -> list[str]:
    """Destinations of a node's kernel routes of one protocol."""
    return [
        str(route["dst"])
        for version in (4, 6)
        for route in nodes.machines[name].ip_json(f"-{version}", "-N", "route", "show")
        if str(route.get("protocol")) == str(protocol)
    ]


def replace(nodes: Nodes, name: str) -> None:
    """One node: its BIRD is killed, routed takes over."""
    nodes.speakers[name].kill()
    nodes.run_routed(name, "--takeover", "bird")
    nodes.wait_established()
    nodes.wait_routes()
    routed = nodes.speakers[name]
    assert isinstance(routed, RoutedProcess)
    wait_for(lambda: routed.status()["converged"], f"{name}: converged")
    wait_for(lambda: not routes_of(nodes, name, BIRD_PROTOCOL), f"{name}: no routes of BIRD are left")


@pytest.mark.netns
@pytest.mark.daemon("bird1")
def test_replace_bird_node_by_node(lab: Lab, report: Report) -> None:
    nodes = make_nodes(lab)
    for name in NODES:
        nodes.run_bird(name)
    nodes.wait_routes()
    nodes.wait_established()
    before = {name: sorted(routes_of(nodes, name, BIRD_PROTOCOL)) for name in NODES}
    assert all(before.values())
    monitors = [RouteMonitor(machine) for machine in nodes.machines.values()]
    probes = start_probes(nodes)
    for name in NODES:
        replace(nodes, name)
        wait_all(probes)
    counts = end_probes(probes, report)
    assert [count.lost for count in counts] == [0] * len(counts)
    assert {name: sorted(routes_of(nodes, name, ROUTED_PROTOCOL)) for name in NODES} == before
    gone = [line for monitor in monitors for line in monitor.deleted() if " proto 171 " in line]
    assert gone == [], "no route of routed's went again"
    nodes.check()


@pytest.mark.netns
@pytest.mark.daemon("bird1")
def test_a_node_goes_back_to_bird(lab: Lab, report: Report) -> None:
    """routed stops, its routes are made BIRD's, BIRD starts."""
    nodes = make_nodes(lab)
    for name in NODES:
        nodes.run_routed(name)
    nodes.wait_routes()
    nodes.wait_established()
    victim = nodes.machines["node2"]
    # A route with two next hops, to see that the script copes.
    several = ["nexthop", "via", "192.0.2.8", "dev", "eth0", "nexthop", "via", "192.0.2.10", "dev", "eth0"]
    probes = start_probes(nodes)
    nodes.speakers["node2"].stop()
    victim.ip("route", "add", "203.0.113.0/24", "proto", "171", *several)
    victim.run(str(TO_BIRD))
    assert routes_of(nodes, "node2", ROUTED_PROTOCOL) == []
    assert "203.0.113.0/24" in routes_of(nodes, "node2", BIRD_PROTOCOL)
    nodes.run_bird("node2")
    nodes.wait_established()
    # What nobody announces goes: BIRD has taken the others for its own.
    wait_for(lambda: "203.0.113.0/24" not in routes_of(nodes, "node2", BIRD_PROTOCOL), "BIRD's first scan")
    nodes.wait_routes()
    wait_all(probes)
    counts = end_probes(probes, report)
    assert [count.lost for count in counts] == [0] * len(counts)
    nodes.check()


@on_demand
@pytest.mark.netns
@pytest.mark.daemon("bird1")
def test_what_a_bird_that_says_goodbye_costs(lab: Lab, report: Report) -> None:
    """SIGTERM makes BIRD send a NOTIFICATION, and its peers drop its routes: why it should be killed."""
    nodes = make_nodes(lab)
    for name in NODES:
        nodes.run_bird(name)
    nodes.wait_routes()
    nodes.wait_established()
    probes = start_probes(nodes)
    nodes.speakers["node2"].stop()
    nodes.run_routed("node2", "--takeover", "bird")
    nodes.wait_established()
    nodes.wait_routes()
    wait_all(probes)
    counts = end_probes(probes, report)
    assert sum(count.lost for count in counts), "then there is no need to kill it"
    nodes.check()


@on_demand
@pytest.mark.netns
@pytest.mark.daemon("bird1")
def test_what_a_flush_on_the_way_back_costs(lab: Lab, report: Report) -> None:
    """BIRD is started beside the routes that routed left, and these are flushed when its sessions are up."""
    nodes = make_nodes(lab)
    for name in NODES:
        nodes.run_routed(name)
    nodes.wait_routes()
    nodes.wait_established()
    probes = start_probes(nodes)
    nodes.speakers["node2"].stop()
    nodes.run_bird("node2")
    nodes.wait_established()
    bird = nodes.speakers["node2"]
    assert isinstance(bird, RenderedBird)
    refused = "Netlink: File exists"
    wait_for(lambda: refused in bird.processes["bird"].output(), "BIRD finds routed's routes in its way")
    for version in (4, 6):
        nodes.machines["node2"].ip(f"-{version}", "route", "flush", "proto", str(ROUTED_PROTOCOL))
    nodes.wait_routes()
    wait_all(probes)
    end_probes(probes, report)
    nodes.check()
