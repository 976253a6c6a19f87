"""The types of single values in records, beyond those that Python has."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import NamedTuple

import msgspec

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface


class PeerAddress(NamedTuple):
    """`BGPPeer.spec.peerIP`: an address, and the port where one was written."""

    address: Address
    port: int | None = None

    def __str__(self) -> str:
        if self.port is None:
            return str(self.address)
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


class StandardCommunity(NamedTuple):
    """`aa:nn`, 16 bits each (RFC 1997)."""

    asn: int
    value: int

    def __str__(self) -> str:
        return f"{self.asn}:{self.value}"


class LargeCommunity(NamedTuple):
    """`aa:nn:mm`, 32 bits each (RFC 8092)."""

    global_administrator: int
    local_data_1: int
    local_data_2: int

    def __str__(self) -> str:
        return f"{self.global_administrator}:{self.local_data_1}:{self.local_data_2}"


CommunityValue = StandardCommunity | LargeCommunity


class SecretKeyRef(msgspec.Struct, frozen=True, gc=False):
    """Names one value of a Secret in the agent's namespace (`password.secretKeyRef`)."""

    name: str
    key: str
