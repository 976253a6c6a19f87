"""What the kernel says of routes, links and addresses, decoded from bytes (rtnetlink(7)).

By hand, as a dump of 50,000 routes goes through here: pyroute2's objects take a hundred times as long. All
functions return None for a message that is too short or of a family that does not concern us.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from routed.bgp.nlri import Family
from routed.bgp.route import Address, FibRoute, NextHop
from routed.kernel.encode import (
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_NH_ID,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_TABLE,
    RTA_VIA,
    RTN_BLACKHOLE,
    RTN_UNICAST,
    RTNH_F_ONLINK,
)
from routed.kernel.netlink import RTM_NEWROUTE, attributes, messages

# linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h
RTM_F_CLONED = 0x200
IFLA_IFNAME = 3
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_TENTATIVE, IFA_F_DADFAILED = 0x40, 0x08
IFF_UP = 1
_NHA_ID = 1

_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_RTNEXTHOP = struct.Struct("=HBBi")
_IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_U32 = struct.Struct("=I")

FAMILIES: Mapping[int, Family] = {socket.AF_INET: Family.IPV4, socket.AF_INET6: Family.IPV6}


class Path(NamedTuple):
    """One next hop as the kernel has it: `ifindex` 0 where it names no interface."""

    gateway: Address | None
    ifindex: int
    onlink: bool


class KernelRoute(NamedTuple):
    """A route as the kernel has it. `metric` 0 is none; `prefsrc` the preferred source address, network byte
    order; `object_id` that of a nexthop object, whose gateway is told too unless the sysctl
    nexthop_compat_mode is 0."""

    family: Family
    nlri: bytes
    metric: int
    tos: int
    table: int
    protocol: int
    scope: int
    type: int
    flags: int
    prefsrc: bytes | None
    paths: tuple[Path, ...]
    object_id: int = 0

    def fib_route(self, names: Mapping[int, str]) -> FibRoute | None:
        """As a FibRoute, interfaces by name; None where no FibRoute says the same (a TOS, a type of its own,
        no gateway)."""
        if self.tos:
            return None
        if self.type == RTN_BLACKHOLE:
            return FibRoute((), self.metric)
        if self.type != RTN_UNICAST or not self.paths:
            return None
        hops = []
        for path in self.paths:
            if path.gateway is None:
                return None
            hops.append(NextHop(path.gateway, names.get(path.ifindex), path.onlink))
        return FibRoute(tuple(hops), self.metric)


class KernelLink(NamedTuple):
    """An interface; `up` is IFF_UP."""

    ifindex: int
    name: str
    up: bool


class KernelAddress(NamedTuple):
    """An interface's own address. `tentative`: IPv6 duplicate address detection has not passed it (yet).
    `peer`: the other end's, on a point-to-point link."""

    ifindex: int
    address: Address
    prefix_length: int
    tentative: bool
    peer: Address | None = None


def decode_route(body: bytes) -> KernelRoute | None:
    """An RTM_NEWROUTE or RTM_DELROUTE body (rtmsg and attributes)."""
    if len(body) < _RTMSG.size:
        return None
    number, length, _, tos, table, protocol, scope, kind, flags = _RTMSG.unpack_from(body)
    family = FAMILIES.get(number)
    if family is None or length > family.max_prefix_length:
        return None
    found = attributes(body, _RTMSG.size)
    used = (length + 7) >> 3
    nlri = bytes((length,)) + found.get(RTA_DST, b"")[:used]
    multipath = found.get(RTA_MULTIPATH)
    if multipath is not None:
        paths = tuple(_paths(multipath))
    elif RTA_OIF in found or RTA_GATEWAY in found or RTA_VIA in found:
        paths = (Path(_gateway(found), _u32(found, RTA_OIF), bool(flags & RTNH_F_ONLINK)),)
    else:
        paths = ()
    return KernelRoute(
        family,
        nlri if len(nlri) == 1 + used else nlri.ljust(1 + used, b"\0"),
        _u32(found, RTA_PRIORITY),
        tos,
        _u32(found, RTA_TABLE) or table,
        protocol,
        scope,
        kind,
        flags,
        found.get(RTA_PREFSRC),
        paths,
        _u32(found, RTA_NH_ID),
    )


def decode_routes(datagram: bytes) -> Iterator[KernelRoute]:
    """The routes in one datagram of a dump."""
    for message in messages(datagram):
        if message.type == RTM_NEWROUTE:
            route = decode_route(message.body)
            if route is not None and not route.flags & RTM_F_CLONED:
                yield route


def decode_link(body: bytes) -> KernelLink | None:
    """An RTM_NEWLINK or RTM_DELLINK body. Those of a bridge about its ports (family AF_BRIDGE) are not about
    the link itself."""
    if len(body) < _IFINFOMSG.size:
        return None
    family, _, index, flags, _ = _IFINFOMSG.unpack_from(body)
    name = attributes(body, _IFINFOMSG.size).get(IFLA_IFNAME)
    if family != socket.AF_UNSPEC or name is None:
        return None
    return KernelLink(index, name.rstrip(b"\0").decode("utf-8", "surrogateescape"), bool(flags & IFF_UP))


def decode_address(body: bytes) -> KernelAddress | None:
    """An RTM_NEWADDR or RTM_DELADDR body. On a point-to-point link IFA_ADDRESS is the other end, IFA_LOCAL
    ours."""
    if len(body) < _IFADDRMSG.size:
        return None
    number, length, flags, _, index = _IFADDRMSG.unpack_from(body)
    found = attributes(body, _IFADDRMSG.size)
    other = _address(found.get(IFA_ADDRESS) or b"")
    address = _address(found.get(IFA_LOCAL) or b"") or other
    family = FAMILIES.get(number)
    if address is None or family is None or length > family.max_prefix_length:
        return None
    flags = _u32(found, IFA_FLAGS) or flags
    return KernelAddress(
        index,
        address,
        length,
        bool(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)),
        None if other == address else other,
    )


def decode_next_hop(body: bytes) -> tuple[int, int] | None:
    """Protocol and ID of a nexthop object: an RTM_NEWNEXTHOP or RTM_DELNEXTHOP body (nhmsg and
    attributes)."""
    if len(body) < 8:
        return None
    return body[2], _u32(attributes(body, 8), _NHA_ID)


def _paths(multipath: bytes) -> Iterator[Path]:
    """The next hops in RTA_MULTIPATH: `rtnexthop`, each followed by its attributes."""
    offset, end = 0, len(multipath)
    while offset + _RTNEXTHOP.size <= end:
        length, flags, _, index = _RTNEXTHOP.unpack_from(multipath, offset)
        if length < _RTNEXTHOP.size or offset + length > end:
            return
        found = attributes(multipath[offset : offset + length], _RTNEXTHOP.size)
        yield Path(_gateway(found), index, bool(flags & RTNH_F_ONLINK))
        offset += (length + 3) & ~3


def _gateway(found: Mapping[int, bytes]) -> Address | None:
    gateway = found.get(RTA_GATEWAY)
    if gateway is None:
        gateway = found.get(RTA_VIA, b"")[2:]  # struct rtvia: a family, then the address
    return _address(gateway)


#: Gateways and addresses recur; making an `ipaddress` object is the dearest step of decoding a route.
_addresses: dict[bytes, Address] = {}


def _address(packed: bytes) -> Address | None:
    known = _addresses.get(packed)
    if known is not None:
        return known
    if len(packed) == 4:
        made: Address = IPv4Address(packed)
    elif len(packed) == 16:
        made = IPv6Address(packed)
    else:
        return None
    if len(_addresses) >= 4096:
        _addresses.clear()
    _addresses[packed] = made
    return made


def _u32(found: Mapping[int, bytes], kind: int) -> int:
    value = found.get(kind)
    if value is None or len(value) < 4:
        return 0
    number: int = _U32.unpack_from(value)[0]
    return number
