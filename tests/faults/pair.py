"""Two nodes of a cluster with a pod each, and a peer that watches the first."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.probe import Probe
from tests.netns import Lab, Machine, Process, wait_for
from tests.raw_peer import GRACEFUL_RESTART, Options, RawPeer, decode_update, with_capabilities
from tests.recorder import Kind
from tests.routed_process import Records, RoutedProcess, block, configuration, node, peer, pool, routed_run

AS = 64512
WATCHER = "192.0.2.3"
PODS = {"worker01": ("10.244.1.1", "fd00:10:244:1::1"), "worker02": ("10.244.2.1", "fd00:10:244:2::1")}
BLOCKS = {
    "worker01": ("10.244.1.0/26", "fd00:10:244:1::/122"),
    "worker02": ("10.244.2.0/26", "fd00:10:244:2::/122"),
}
OTHER = {"worker01": "worker02", "worker02": "worker01"}
#: Restart time of 120 s, forwarding state kept for IPv4 (RFC 4724 section 3).
KEEPS_ROUTES = (GRACEFUL_RESTART, bytes((0, 120, 0, 1, 1, 0x80)))


@dataclass
class Pair:
    """Two nodes that run routed, their pods, and the folder of records that both follow."""

    machines: dict[str, Machine]
    pods: dict[str, Machine]
    speakers: dict[str, RoutedProcess]
    records: Records
    watcher: RawPeer

    def start(self) -> None:
        """Both nodes; returns when the routes are everywhere."""
        for speaker in self.speakers.values():
            speaker.start()
        self.wait_routes()
        self.watcher.wait_established()
        self.watcher.wait_prefixes(have=[BLOCKS["worker01"][0]])

    def wait_routes(self) -> None:
        """Until each node's kernel has the other's blocks by way of it, and its own as blackholes."""
        for one, other in OTHER.items():
            gateway = self.machines[other]
            speaker = self.speakers[one]
            for version, theirs, own in zip((4, 6), BLOCKS[other], BLOCKS[one], strict=True):
                speaker.wait_kernel(theirs, {gateway.address(version)})
                speaker.wait_kernel(own, set())

    def wait_established(self) -> None:
        """Until every session of both nodes is up."""
        for speaker in self.speakers.values():
            speaker.wait_established(*speaker.sessions())

    def wait_converged(self, name: str) -> None:
        """Until a node has heard all its peers after a start, and removed what is stale."""
        speaker = self.speakers[name]
        wait_for(lambda: speaker.status()["converged"], f"{name}: converged", timeout=60)

    def probes(self) -> list[Probe]:
        """In both directions and both families."""
        return [Probe(self.pods[one], address) for one, other in OTHER.items() for address in PODS[other]]

    def check(self) -> None:
        """No exception was logged anywhere."""
        for speaker in self.speakers.values():
            assert "Traceback" not in speaker.output(), speaker.output()[-5000:]


def make_pair(lab: Lab, watcher: Options | None = None) -> Pair:
    """Machines, pods, records and speakers, not started; the watcher listens already."""
    machines = {
        name: lab.machine(name, f"192.0.2.1{number}/24", f"2001:db8::1{number}/64")
        for number, name in enumerate(PODS, 1)
    }
    records = Records(lab.directory / "records")
    base = [configuration(AS, mesh=True), pool("10.244.0.0/16"), pool("fd00:10:244::/48")]
    for name, machine in machines.items():
        base.append(node(machine))
        for cidr, address in zip(BLOCKS[name], PODS[name], strict=True):
            base += block(name, cidr, {address: (f"pod-{name}", name)})
    options = watcher or with_capabilities(Options(AS, WATCHER, end_of_rib=True), KEEPS_ROUTES)
    base.append(peer("watcher", WATCHER, options.asn, node="worker01"))
    records.put("cluster", base)
    pods = {
        name: machine.pod(f"pod-{name}", f"cali{number}", PODS[name])
        for number, (name, machine) in enumerate(machines.items())
    }
    there = lab.machine("watcher", f"{WATCHER}/24")
    speakers = {name: routed_run(machine, records) for name, machine in machines.items()}
    made = RawPeer(there, options).start()
    lab.cleanup.callback(made.close)
    return Pair(machines, pods, speakers, records, made)


class RouteMonitor:
    """`ip monitor route` on a machine: what changed in its kernel."""

    def __init__(self, machine: Machine) -> None:
        self._process: Process = machine.start("ip-monitor", ["ip", "-ts", "monitor", "route"])
        self._machine = machine
        # Nothing tells that it listens but what it prints: a route that comes and goes.
        wait_for(self._listens, "ip monitor listens")

    def _listens(self) -> bool:
        for word in ("add", "del"):
            self._machine.ip("route", word, "blackhole", "192.0.2.254/32")
        return "Deleted blackhole 192.0.2.254" in self._process.output()

    def deleted(self) -> list[str]:
        """Lines of routes that went, but for the first one."""
        lines = self._process.output().splitlines()
        return [line for line in lines if "Deleted" in line and "192.0.2.254" not in line]


def withdrawals(peer: RawPeer) -> list[str]:
    """All prefixes that a peer was ever told to forget, over all its sessions."""
    return [route.prefix for body in peer.received(Kind.UPDATE) for route in decode_update(body).withdrawn]
