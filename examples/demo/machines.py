"""The cluster's machines as network namespaces: nodes, pods, the router outside, and the programs on them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from examples.demo.cluster import Cluster, Node, Pod
from tests.daemons import Bird2, Config, Neighbor
from tests.netns import INTERFACE, Lab, Machine, Process

#: Begins the name of every namespace of the demonstration; DEMO_NAME is for a second one beside it.
PREFIX = os.environ.get("DEMO_NAME", "routed-demo")
OUTSIDE = "outside"
REPOSITORY = Path(__file__).resolve().parent.parent.parent


class Speaker:
    """A `routed run` on a node."""

    def __init__(self, node: Node, machine: Machine, records: Path) -> None:
        self.node = node
        self.machine = machine
        self.status_file = machine.directory / "status.json"
        self.api = machine.directory / "api.sock"
        self._records = records
        self.process: Process | None = None

    def start(self, *options: str) -> None:
        """Starts it; its log is `routed.log` in the machine's folder."""
        command = [sys.executable, "-m", "routed", "run", "--node", self.node.name]
        command += ["--datastore", f"file:{self._records}", "--status-file", str(self.status_file)]
        command += ["--api", str(self.api), *options]
        # Run from the checkout, so that this routed is the one beside these examples.
        self.process = self.machine.start("routed", command, cwd=REPOSITORY)

    def status(self) -> dict[str, Any]:
        """Its status document; empty until it wrote the first. RuntimeError where it ended."""
        if self.process is not None:
            self.process.check()
        try:
            document: dict[str, Any] = json.loads(self.status_file.read_text())
        except FileNotFoundError:
            return {}
        return document

    def sessions(self) -> list[dict[str, Any]]:
        """The sessions of its status document."""
        sessions: list[dict[str, Any]] = self.status().get("sessions", [])
        return sessions

    def established(self) -> int:
        """How many of its sessions are Established."""
        return sum(session["state"] == "established" for session in self.sessions())


class Machines:
    """All of it. `build` makes the namespaces; `start_speakers` starts routed on each node."""

    def __init__(self, lab: Lab, cluster: Cluster, records: Path) -> None:
        self.lab = lab
        self.cluster = cluster
        self.speakers: dict[str, Speaker] = {}
        self.pods: dict[str, Machine] = {}
        self._records = records
        self.router: Bird2 | None = None

    def build(self) -> None:
        """Namespaces for nodes and pods, and the router outside with its BIRD."""
        for node in self.cluster.nodes:
            machine = self.lab.machine(node.name, *node.addresses)
            self.speakers[node.name] = Speaker(node, machine, self._records)
        for number, pod in enumerate(self.cluster.pods, start=1):
            host = self.speakers[pod.node].machine
            self.pods[pod.name] = host.pod(f"pod-{pod.name}", f"cali{number:04x}", pod.addresses)
        self.router = self._router()
        self.router.start()

    def _router(self) -> Bird2:
        outside = self.cluster.outside
        lengths = {4: "/24", 6: "/64"}
        addresses = [f"{address}{lengths[6 if ':' in address else 4]}" for address in outside.addresses]
        machine = self.lab.machine(OUTSIDE, *addresses)
        machine.ip_batch(f"addr add {address} dev lo" for address in outside.targets)
        versions = [ip_network(prefix).version for prefix in outside.announces]
        neighbors = tuple(
            Neighbor(address, self.cluster.asn)
            for node in self.cluster.nodes
            for version in versions
            if (address := node.address(version)) is not None
        )
        return Bird2(
            machine, Config(outside.asn, outside.addresses[0], neighbors, outside.announces, kernel=True)
        )

    def start_speakers(self) -> None:
        """Starts routed on every node."""
        for speaker in self.speakers.values():
            speaker.start()

    def missing_routes(self) -> dict[str, list[str]]:
        """Destinations that a node's kernel lacks, or has otherwise than expected, by node."""
        missing: dict[str, list[str]] = {}
        same = self.link_locals()
        for name, speaker in self.speakers.items():
            have = {**speaker.machine.routes(4), **speaker.machine.routes(6)}
            for destination, gateway in self.cluster.expected_routes(name).items():
                route = have.get(destination)
                if route is None or not is_as_expected(route, gateway, same):
                    missing.setdefault(name, []).append(destination)
        return missing

    def link_locals(self) -> dict[str, str]:
        """The IPv6 address of the cluster's network by link-local address: a kernel route may go by way of
        the second, where the router that announced it gave both (RFC 2545)."""
        machines = [speaker.machine for speaker in self.speakers.values()]
        if self.router is not None:
            machines.append(self.router.machine)
        result: dict[str, str] = {}
        for machine in machines:
            for link in machine.ip_json("-6", "address", "show", "dev", INTERFACE):
                found = {entry["scope"]: entry["local"] for entry in link["addr_info"]}
                if "link" in found and "global" in found:
                    result[found["link"]] = found["global"]
        return result

    def missing_outside(self) -> set[str]:
        """Prefixes that the router outside lacks."""
        if self.router is None:
            return set()
        seen = {**self.router.routes(4), **self.router.routes(6)}
        return self.cluster.expected_outside() - set(seen)

    def host_of(self, pod: Pod) -> Machine:
        """The machine that a pod runs on."""
        return self.speakers[pod.node].machine


def is_as_expected(route: dict[str, Any], gateway: str | None, same: Mapping[str, str]) -> bool:
    """True where a kernel route is a blackhole (no gateway) or goes by way of that gateway, among others.
    `same`
    has the address that stands for a link-local one."""
    if gateway is None:
        return bool(route["type"] == "blackhole")
    hops = [str(hop.get("gateway")) for hop in (route, *route.get("nexthops", []))]
    return gateway in (same.get(hop, hop) for hop in hops)
