"""Prefixes as BGP writes them (RFC 4271 section 4.3): NLRI bytes.

Everywhere right of `intent/` a prefix is its NLRI: one octet of prefix length
in bits, then just as many octets as hold it, trailing bits zero. Equal prefixes
of one family are equal bytes, so NLRI are dictionary keys, and what arrived
from one peer can be sent to the next without being built again. The address
family is never in the bytes: a table, a session and a log each know their own.
"""

from __future__ import annotations

import enum
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

Network = IPv4Network | IPv6Network


class Family(enum.IntEnum):
    """An address family a session carries; the value is the AFI (RFC 4760). The SAFI is always 1, unicast."""

    IPV4 = 1
    IPV6 = 2

    @property
    def address_octets(self) -> int:
        """4 or 16."""
        return 4 if self is Family.IPV4 else 16

    @property
    def max_prefix_length(self) -> int:
        """32 or 128."""
        return 32 if self is Family.IPV4 else 128

    @classmethod
    def of(cls, one: Network | IPv4Address | IPv6Address) -> Family:
        """The family of an `ipaddress` network or address."""
        return cls.IPV4 if one.version == 4 else cls.IPV6


NO_FAMILIES: Final[frozenset[Family]] = frozenset()


@cache
def with_family(families: frozenset[Family], family: Family) -> frozenset[Family]:
    """The families, and this one. Always the same object: thousands of peers have such a set."""
    return families | {family}


def from_network(network: Network) -> bytes:
    """The NLRI of an `ipaddress` network."""
    length = network.prefixlen
    return bytes((length,)) + network.network_address.packed[: (length + 7) >> 3]


def to_network(nlri: bytes, family: Family) -> Network:
    """The `ipaddress` network of an NLRI that is already validated."""
    return ip_network((nlri[1:].ljust(family.address_octets, b"\0"), nlri[0]))


def to_text(nlri: bytes, family: Family) -> str:
    """`10.0.0.0/26`, `fd00::/64`: for people, logs and JSON."""
    return str(to_network(nlri, family))
