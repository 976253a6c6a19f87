"""Nexthop objects (`ip nexthop`, Linux 5.3 and later), which make IPv4 routes by many next hops cheap.

The kernel shares what IPv4 routes of one protocol, metric and interface have in common, and looks for it in
one chain that holds an entry a gateway (`fib_find_info`, net/ipv4/fib_semantics.c): with 5,000 gateways each
route costs some 60 µs more. A route that names a nexthop object is found by the ID of that. So, where
there are many, each gateway gets an object, and routes name it; where there are few, routes stay as anybody
knows them. IPv6 shares nothing, and needs none of this.

A route by an object shows the gateway and interface all the same (`via`, `dev`). When its interface goes down
the kernel drops the object, and with it the routes, as it does with those that have no object.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

from routed.kernel.encode import RTA_GATEWAY, RTNH_F_ONLINK, with_acknowledgement
from routed.kernel.netlink import (
    HEADER,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    RTM_DELNEXTHOP,
    RTM_GETNEXTHOP,
    RTM_NEWNEXTHOP,
    Replies,
    RouteSocket,
    attribute,
    attributes,
    messages,
)

#: More gateways than these get objects: their chain costs as much as looking for an object.
MANY: Final = 64
#: Our IDs begin here; the number is nobody's, and ours can be told by it.
FIRST_ID: Final = 171 << 20
#: Deletions in one send.
CHUNK: Final = 512

# linux/nexthop.h
NHA_ID, NHA_OIF, NHA_GATEWAY = 1, 5, 6
_NHMSG: Final = struct.Struct("=BBBBI")  # family, scope, protocol, reserved, flags
_U32: Final = struct.Struct("=I")


class Gateway(NamedTuple):
    """An IPv4 gateway on an interface. `flags` is RTNH_F_ONLINK or 0."""

    flags: int
    ifindex: int
    address: bytes


class NextHopObjects:
    """The objects of our protocol in one network namespace."""

    def __init__(self, sock: RouteSocket, *, protocol: int, log: Any, many: int = MANY) -> None:
        self.ids: dict[Gateway, int] = {}
        self._by_id: dict[int, Gateway] = {}
        self._socket = sock
        self._protocol = protocol
        self._log = log
        self._many = many
        self._seen: set[Gateway] = set()
        self._active = False
        self._supported = True
        self._next_id = FIRST_ID
        self._promised: list[tuple[int, Gateway]] = []

    def id_of(self, gateway: Gateway) -> int:
        """The ID of the gateway's object; 0: it has none, as there are few. The next `create` makes it where
        it is new."""
        known = self.ids.get(gateway)
        if known is not None:
            return known
        if not self._supported:
            return 0
        if not self._active:
            self._seen.add(gateway)
            if len(self._seen) <= self._many:
                return 0
            self._active = True
            self._seen.clear()
        while self._next_id in self._by_id:
            self._next_id += 1
        number = self._next_id
        self._next_id += 1
        self.ids[gateway] = number
        self._by_id[number] = gateway
        self._promised.append((number, gateway))
        return number

    def gateway(self, number: int) -> Gateway | None:
        """What an object of ours stands for."""
        return self._by_id.get(number)

    async def learn(self) -> None:
        """Read which objects of ours there are. Raises OSError."""
        try:
            datagrams = await self._socket.dump(RTM_GETNEXTHOP, bytes(_NHMSG.size))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            self._supported = False  # an older kernel
            return
        self.ids.clear()
        self._by_id.clear()
        for datagram in datagrams:
            for message in messages(datagram):
                if message.type == RTM_NEWNEXTHOP:
                    self._found(message.body)
        self._active = self._active or bool(self.ids)

    def forget(self, numbers: Iterable[int]) -> None:
        """These objects are not there, or not of use."""
        for number in numbers:
            gateway = self._by_id.pop(number, None)
            if gateway is not None:
                del self.ids[gateway]

    def forget_interface(self, ifindex: int) -> None:
        """An interface went down: the kernel has dropped the objects on it."""
        self.forget([number for gateway, number in self.ids.items() if gateway.ifindex == ifindex])

    def remove_unused(self, used: Collection[Gateway]) -> int:
        """Remove the objects of other gateways than these. Returns how many. Removing an object removes the
        routes that name it, so `used` must have those of all routes that are in the kernel."""
        unused = [number for gateway, number in self.ids.items() if gateway not in used]
        for start in range(0, len(unused), CHUNK):
            some = unused[start : start + CHUNK]
            first = self._socket.sequences(len(some))
            requests = [
                self._request(
                    RTM_DELNEXTHOP, 0, sequence, socket.AF_UNSPEC, 0, attribute(NHA_ID, _U32.pack(n))
                )
                for sequence, n in enumerate(some, first)
            ]
            self._transact(requests, first)
        self.forget(unused)
        return len(unused)

    def create(self) -> set[int]:
        """Make the objects that `id_of` has promised. Returns the IDs of those that could not be made, which
        no route may name: they may be somebody else's."""
        failed: set[int] = set()
        while self._promised:
            some, self._promised = self._promised[:CHUNK], self._promised[CHUNK:]
            first = self._socket.sequences(len(some))
            requests = [
                self._request(
                    RTM_NEWNEXTHOP,
                    NLM_F_CREATE | NLM_F_EXCL,
                    sequence,
                    socket.AF_INET,
                    gateway.flags,
                    attribute(NHA_ID, _U32.pack(number))
                    + attribute(NHA_OIF, _U32.pack(gateway.ifindex))
                    + attribute(NHA_GATEWAY, gateway.address),
                )
                for sequence, (number, gateway) in enumerate(some, first)
            ]
            replies = self._transact(requests, first)
            if any(number == errno.EOPNOTSUPP for number, _ in replies.errors.values()):
                self._supported = False
            if replies.complete:
                failed.update(some[sequence - first][0] for sequence in replies.errors)
            else:  # replies were lost
                failed.update(number for number, _ in some)
        self.forget(failed)
        return failed

    def _transact(self, requests: list[bytes], first: int) -> Replies:
        try:
            return self._socket.transact(with_acknowledgement(requests), first + len(requests) - 1)
        except OSError as error:
            self._log.error("netlink send failed", error=str(error), requests=len(requests))
            return Replies()

    def _request(
        self, kind: int, flags: int, sequence: int, family: int, nexthop_flags: int, body: bytes
    ) -> bytes:
        header = HEADER.pack(16 + _NHMSG.size + len(body), kind, NLM_F_REQUEST | flags, sequence, 0)
        # A deletion is by ID alone: the kernel takes no protocol there.
        protocol = self._protocol if kind == RTM_NEWNEXTHOP else 0
        return header + _NHMSG.pack(family, 0, protocol, 0, nexthop_flags) + body

    def _found(self, body: bytes) -> None:
        if len(body) < _NHMSG.size:
            return
        family, _, protocol, _, flags = _NHMSG.unpack_from(body)
        if family != socket.AF_INET or protocol != self._protocol:
            return
        found = attributes(body, _NHMSG.size)
        number, ifindex, address = found.get(NHA_ID), found.get(NHA_OIF), found.get(NHA_GATEWAY)
        if number is None or ifindex is None or address is None:
            return
        (index,) = _U32.unpack(ifindex)
        gateway = Gateway(flags & RTNH_F_ONLINK, index, address)
        (one,) = _U32.unpack(number)
        self.ids[gateway] = one
        self._by_id[one] = gateway


def gateway_of(flags: int, ifindex: int, encoded: bytes) -> Gateway | None:
    """From an encoded next hop of a route (`RTA_GATEWAY`); None for what has no object: no interface, or an
    IPv6 gateway."""
    if not ifindex or len(encoded) != 8 or encoded[2:4] != struct.pack("=H", RTA_GATEWAY):
        return None
    return Gateway(flags, ifindex, encoded[4:])
