"""Crashes and upgrades of routed while packets pass: none is lost, and no peer sees a route go."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Report
from tests.faults.pair import BLOCKS, Pair, RouteMonitor, make_pair, withdrawals
from tests.faults.probe import Probe, wait_all
from tests.netns import Lab


@pytest.mark.netns
def test_killed_three_times_in_a_row(lab: Lab, report: Report) -> None:
    """The second and the third time while it is still waiting for its peers after the one before."""
    pair = make_pair(lab)
    pair.start()
    monitors = [RouteMonitor(machine) for machine in pair.machines.values()]
    probes = pair.probes()
    victim = pair.speakers["worker01"]
    for _ in range(3):
        victim.kill()
        wait_all(probes)
        victim.start()
    pair.wait_established()
    pair.wait_routes()
    pair.wait_converged("worker01")
    wait_all(probes)
    finish(pair, monitors, probes, report)


@pytest.mark.netns
def test_upgraded(lab: Lab, report: Report) -> None:
    """SIGTERM, and a new process: first on one node, then on the other."""
    pair = make_pair(lab)
    pair.start()
    monitors = [RouteMonitor(machine) for machine in pair.machines.values()]
    probes = pair.probes()
    for speaker in pair.speakers.values():
        speaker.stop()
        wait_all(probes)
        speaker.start()
        pair.wait_established()
        pair.wait_routes()
        pair.wait_converged(speaker.machine.name)
        wait_all(probes)
    finish(pair, monitors, probes, report)


def finish(pair: Pair, monitors: list[RouteMonitor], probes: list[Probe], report: Report) -> None:
    """Nothing was lost, no kernel saw a route go, and the watcher was never told to forget one."""
    counts = {probe.name: probe.count() for probe in probes}
    for name, count in counts.items():
        report(f"{name}: {count}")
    assert {name: count.lost for name, count in counts.items()} == dict.fromkeys(counts, 0)
    assert [line for monitor in monitors for line in monitor.deleted()] == []
    assert withdrawals(pair.watcher) == []
    assert BLOCKS["worker01"][0] in pair.watcher.prefixes()
    pair.check()
