"""A node that runs routed beside another daemon, with feeders on both sides and an ear on the wire."""

from __future__ import annotations

import contextlib
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.matrix.speakers import Neighbor, Setup, Speaker
from tests.matrix.wire import Wire
from tests.netns import INTERFACE, Lab, Machine, temporary_lab, wait_for
from tests.raw_peer import Options, RawPeer
from tests.routed_process import (
    Record,
    Records,
    RoutedProcess,
    block,
    configuration,
    node,
    peer,
    pool,
    routed_run,
)

#: Both numbers need four octets.
OUR_AS, PEER_AS = 4200000064, 4200000001
OURS = {4: "192.0.2.11", 6: "2001:db8::11"}
THEIRS = {4: "192.0.2.21", 6: "2001:db8::21"}
OUR_BLOCKS = {4: "10.244.1.0/26", 6: "fd00:10:244:1::/122"}
THEIR_PREFIXES = {4: "203.0.113.0/24", 6: "2001:db8:f::/48"}
#: Prefixes with two paths: one that routed has, one that the other daemon has.
OUR_SEVERAL, THEIR_SEVERAL = "198.18.1.0/24", "198.51.100.0/24"
#: What does not fit into one message of 4,096 octets.
BULK = tuple(f"198.19.{number // 256}.{number % 256}/32" for number in range(3000))
OUR_COMMUNITY = (64512, 7, 8)
PASSWORD = "secret-of-both"


@dataclass(frozen=True, slots=True)
class Feeder:
    """A peer that feeds one of the two."""

    address: str
    asn: int
    feeds: str


FEEDERS = {
    "theirs-1": Feeder("192.0.2.31", 65101, THEIRS[4]),
    "theirs-2": Feeder("192.0.2.32", 65102, THEIRS[4]),
    "ours-1": Feeder("192.0.2.33", 65103, OURS[4]),
    "ours-2": Feeder("192.0.2.34", 65104, OURS[4]),
}
WATCHER = "192.0.2.41"


@dataclass
class Scene:
    """Everything that a cell of the matrix is judged by."""

    routed: RoutedProcess
    speaker: Speaker
    wire: Wire
    feeders: dict[str, RawPeer]
    watcher: RawPeer

    def established(self, version: int) -> bool:
        """Whether the session of an IP version is up at routed's end."""
        return self.routed.sessions().get(THEIRS[version]) == "established"

    def wait_established(self, *versions: int, timeout: float = 90.0) -> None:
        """Until these sessions are up."""
        for version in versions:
            wait_for(
                lambda version=version: self.established(version),  # type: ignore[misc]
                f"{self.speaker.name}: IPv{version} session",
                timeout,
            )

    def has_theirs(self, version: int) -> bool:
        """Whether routed's kernel has the daemon's prefix."""
        return self.routed.kernel_gateways(THEIR_PREFIXES[version]) == {THEIRS[version]}

    def capability(self, code: int, version: int = 4) -> list[bytes]:
        """Values of a capability in the daemon's OPEN; none where it does not offer it."""
        return self.wire.open(THEIRS[version], OURS[version]).values(code)


@contextlib.contextmanager
def scene(
    kind: type[Speaker], directory: Path, *, password: str | None = None, ttl_security: bool = False
) -> Iterator[Scene]:
    """Both ends, running; nothing is waited for."""
    with temporary_lab(directory) as lab, contextlib.ExitStack() as stack:
        here = lab.machine("node", f"{OURS[4]}/24", f"{OURS[6]}/64")
        there = lab.machine("peer", f"{THEIRS[4]}/24", f"{THEIRS[6]}/64")
        addresses = (*(feeder.address for feeder in FEEDERS.values()), WATCHER)
        feeders = lab.machine("feeders", *(f"{address}/24" for address in addresses))
        records = Records(directory / "records")
        records.put("all", cluster(here, password, ttl_security))
        wire = stack.enter_context(Wire(lab.machines["bridge"], bridge_port(lab, there)))
        speaker = kind(there, setup(password, ttl_security))
        made = {
            name: stack.enter_context(
                RawPeer(
                    feeders,
                    Options(
                        one.asn, one.address, address=one.address, remote=one.feeds, port=0, end_of_rib=True
                    ),
                )
            )
            for name, one in FEEDERS.items()
        }
        watcher = RawPeer(
            feeders,
            Options(OUR_AS, WATCHER, address=WATCHER, remote=OURS[4], port=0, end_of_rib=True),
        )
        stack.enter_context(watcher)
        routed = routed_run(here, records)
        speaker.start()
        routed.start()
        yield Scene(routed, speaker, wire, made, watcher)
        # Before the feeders hang up.
        for process in (*here.processes, *there.processes):
            process.stop()


def cluster(machine: Machine, password: str | None, ttl_security: bool) -> list[Record]:
    """routed's records."""
    options: Record = {}
    secrets: list[Record] = []
    if password is not None:
        options["password"] = {"secretKeyRef": {"name": "bgp", "key": "peer"}}
        data = {"peer": b64encode(password.encode()).decode()}
        metadata = {"name": "bgp", "namespace": "kube-system"}
        secrets.append({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    if ttl_security:
        options["ttlSecurity"] = 1
    peers = [peer(f"peer-{version}", THEIRS[version], PEER_AS, **options) for version in (4, 6)]
    ours = [peer(name, one.address, one.asn) for name, one in FEEDERS.items() if one.feeds == OURS[4]]
    community = ":".join(map(str, OUR_COMMUNITY))
    return [
        configuration(OUR_AS, prefixAdvertisements=[{"cidr": "10.244.0.0/16", "communities": [community]}]),
        node(machine),
        *(pool(cidr) for cidr in ("10.244.0.0/16", "fd00:10:244::/48", "198.18.0.0/15")),
        *(one for cidr in OUR_BLOCKS.values() for one in block(machine.name, cidr)),
        *secrets,
        *peers,
        *ours,
        peer("watcher", WATCHER, OUR_AS),
    ]


def setup(password: str | None, ttl_security: bool) -> Setup:
    """The other daemon's."""
    ours = tuple(
        Neighbor(f"routed{version}", OURS[version], OUR_AS, password, ttl_security) for version in (4, 6)
    )
    feeders = tuple(
        Neighbor(name.replace("-", "_"), one.address, one.asn)
        for name, one in FEEDERS.items()
        if one.feeds == THEIRS[4]
    )
    announce = tuple(THEIR_PREFIXES.values())
    return Setup(PEER_AS, THEIRS[4], dict(THEIRS), (*ours, *feeders), announce, THEIR_SEVERAL)


def bridge_port(lab: Lab, machine: Machine) -> str:
    """The port of the laboratory's bridge that a machine's eth0 is plugged into."""
    (link,) = machine.ip_json("link", "show", "dev", INTERFACE)
    bridge = lab.machines["bridge"]
    (port,) = [
        one["ifname"] for one in bridge.ip_json("link", "show") if one["ifindex"] == link["link_index"]
    ]
    return str(port)
