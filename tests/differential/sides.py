"""The two sides of the comparison: one node with its neighbours in a laboratory of its own, run by BIRD or by
routed."""

from __future__ import annotations

import abc
import contextlib
import time
from collections.abc import Iterable
from typing import Any, ClassVar

from tests.daemons import parse_bird_routes
from tests.differential.cluster import ADDRESSES, LENGTHS, NODE, Change, Cluster, Peer
from tests.differential.outcome import Outcome, kernel_outcome, peer_outcome
from tests.netns import Lab, Machine, wait_for
from tests.raw_peer import FOUR_OCTET_AS, Options, RawPeer, message, multiprotocol
from tests.recorder import Kind
from tests.rendered_bird import BIRD_PROTOCOL, TUNNEL_REALM, RenderedBird
from tests.routed_process import Record, Records, RoutedProcess, routed_run

ROUTED_PROTOCOL = 171
#: Nothing may change for so long before all is taken to be quiet, seconds. BIRD scans the kernel every
#: 2 s, but follows its events as well.
QUIET = 0.6


class Side(abc.ABC):
    """A node run by one of the two, with everything around it."""

    name: ClassVar[str]
    protocol: ClassVar[int]

    def __init__(self, cluster: Cluster, lab: Lab) -> None:
        self.cluster = cluster
        self.lab = lab
        self.records = Records(lab.directory / "records")
        self.peers: dict[str, RawPeer] = {}
        self._specs = {peer.name: peer for peer in cluster.peers}
        self._ended: set[str] = set()
        self._stack = contextlib.ExitStack()
        self.node: Machine
        self.others: Machine

    def __enter__(self) -> Side:
        self._build()
        return self

    def __exit__(self, *_: object) -> None:
        # The daemon first: peers that hang up would make it talk.
        for process in self.node.processes:
            process.stop()
        self._stack.close()

    def start(self) -> None:
        """Daemon and peers; returns when every session is up and every peer has said its routes."""
        self._write_records(self.cluster.records)
        for spec in self.cluster.peers:
            peer = self._stack.enter_context(RawPeer(self.others, _options(spec, self.others)))
            self.peers[spec.name] = peer
        self._start_daemon()
        for spec in self.cluster.peers:
            self.peers[spec.name].wait_established()
            self._say(spec.name, spec.says)
            self.peers[spec.name].send_end_of_rib()
        for peer in self.peers.values():
            peer.wait_end_of_rib()

    def change(self, change: Change) -> None:
        """Make a change happen."""
        for name in change.ends:
            self._ended.add(name)
            self.peers[name].stay_away()
        for name, said in change.says.items():
            self._say(name, said)
        if change.kernel:
            self.node.ip_batch(change.kernel)
        if change.records is not None:
            self._write_records(change.records)
            self._reconfigure()

    def settled(self, quiet: float = QUIET, timeout: float = 60.0) -> Outcome:
        """The outcome once it has not changed for `quiet` seconds."""
        deadline = time.monotonic() + timeout
        seen = self.outcome()
        since = time.monotonic()
        while time.monotonic() < deadline:
            time.sleep(0.1)
            now = self.outcome()
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since >= quiet:
                break
        return seen

    def outcome(self) -> Outcome:
        """What there is to see now."""
        outcome: Outcome = {}
        for name, peer in self.peers.items():
            outcome.update(peer_outcome(name, peer))
        for version in (4, 6):
            routes = self.node.ip_json("-d", "-N", f"-{version}", "route", "show")
            outcome.update(kernel_outcome(routes, self.protocol, self._tunnelled(routes)))
        return outcome

    def _tunnelled(self, routes: list[dict[str, Any]]) -> dict[str, str]:
        """Next hop by prefix of the kernel routes that stand for ones through the IPIP device."""
        return {}

    def log(self) -> str:
        """What the daemons wrote."""
        return "\n".join(f"--- {process.name}\n{process.output()}" for process in self.node.processes)

    # Pieces

    def _build(self) -> None:
        self.node = self.lab.machine(NODE, *_with_length(NODE))
        hosts = sorted({peer.host for peer in self.cluster.peers} | {"router"})
        near = [host for host in hosts if not host.startswith("far")]
        self.others = self.lab.machine("others", *(one for host in near for one in _with_length(host)))
        # The other subnets are behind the router.
        far = [host for host in hosts if host.startswith("far")]
        lines = [f"addr add {ADDRESSES[4][host]}/32 dev lo" for host in far]
        lines += [f"addr add {ADDRESSES[6][host]}/128 dev lo" for host in far]
        self.others.ip_batch(lines)
        self.node.ip_batch(
            [
                f"route add 198.51.100.0/24 via {ADDRESSES[4]['router']} protocol static",
                f"route add 2001:db8:1::/64 via {ADDRESSES[6]['router']} protocol static metric 1024",
                # Stands for the IPIP device, which not every kernel has.
                "link add tunl0 type veth peer name tunl0p",
                "link set tunl0p up",
                "link set tunl0 up",
                *self.cluster.kernel,
            ]
        )

    def _say(self, name: str, said: Iterable[object]) -> None:
        address = self._specs[name].address
        for one in said:
            self.peers[name].send(message(Kind.UPDATE, one.body(address)))  # type: ignore[attr-defined]

    def _write_records(self, records: Iterable[Record]) -> None:
        self.records.put("cluster", records)

    @abc.abstractmethod
    def _start_daemon(self) -> None: ...

    @abc.abstractmethod
    def _reconfigure(self) -> None: ...


class RoutedSide(Side):
    """`routed run`."""

    name = "routed"
    protocol = ROUTED_PROTOCOL

    def _start_daemon(self) -> None:
        command = routed_run(self.node, self.records)
        self.routed: RoutedProcess = command
        for name, value in self.cluster.environment.items():
            command.command = ["env", f"{name}={value}", *command.command]
        command.start()

    def _reconfigure(self) -> None:
        """Nothing: it follows its records."""


class BirdSide(Side):
    """BIRD 1.6, a process a family, on what `routed render` wrote."""

    name = "bird"
    protocol = BIRD_PROTOCOL

    def _start_daemon(self) -> None:
        self.bird = RenderedBird(self.node, self.records, self.cluster.environment)
        self.bird.start()

    def settled(self, quiet: float = QUIET, timeout: float = 60.0) -> Outcome:
        # Until it has waited for its peers BIRD programs no route, which looks as quiet as the end.
        wait_for(self._recovered, "BIRD's graceful restart is over")
        return super().settled(quiet, timeout)

    def _recovered(self) -> bool:
        answers = (self.bird.ask(program, "show", "status") for program in ("bird", "bird6"))
        return all("recovery in progress" not in answer for answer in answers)

    def _tunnelled(self, routes: list[dict[str, Any]]) -> dict[str, str]:
        # A blackhole has the mark too, and is none the less a blackhole.
        marked = [
            str(one["dst"])
            for one in routes
            if str(one.get("flow", {}).get("to")) == str(TUNNEL_REALM) and "gateway" in one
        ]
        if not marked:
            return {}
        # The other end of a tunnel is the node itself, the BGP next hop, and not the router on the way to it.
        known = parse_bird_routes(self.bird.ask("bird", "show", "route", "all"))
        return {prefix: str(known[prefix][0].next_hop) for prefix in marked}

    def _reconfigure(self) -> None:
        self.bird.configure()


def _with_length(host: str) -> list[str]:
    return [f"{ADDRESSES[version][host]}/{LENGTHS[version]}" for version in (4, 6)]


def _options(spec: Peer, machine: Machine) -> Options:
    node = ADDRESSES[spec.version][NODE]
    base = (*multiprotocol(spec.version), (FOUR_OCTET_AS, spec.asn.to_bytes(4, "big")))
    return Options(
        asn=spec.asn,
        router_id=spec.router_id or ADDRESSES[4][spec.host],
        address=spec.address,
        version=spec.version,
        capabilities=(*base, *spec.capabilities),
        remote=node if spec.dials else None,
        port=0 if spec.dials else spec.port,
        password=spec.password,
        password_for=node,
        ttl=spec.ttl,
    )
