"""Route requests as bytes: RTM_NEWROUTE and RTM_DELROUTE (rtnetlink(7)), made by hand.

pyroute2 takes some 400 µs to build, send and wait for one route. Here the part that prefixes share
(metric, next hops) is encoded once for each `FibRoute`, as a `Tail`, and a request is
one `struct.pack` more. The tests check every shape against pyroute2's own encoder.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from routed.bgp.nlri import Family
from routed.bgp.route import FibRoute, NextHop
from routed.kernel.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    attribute,
)

# linux/rtnetlink.h
RTN_UNSPEC, RTN_UNICAST, RTN_BLACKHOLE = 0, 1, 6
RT_SCOPE_UNIVERSE, RT_SCOPE_NOWHERE = 0, 255
RT_TABLE_COMPAT = 252
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 4, 5, 6, 7
RTA_MULTIPATH, RTA_TABLE, RTA_VIA, RTA_NH_ID = 9, 15, 18, 30
RTNH_F_ONLINK = 4

#: IP6_RT_PRIO_USER: the metric IPv6 gives a route that asks for none.
IPV6_DEFAULT_METRIC = 1024
MAX_METRIC = 0xFFFFFFFF

ADDRESS_FAMILY = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}

_U32 = struct.Struct("=I")
_TYPE_FLAGS = struct.Struct("=HH")
_RTNEXTHOP = struct.Struct("=HBBi")  # length, flags, hops (weight - 1), interface index

#: Fail where something of that prefix and metric is there already: never take over a route that is not ours.
CREATE = _TYPE_FLAGS.pack(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL)
#: Only in place of what is there (no NLM_F_CREATE): used where we know it to be ours.
REPLACE = _TYPE_FLAGS.pack(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_REPLACE)
DELETE = _TYPE_FLAGS.pack(RTM_DELROUTE, NLM_F_REQUEST)


class WishError(Exception):
    """A wish that cannot be put to the kernel: `errno` and the text for its FibError."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.errno = number
        self.text = text


class Tail(NamedTuple):
    """What all requests for one FibRoute share: `fixed` are the octets between prefix length and
    destination, `attributes` those behind the destination, `length` is of the whole message. `object_id` is
    that of the nexthop object which the route names, 0 for none."""

    length: int
    fixed: bytes
    attributes: bytes
    object_id: int = 0


def kernel_metric(family: Family, metric: int) -> int:
    """The metric the kernel will show for a wished one."""
    return IPV6_DEFAULT_METRIC if family is Family.IPV6 and metric == 0 else metric


class RouteEncoder:
    """Encodes for one family, table and protocol."""

    def __init__(self, family: Family, *, table: int, protocol: int) -> None:
        octets = family.address_octets
        self._family = family
        self._protocol = protocol
        self._table = table
        # nlmsghdr: length, type and flags, sequence, port 0; rtmsg: family, dst_len, fixed; RTA_DST
        self._struct = struct.Struct(f"=I4sI5sB14s{octets}s")
        self._family_octets = bytes(4) + bytes((ADDRESS_FAMILY[family],))
        self._dst_header = struct.pack("=HH", 4 + octets, RTA_DST)
        self._table_attribute = attribute(RTA_TABLE, _U32.pack(table)) if table > 255 else b""

    def install_tail(
        self,
        route: FibRoute,
        interface_index: Callable[[str], int | None],
        object_id: Callable[[int, int, bytes], int] | None = None,
    ) -> Tail:
        """The shared part of installing `route`. `interface_index` gives the index of a link's name, None
        where there is none. `object_id` gives the ID of the nexthop object to use for the only next hop, by
        its flags, interface index and encoded gateway, 0 for none.

        Raises WishError where the kernel could not take it."""
        if not 0 <= route.metric <= MAX_METRIC:
            raise WishError(errno.EINVAL, f"metric {route.metric} is outside 0 to {MAX_METRIC}")
        attributes = self._table_attribute
        if route.metric:
            attributes += attribute(RTA_PRIORITY, _U32.pack(route.metric))
        if route.blackhole:
            return self._tail(RTN_BLACKHOLE, RT_SCOPE_UNIVERSE, 0, attributes)
        # A gateway given twice is one path; IPv6 would refuse the second with EEXIST.
        hops = tuple(dict.fromkeys(self._hop(hop, interface_index) for hop in route.next_hops))
        if len(hops) == 1:
            flags, index, gateway = hops[0]
            if object_id is not None and (number := object_id(flags, index, gateway)):
                attributes += attribute(RTA_NH_ID, _U32.pack(number))
                return self._tail(RTN_UNICAST, RT_SCOPE_UNIVERSE, 0, attributes)._replace(object_id=number)
            if index:
                gateway += attribute(RTA_OIF, _U32.pack(index))
            return self._tail(RTN_UNICAST, RT_SCOPE_UNIVERSE, flags, attributes + gateway)
        paths = b"".join(
            _RTNEXTHOP.pack(_RTNEXTHOP.size + len(gateway), flags, 0, index) + gateway
            for flags, index, gateway in hops
        )
        try:
            multipath = attribute(RTA_MULTIPATH, paths)
        except ValueError:
            raise WishError(
                errno.E2BIG, f"{len(hops)} next hops are more than one netlink request holds"
            ) from None
        return self._tail(RTN_UNICAST, RT_SCOPE_UNIVERSE, 0, attributes + multipath)

    def delete_tail(self, metric: int, protocol: int = 0) -> Tail:
        """The shared part of deleting a route of a metric, whatever its next hops and type. The protocol in
        it, ours or the given one, is what keeps the kernel from deleting a route of somebody else."""
        attributes = self._table_attribute
        if metric:
            attributes += attribute(RTA_PRIORITY, _U32.pack(metric))
        scope = RT_SCOPE_NOWHERE if self._family is Family.IPV4 else 0
        return self._tail(RTN_UNSPEC, scope, 0, attributes, protocol)

    def request(self, flags: bytes, sequence: int, nlri: bytes, tail: Tail) -> bytes:
        """One request: `flags` is CREATE, REPLACE or DELETE. `nlri` must be valid for the family."""
        # "4s" and "16s" pad the NLRI's octets with zeros to a whole address.
        return (
            self._struct.pack(
                tail.length, flags, sequence, self._family_octets, nlri[0], tail.fixed, nlri[1:]
            )
            + tail.attributes
        )

    def _tail(self, kind: int, scope: int, flags: int, attributes: bytes, protocol: int = 0) -> Tail:
        table = self._table if self._table <= 255 else RT_TABLE_COMPAT
        protocol = protocol or self._protocol
        fixed = struct.pack("=BBBBBBI", 0, 0, table, protocol, scope, kind, flags) + self._dst_header
        return Tail(self._struct.size + len(attributes), fixed, attributes)

    def _hop(self, hop: NextHop, interface_index: Callable[[str], int | None]) -> tuple[int, int, bytes]:
        """(rtnh_flags, interface index or 0, gateway attribute) of a next hop."""
        gateway = hop.gateway
        if hop.interface is None:
            if hop.onlink:
                raise WishError(errno.EINVAL, f"next hop {gateway} is onlink but names no interface")
            if gateway.version == 6 and gateway.is_link_local:
                raise WishError(errno.EINVAL, f"next hop {gateway} is link-local but names no interface")
            index = 0
        else:
            found = interface_index(hop.interface)
            if found is None:
                raise WishError(errno.ENODEV, f"next hop {gateway}: there is no interface {hop.interface!r}")
            index = found
        if gateway.version == 6 and self._family is Family.IPV4:
            value = struct.pack("=H", socket.AF_INET6) + gateway.packed  # RFC 5549 / 8950: struct rtvia
            encoded = attribute(RTA_VIA, value)
        elif gateway.version == 4 and self._family is Family.IPV6:
            raise WishError(
                errno.EAFNOSUPPORT, f"next hop {gateway}: an IPv6 prefix cannot go through an IPv4 gateway"
            )
        else:
            encoded = attribute(RTA_GATEWAY, gateway.packed)
        return (RTNH_F_ONLINK if hop.onlink else 0), index, encoded


def with_acknowledgement(requests: list[bytes]) -> bytearray:
    """Requests in one buffer for one send; the last asks for an acknowledgement. The others answer only when
    they fail: an acknowledgement each would take as long again as the routes themselves, and fill the receive
    buffer."""
    buffer = bytearray(b"".join(requests))
    flags_at = len(buffer) - len(requests[-1]) + 6
    (flags,) = struct.unpack_from("=H", buffer, flags_at)
    struct.pack_into("=H", buffer, flags_at, flags | NLM_F_ACK)
    return buffer


def error_text(number: int, kernel_words: str, route: FibRoute | None) -> str:
    """What a refused request means, for people."""
    words = kernel_words or os.strerror(number)
    if number in UNREACHABLE and route is not None:
        via = ", ".join(str(hop.gateway) for hop in route.next_hops)
        return f"{words}: next hop {via} is on no network of an interface that is up; retried when it is"
    if number == errno.EPERM:
        return f"{words}: CAP_NET_ADMIN is needed"
    return words


#: What the kernel says of a next hop that it cannot reach now, but may later.
UNREACHABLE = frozenset((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENODEV))
