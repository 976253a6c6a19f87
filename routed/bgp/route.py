"""What the speaker hands to the kernel: one frozen route for each prefix."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class NextHop:
    """One way to a prefix. `interface` is a link's name, where the route must leave through that link;
    with `onlink` the gateway is taken to be on it whatever its addresses say (IPIP through `tunl0`)."""

    gateway: Address
    interface: str | None = None
    onlink: bool = False


@dataclass(frozen=True, slots=True)
class FibRoute:
    """The wanted kernel state of one prefix: a blackhole where `next_hops` is empty, ECMP where it has
    several.

    `metric` is the kernel's priority (RTA_PRIORITY), smaller wins."""

    next_hops: tuple[NextHop, ...]
    metric: int

    @property
    def blackhole(self) -> bool:
        """True where packets to the prefix are dropped here."""
        return not self.next_hops
