"""What a cluster of the differential test is made of: records, peers that say what they are told to, and the
kernel routes that others made on the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.raw_peer import Attribute, attributes, update, withdrawal
from tests.routed_process import Record, record

AS = 64512
NODE = "node"
#: The node under test, and its neighbours on the link. As strings, 192.0.2.2 sorts after ours and 192.0.2.10
#: before: of two mesh peers one is waited for and one is dialled.
ADDRESSES = {
    4: {
        NODE: "192.0.2.11",
        "worker02": "192.0.2.2",
        "worker03": "192.0.2.10",
        "worker04": "192.0.2.40",
        "router": "192.0.2.1",
        "router2": "192.0.2.3",
        # In another subnet, behind `router`.
        "far": "198.51.100.5",
        "far2": "198.51.100.6",
    },
    6: {
        NODE: "2001:db8::11",
        "worker02": "2001:db8::2",
        "worker03": "2001:db8::10",
        "worker04": "2001:db8::40",
        "router": "2001:db8::1",
        "router2": "2001:db8::3",
        "far": "2001:db8:1::5",
        "far2": "2001:db8:1::6",
    },
}
LENGTHS = {4: 24, 6: 64}
#: LOCAL_PREF of a route that nothing prefers: 2147483647 - 1024.
NORMAL = 2147482623


@dataclass(frozen=True, slots=True)
class Announcement:
    """Routes that a peer announces in one UPDATE."""

    prefixes: tuple[str, ...]
    path: tuple[Attribute, ...]
    next_hop: str | None = None
    """None: the peer itself."""
    path_id: int | None = None

    def body(self, address: str) -> bytes:
        """The UPDATE, from a peer with that address."""
        return update(self.prefixes, self.next_hop or address, self.path, self.path_id)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Routes that a peer takes back."""

    prefixes: tuple[str, ...]
    path_id: int | None = None

    def body(self, address: str) -> bytes:
        """The UPDATE."""
        return withdrawal(self.prefixes, self.path_id)


Said = Announcement | Withdrawal


def says(
    *prefixes: str, next_hop: str | None = None, path_id: int | None = None, **path: Any
) -> Announcement:
    """An announcement; `path` as for `raw_peer.attributes`."""
    return Announcement(prefixes, attributes(**path), next_hop, path_id)


def node_says(*prefixes: str, next_hop: str | None = None, metric: int = 1024, **path: Any) -> Announcement:
    """What a Calico node says of its blocks to an internal peer."""
    return says(*prefixes, next_hop=next_hop, local_pref=2147483647 - metric, **path)


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer of the node: one session."""

    host: str
    """A key of `ADDRESSES`."""
    asn: int = AS
    version: int = 4
    says: tuple[Said, ...] = ()
    """Once its session is up."""
    dials: bool = False
    """It connects to the node, which waits for it."""
    port: int = 179
    capabilities: tuple[tuple[int, bytes], ...] = ()
    """Beside multiprotocol and 4-octet AS numbers."""
    password: str | None = None
    ttl: int | None = None
    router_id: str | None = None
    """None: its IPv4 address."""

    @property
    def name(self) -> str:
        """For people and for the outcome."""
        return self.host if self.version == 4 else f"{self.host}-v6"

    @property
    def address(self) -> str:
        """Where it is."""
        return ADDRESSES[self.version][self.host]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happens when all is quiet; then all is compared again."""

    about: str
    says: Mapping[str, tuple[Said, ...]] = field(default_factory=dict)
    """By peer name."""
    kernel: tuple[str, ...] = ()
    """`ip` commands on the node."""
    ends: tuple[str, ...] = ()
    """Names of peers that hang up and stay away."""
    records: tuple[Record, ...] | None = None
    """All records anew: BIRD gets a new configuration, routed sees its files change."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One node, its records and its neighbours."""

    name: str
    about: str
    records: tuple[Record, ...]
    peers: tuple[Peer, ...]
    kernel: tuple[str, ...] = ()
    """`ip` commands on the node before the daemon starts."""
    changes: tuple[Change, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def node_record(
    host: str,
    *,
    versions: tuple[int, ...] = (4,),
    labels: dict[str, str] | None = None,
    wireguard: str | None = None,
    **bgp: object,
) -> Record:
    """The Node record of a host of `ADDRESSES`."""
    for version in versions:
        bgp[f"ipv{version}Address"] = f"{ADDRESSES[version][host]}/{LENGTHS[version]}"
    made = record("Node", host, labels=labels or {}, bgp=bgp)
    if wireguard is not None:
        made["spec"]["wireguard"] = {"interfaceIPv4Address": wireguard}
    return made


def workload(interface: str, *addresses: str, metric: int = 1024) -> tuple[str, ...]:
    """A workload's interface with a route to each address, as the node agent makes them."""
    lines = [f"link add {interface} type veth peer name {interface}p", f"link set {interface}p up"]
    lines.append(f"link set {interface} up")
    lines += [workload_route(interface, address, metric) for address in addresses]
    return tuple(lines)


def workload_route(interface: str, address: str, metric: int = 1024) -> str:
    """One more route to a workload: protocol 80 is the node agent's."""
    return f"route add {address} dev {interface} scope link metric {metric} protocol 80"
