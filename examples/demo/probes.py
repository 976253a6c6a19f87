"""Packets that show the routes work: pings from every pod to every other pod and to the router outside."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address

from examples.demo.cluster import Cluster
from tests.netns import Machine

#: Packets of one probe, and how long to wait for a lost one, in seconds.
COUNT = 3
WAIT = 2
_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) received")


@dataclass(frozen=True, slots=True)
class Probe:
    """Pings of one family from a pod to one address."""

    source: str
    target: str
    address: str

    @property
    def version(self) -> int:
        """IP version."""
        return ip_address(self.address).version


def plan(cluster: Cluster) -> list[Probe]:
    """From each pod to each other one and to the outside, in every family that both have."""
    targets = [(pod.name, address) for pod in cluster.pods for address in pod.addresses]
    targets += [("outside", address) for address in cluster.outside.targets]
    return [
        Probe(source.name, name, address)
        for source in cluster.pods
        for name, address in targets
        if name != source.name
        and ip_address(address).version in {ip_address(own).version for own in source.addresses}
    ]


def send(probes: Iterable[Probe], pods: dict[str, Machine]) -> dict[Probe, int]:
    """Sends all probes at once; returns how many of its COUNT packets each one got answered."""
    probes = list(probes)
    with ThreadPoolExecutor(max_workers=16) as executor:
        answered = executor.map(lambda probe: _ping(pods[probe.source], probe.address), probes)
        return dict(zip(probes, answered, strict=True))


class Stream:
    """Packets from a pod to one address, one every INTERVAL, until it is ended."""

    INTERVAL = 0.005

    def __init__(self, pod: Machine, probe: Probe) -> None:
        self.probe = probe
        options = ["-n", "-q", "-i", str(self.INTERVAL), "-W", str(WAIT)]
        self._process = pod.start(f"stream-{probe.address}", ["ping", *options, probe.address])

    def end(self) -> tuple[int, int]:
        """How many packets were sent, and how many answered. The last may be on its way still: it is not
        counted where it has no answer."""
        self._process.interrupt()
        summary = _SUMMARY.search(self._process.output())
        sent, answered = (int(summary[1]), int(summary[2])) if summary else (1, 0)
        return (sent - 1 if sent == answered + 1 > 1 else sent), answered


def _ping(pod: Machine, address: str) -> int:
    options = ["-n", "-q", "-c", str(COUNT), "-i", "0.05", "-W", str(WAIT)]
    try:
        output = pod.run("ping", *options, address, check=False, timeout=COUNT + WAIT + 5)
    except subprocess.TimeoutExpired:
        return 0
    summary = _SUMMARY.search(output)
    return int(summary[2]) if summary else 0
