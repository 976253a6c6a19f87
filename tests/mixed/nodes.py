"""A cluster of four nodes, each of which can be run by BIRD 1.6 or by routed, on the same records."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.netns import Lab, Machine, wait_for
from tests.rendered_bird import RenderedBird
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
NODES = ("node1", "node2", "node3", "node4")
Speaker = RenderedBird | RoutedProcess


def blocks_of(name: str) -> tuple[str, str]:
    """The blocks of a node, one a family."""
    number = name[-1]
    return f"10.244.{number}.0/26", f"fd00:10:244:{number}::/122"


def pod_addresses(name: str) -> tuple[str, str]:
    """The addresses of the pod on a node."""
    number = name[-1]
    return f"10.244.{number}.1", f"fd00:10:244:{number}::1"


@dataclass
class Nodes:
    """The machines, their pods, and who runs each node."""

    machines: dict[str, Machine]
    pods: dict[str, Machine]
    records: Records
    speakers: dict[str, Speaker] = field(default_factory=dict)

    def run_bird(self, name: str) -> None:
        """BIRD on a node."""
        self._run(name, RenderedBird(self.machines[name], self.records))

    def run_routed(self, name: str, *options: str) -> None:
        """routed on a node."""
        self._run(name, routed_run(self.machines[name], self.records, *options))

    def _run(self, name: str, speaker: Speaker) -> None:
        self.speakers[name] = speaker
        speaker.start()

    def configure_birds(self) -> None:
        """Have every BIRD read its files anew: routed needs nothing of the kind."""
        for speaker in self.speakers.values():
            if isinstance(speaker, RenderedBird):
                speaker.configure()

    def wait_routes(self, timeout: float = 60.0) -> None:
        """Until each node's kernel has every other node's blocks by way of it, and its own as blackholes."""
        for name in self.speakers:
            wait_for(lambda name=name: self._complete(name), f"routes on {name}", timeout)  # type: ignore[misc]

    def _complete(self, name: str) -> bool:
        for version in (4, 6):
            seen = self.machines[name].routes(version)
            for other in self.speakers:
                prefix = blocks_of(other)[version == 6]
                route = seen.get(prefix)
                assert route is not None, f"{name} lacks {prefix}"
                if other == name:
                    assert route["type"] == "blackhole", f"{name}: {prefix} {route}"
                else:
                    gateway = self.machines[other].address(version)
                    assert route.get("gateway") == gateway, f"{name}: {prefix} {route}"
        return True

    def wait_established(self, timeout: float = 60.0) -> None:
        """Until every session of every node is up."""

        def established() -> bool:
            down = []
            for name, speaker in self.speakers.items():
                for session, state in speaker.sessions().items():
                    if state not in (True, "established"):
                        down.append(f"{name} {session}")
            assert not down, down
            return True

        wait_for(established, "all sessions established", timeout)

    def check(self) -> None:
        """No exception was logged by any routed."""
        for speaker in self.speakers.values():
            if isinstance(speaker, RoutedProcess):
                assert "Traceback" not in speaker.output(), speaker.output()[-5000:]


def make_nodes(lab: Lab) -> Nodes:
    """Machines and pods, and the records of a full mesh."""
    machines = {
        name: lab.machine(name, f"192.0.2.{number}/24", f"2001:db8::{number}/64")
        # As strings, 192.0.2.9 sorts after 192.0.2.10: both ends of a session must see it so.
        for number, name in enumerate(NODES, 8)
    }
    pods = {
        name: machine.pod(f"pod-{name}", "cali0", pod_addresses(name)) for name, machine in machines.items()
    }
    records = Records(lab.directory / "records")
    nodes = Nodes(machines, pods, records)
    records.put("cluster", cluster(machines))
    return nodes


def cluster(machines: dict[str, Machine], reflectors: tuple[str, ...] = ()) -> list[Record]:
    """The records: a full mesh, or these nodes as reflectors of the others."""
    made = [configuration(AS, mesh=not reflectors), pool("10.244.0.0/16"), pool("fd00:10:244::/48")]
    for name, machine in machines.items():
        for cidr, address in zip(blocks_of(name), pod_addresses(name), strict=True):
            made += block(name, cidr, {address: (f"pod-{name}", name)})
        if name in reflectors:
            made.append(
                node(machine, labels={"reflector": "yes"}, routeReflectorClusterID=machine.address(4))
            )
        else:
            made.append(node(machine))
    if reflectors:
        made.append(
            record("BGPPeer", "reflectors", nodeSelector="!has(reflector)", peerSelector="has(reflector)")
        )
        made.append(
            record("BGPPeer", "between", nodeSelector="has(reflector)", peerSelector="has(reflector)")
        )
    return made
