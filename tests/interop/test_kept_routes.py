"""Crashes and restarts of routed on a node, with packets on their way between pods the whole time: none is
lost."""

from __future__ import annotations

import re

import pytest

from tests.netns import Lab, Machine, Process, wait_for
from tests.routed_process import (
    Record,
    Records,
    RoutedProcess,
    block,
    configuration,
    node,
    pool,
    record,
    routed_run,
)

AS = 64512
#: Seconds between two packets of a probe.
INTERVAL = 0.01
PODS = {"worker01": ("10.244.1.1", "fd00:10:244:1::1"), "worker02": ("10.244.2.1", "fd00:10:244:2::1")}


def blocks_of(owner: str) -> list[Record]:
    """The node's blocks of both families, with its pod in them."""
    number = owner[-1]
    ipv4, ipv6 = PODS[owner]
    pod = (f"pod-{owner}", owner)
    return block(owner, f"10.244.{number}.0/26", {ipv4: pod}) + block(
        owner, f"fd00:10:244:{number}::/122", {ipv6: pod}
    )


class Probe:
    """A ping that goes on until it is asked for its count."""

    def __init__(self, pod: Machine, address: str) -> None:
        self.process: Process = pod.start(
            f"ping-{address}", ["ping", "-n", "-O", "-D", "-i", str(INTERVAL), address]
        )
        self.address = address
        wait_for(lambda: "bytes from" in self.process.output(), f"first answer of {address}")

    def answers(self) -> int:
        """Packets answered so far."""
        return self.process.output().count("bytes from")

    def lost(self) -> int:
        """Ends it; returns how many packets had no answer."""
        self.process.interrupt()
        output = self.process.output()
        summary = re.search(r"(\d+) packets transmitted, (\d+) received", output)
        assert summary, output[-500:]
        # The last packet may be under way when ping is interrupted.
        assert output.count("no answer yet") == 0, output[-2000:]
        return max(0, int(summary[1]) - int(summary[2]) - 1)


@pytest.mark.netns
@pytest.mark.parametrize("reflector", [False, True], ids=["mesh", "reflector"])
def test_no_probe_is_lost_when_routed_dies(lab: Lab, reflector: bool) -> None:
    """SIGKILL, then SIGTERM, on the node that the packets come from, and on the one that they
    go to."""
    names = ["worker01", "worker02", *(["control01"] if reflector else [])]
    machines = {
        name: lab.machine(name, f"192.0.2.{number}/24", f"2001:db8::{number}/64")
        for number, name in enumerate(names, start=11)
    }
    records = Records(lab.directory / "records")
    base = [configuration(AS, mesh=not reflector), pool("10.244.0.0/16"), pool("fd00:10:244::/48")]
    base += [
        node(machines["worker01"]),
        node(machines["worker02"]),
        *blocks_of("worker01"),
        *blocks_of("worker02"),
    ]
    if reflector:
        base.append(
            node(machines["control01"], labels={"reflector": "true"}, routeReflectorClusterID="192.0.2.13")
        )
        base.append(
            record("BGPPeer", "reflectors", nodeSelector="!has(reflector)", peerSelector="has(reflector)")
        )
    records.put("cluster", base)
    pods = {
        owner: machines[owner].pod(f"pod-{owner}", f"cali{index}", addresses)
        for index, (owner, addresses) in enumerate(PODS.items())
    }
    speakers: dict[str, RoutedProcess] = {
        name: routed_run(machine, records) for name, machine in machines.items()
    }
    for speaker in speakers.values():
        speaker.start()
    wait_for_routes(speakers)
    probes = [Probe(pods["worker01"], address) for address in PODS["worker02"]]
    for victim in ("worker01", "worker02"):
        speaker = speakers[victim]
        for end in (speaker.kill, speaker.stop):
            end()
            # Packets pass while nobody is there to mind the routes.
            wait_for_answers(probes, 20)
            speaker.start()
            wait_for_routes(speakers)
            wait_for_converged(speaker)
            wait_for_answers(probes, 20)
    assert {probe.address: probe.lost() for probe in probes} == dict.fromkeys(PODS["worker02"], 0)
    for speaker in speakers.values():
        assert "Traceback" not in speaker.output()


def wait_for_routes(speakers: dict[str, RoutedProcess]) -> None:
    """Until all sessions are established and each worker's kernel has the other's blocks."""
    for speaker in speakers.values():
        speaker.wait_established(*speaker.sessions())
    for one, other in (("worker01", "worker02"), ("worker02", "worker01")):
        machine = speakers[other].machine
        number = other[-1]
        speakers[one].wait_kernel(f"10.244.{number}.0/26", {machine.address(4)})
        speakers[one].wait_kernel(f"fd00:10:244:{number}::/122", {machine.address(6)})
        speakers[one].wait_kernel(f"10.244.{one[-1]}.0/26", set())


def wait_for_converged(speaker: RoutedProcess) -> None:
    """Until it has reconciled its kernel routes with what it learned."""
    wait_for(lambda: speaker.status()["converged"], f"{speaker.machine.name}: converged", timeout=60)


def wait_for_answers(probes: list[Probe], count: int) -> None:
    """Until each probe has had so many more answers."""
    wanted = {probe: probe.answers() + count for probe in probes}
    wait_for(lambda: all(probe.answers() >= wanted[probe] for probe in probes), "more answers", timeout=60)
