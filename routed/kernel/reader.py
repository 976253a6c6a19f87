"""Reads routes, links and addresses from the kernel, over a socket that is used for nothing else at the same
time."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import AsyncIterator

from routed.bgp.nlri import Family
from routed.kernel.base import MAIN_TABLE
from routed.kernel.decode import (
    IFLA_IFNAME,
    KernelAddress,
    KernelLink,
    KernelRoute,
    decode_address,
    decode_link,
    decode_routes,
)
from routed.kernel.encode import ADDRESS_FAMILY, RT_TABLE_COMPAT, RTA_TABLE
from routed.kernel.netlink import (
    HEADER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RouteSocket,
    attribute,
    messages,
)

#: Nothing was ever put into that table; the kernel does not know that family.
_NOTHING_THERE = frozenset((errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT))

_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_NO_LINK = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
_NO_ADDRESS = struct.pack("=BBBBI", 0, 0, 0, 0, 0)


class KernelReader:
    """Dumps and single questions. Dumps raise OSError where the kernel refuses them."""

    def __init__(self, sock: RouteSocket, table: int = MAIN_TABLE) -> None:
        self._socket = sock
        self._table = table

    async def routes(self, family: Family, protocol: int = 0) -> AsyncIterator[list[KernelRoute]]:
        """The routes of our table, of one protocol or (0) of all, in parts; other tasks run between two
        parts."""
        table = self._table if self._table <= 255 else RT_TABLE_COMPAT
        body = _RTMSG.pack(ADDRESS_FAMILY[family], 0, 0, 0, table, protocol, 0, 0, 0)
        if self._table > 255:
            body += attribute(RTA_TABLE, struct.pack("=I", self._table))
        try:
            datagrams = await self._socket.dump(RTM_GETROUTE, body)
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                return
            raise
        for datagram in datagrams:
            yield [
                route
                for route in decode_routes(datagram)
                # Kernels before 4.20 do not filter, and one without IPv6 answers with IPv4.
                if route.table == self._table and protocol in (0, route.protocol) and route.family is family
            ]
            await asyncio.sleep(0)

    async def links(self) -> list[KernelLink]:
        """All interfaces."""
        datagrams = await self._socket.dump(RTM_GETLINK, _NO_LINK)
        found = (decode_link(m.body) for d in datagrams for m in messages(d) if m.type == RTM_NEWLINK)
        return [link for link in found if link is not None]

    async def link_names(self) -> dict[int, str]:
        """The names of all interfaces, by index."""
        return {link.ifindex: link.name for link in await self.links()}

    async def addresses(self) -> list[KernelAddress]:
        """The addresses of all interfaces, both families."""
        datagrams = await self._socket.dump(RTM_GETADDR, _NO_ADDRESS)
        found = (decode_address(m.body) for d in datagrams for m in messages(d) if m.type == RTM_NEWADDR)
        return [address for address in found if address is not None]

    def interface_index(self, name: str) -> int | None:
        """The index of an interface at this moment (another one once it was made anew); None where there is
        none."""
        return self._link(attribute(IFLA_IFNAME, os.fsencode(name) + b"\0"))

    def wait_for_links(self) -> None:
        """Wait for a link change that is under way: the kernel tells of a link that goes down before it drops
        the routes through it, and dumps take no lock; a question for a single link does (rtnl_lock)."""
        self._link(attribute(IFLA_IFNAME, b"lo\0"))

    def _link(self, which: bytes) -> int | None:
        sequence = self._socket.sequences(1)
        header = HEADER.pack(
            16 + len(_NO_LINK) + len(which), RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, 0
        )
        try:
            replies = self._socket.transact(header + _NO_LINK + which, sequence)
        except OSError:
            return None
        for message in replies.messages:
            if message.type == RTM_NEWLINK and message.sequence == sequence:
                link = decode_link(message.body)
                return None if link is None else link.ifindex
        return None
