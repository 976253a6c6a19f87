"""The kernel room's types: events, errors, and what a FIB and a monitor can do.

The agent is written against `FibProtocol` and `MonitorProtocol`. The real ones are
`fib.Fib` and `monitor.Monitor`; with `--no-kernel` it gets those of `dryrun`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Protocol

from routed.bgp.nlri import Family, Network
from routed.bgp.route import Address, FibRoute

#: The route protocol (`rtm_protocol`) of every route we install, see
#: docs/decisions/0003-kernel-route-protocol.md.
PROTOCOL = 171

#: RT_TABLE_MAIN, rtnetlink(7).
MAIN_TABLE = 254

#: A prefix with its family: the key of everything that spans both families.
Prefix = tuple[Family, bytes]

WORKLOAD_INTERFACE_PREFIX = "cali"


def is_workload_interface(name: str | None) -> bool:
    """True for the host's end of a pod's veth: Calico names them `cali` and a hash."""
    return name is not None and name.startswith(WORKLOAD_INTERFACE_PREFIX)


class KernelUnavailable(Exception):  # noqa: N818
    """The kernel's routes cannot be programmed or watched at all. The message says what is missing, and of
    `--no-kernel`."""


@dataclass(frozen=True, slots=True)
class FibError:
    """One wish the kernel refused. It stays in `failed` until it succeeds, is retried, or is wished
    otherwise.

    `route` is the wish (None: a removal), `errno` its number, `name` that number's name (`ENETUNREACH`),
    `text` what it means here, with the kernel's own words where it gave some."""

    family: Family
    nlri: bytes
    route: FibRoute | None
    errno: int
    name: str
    text: str


@dataclass(slots=True)
class FibCounters:
    """What a FIB did since it was opened. All only grow."""

    sends: int = 0
    requests: int = 0
    installs: int = 0
    """Requests to install a route, or to replace one, those tried again included."""
    installs_refused: int = 0
    """Of them. An install that finds something in its place is refused, and looked at."""
    installs_unknown: int = 0
    """Of them: the answer was lost, and the kernel is read anew."""
    removals: int = 0
    removals_refused: int = 0
    removals_unknown: int = 0
    errors: int = 0
    """Wishes that failed, those that failed again included."""
    errors_by_name: dict[str, int] = field(default_factory=dict)
    """The same by the name of the errno, `ENETUNREACH`."""
    resyncs: int = 0
    repaired: int = 0
    """Routes that a resync found missing, changed or left over."""


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. `up` is its administrative state (IFF_UP): while it is down the kernel keeps no route
    through it."""

    name: str
    index: int
    up: bool


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address of one of this host's interfaces, with the length of its prefix in bits. `peer` is the
    address of the other end, where the link is point-to-point and has one."""

    interface: str
    address: Address
    prefix_length: int
    peer: Address | None = None

    @property
    def network(self) -> Network:
        """The connected network: that of the other end where there is one."""
        return ip_network(((self.peer or self.address).packed, self.prefix_length), strict=False)


@dataclass(frozen=True, slots=True)
class AlienHop:
    """One way that a route of somebody else has. Without a gateway the destination itself is on the link."""

    interface: str | None
    gateway: Address | None = None
    onlink: bool = False


@dataclass(frozen=True, slots=True)
class AlienRoute:
    """A unicast route of the main table that we did not install.

    `hops` are ordered by interface and gateway. `metric` is None where the kernel has none (IPv4 only).
    `protocol` 2 is the kernel's own (connected) routes. `scope` as in rtnetlink(7): 0 universe, 253 link."""

    family: Family
    nlri: bytes
    hops: tuple[AlienHop, ...]
    metric: int | None
    protocol: int
    scope: int = 0

    @property
    def interface(self) -> str | None:
        """The interface of its only next hop; None where it has several."""
        return self.hops[0].interface if len(self.hops) == 1 else None

    @property
    def gateway(self) -> Address | None:
        """The gateway of its only next hop; None where it has none, or several."""
        return self.hops[0].gateway if len(self.hops) == 1 else None


@dataclass(frozen=True, slots=True)
class RouteUp:
    """An alien route appeared."""

    route: AlienRoute


@dataclass(frozen=True, slots=True)
class RouteDown:
    """An alien route is gone; `route` equals the one of its RouteUp. A changed route is a RouteDown and a
    RouteUp."""

    route: AlienRoute


@dataclass(frozen=True, slots=True)
class LinkUp:
    """An interface came up, or appeared up."""

    link: Link


@dataclass(frozen=True, slots=True)
class LinkDown:
    """An interface went down, or is gone. The routes through it went with it."""

    link: Link


@dataclass(frozen=True, slots=True)
class AddressAdded:
    """An address is there; IPv6: reported again when duplicate address detection has passed it."""

    address: InterfaceAddress


@dataclass(frozen=True, slots=True)
class AddressRemoved:
    """An address is gone."""

    address: InterfaceAddress


@dataclass(frozen=True, slots=True)
class OwnRouteChanged:
    """Somebody else deleted, replaced or added a route of our protocol."""

    family: Family
    nlri: bytes


@dataclass(frozen=True, slots=True)
class OwnNextHopGone:
    """A nexthop object of our protocol is gone, and with it all routes that named it, without a word."""

    object_id: int


@dataclass(frozen=True, slots=True)
class OwnRoutesInDoubt:
    """The kernel may have dropped routes of ours without a word, as it does for IPv4 when a link goes down,
    vanishes or loses its last address. `behind` are the alien prefixes that were reached through the link."""

    interface: str
    behind: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class Overflow:
    """Events were lost (ENOBUFS). The monitor has caught up by itself; what we installed must be checked."""


Event = (
    RouteUp
    | RouteDown
    | LinkUp
    | LinkDown
    | AddressAdded
    | AddressRemoved
    | OwnRouteChanged
    | OwnNextHopGone
    | OwnRoutesInDoubt
    | Overflow
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the monitor knows at one moment."""

    links: tuple[Link, ...]
    addresses: tuple[InterfaceAddress, ...]
    routes: tuple[AlienRoute, ...]


class FibProtocol(Protocol):
    """Wishes in, kernel routes out. Wishes are remembered by `replace` and carried out by `flush`."""

    counters: FibCounters

    @property
    def port(self) -> int:
        """The netlink port our changes come from; 0 where there is none."""

    @property
    def wanted(self) -> Mapping[Family, Mapping[bytes, FibRoute]]:
        """The wishes."""

    @property
    def installed(self) -> Mapping[Family, Mapping[bytes, FibRoute]]:
        """What the kernel has of ours, as far as we know."""

    @property
    def failed(self) -> Mapping[Prefix, FibError]:
        """The wishes that could not be carried out."""

    @property
    def failures(self) -> int:
        """How many those are."""

    async def adopt(self) -> dict[Prefix, FibRoute]:
        """Take over the routes of our protocol that are in the kernel already."""

    def replace(self, family: Family, nlri: bytes, route: FibRoute | None) -> None:
        """Wish for `route` at the prefix, None for no route. The last wish for a prefix counts."""

    def replace_all(self, family: Family, nlri: Sequence[bytes], route: FibRoute | None) -> None:
        """`replace` for many prefixes at once."""

    async def flush(self) -> list[FibError]:
        """Carry out all wishes that are pending."""

    async def retry_failed(self) -> list[FibError]:
        """Try all failed wishes again."""

    def stale(self) -> list[Prefix]:
        """Routes of ours in the kernel that nobody wishes."""

    async def sweep(self) -> list[FibError]:
        """Remove the stale routes."""

    async def resync(self) -> list[FibError]:
        """Read the kernel's routes of our protocol and repair all differences."""

    def note(self, event: Event) -> bool:
        """Take in what the monitor saw. True where `reconcile` has something to do now."""

    async def reconcile(self) -> list[FibError]:
        """Do what noted events call for: repair single prefixes, retry failed ones, or resync."""

    def close(self) -> None:
        """Let go of the kernel. All routes stay."""


class MonitorProtocol(Protocol):
    """Links, addresses and alien routes: one snapshot, then changes."""

    async def snapshot(self) -> Snapshot:
        """Read everything. Changes after this moment, and none before, come from `changes`."""

    def changes(self) -> AsyncIterator[Sequence[Event]]:
        """Events, in order, in bursts as they came. Ends when the monitor is closed."""

    def close(self) -> None:
        """Stop watching."""
