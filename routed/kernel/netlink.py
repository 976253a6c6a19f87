"""An rtnetlink socket of our own: open, send many requests at once, read replies, dump.

pyroute2 gives the socket inside another network namespace. Its asyncio transport is
not used: it decodes every acknowledgement into an object, and a socket that once overflowed is
lost to it. Requests to rtnetlink are worked off inside `send`, in order, and their
replies are in the receive queue when it returns (netlink(7)); so a request is `send`, then
`recv` until nothing is left, without waiting.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from routed.kernel.base import MAIN_TABLE, PROTOCOL, KernelUnavailable

# netlink(7), rtnetlink(7): linux/netlink.h, linux/rtnetlink.h
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x4, 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSGERR_ATTR_MSG = 1
SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 10, 11, 12
SO_RCVBUFFORCE = 33
SO_ATTACH_FILTER = 26

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_ERROR_CODE = struct.Struct("=i")
_ATTRIBUTE = struct.Struct("=HH")  # length, type

RECEIVE_SIZE = 65536
DUMP_ATTEMPTS = 5


class Message(NamedTuple):
    """One netlink message without its header."""

    type: int
    flags: int
    sequence: int
    port: int
    body: bytes


@dataclass(slots=True)
class Replies:
    """What came back for one send: `errors` maps sequence numbers to (errno, the kernel's words); `complete`
    is False where replies were lost (ENOBUFS), so that a request without an error need not have succeeded."""

    errors: dict[int, tuple[int, str]] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    complete: bool = False


def messages(datagram: bytes) -> Iterator[Message]:
    """The messages of one received datagram. A length that cannot be ends the iteration."""
    offset, end = 0, len(datagram)
    while offset + 16 <= end:
        length, kind, flags, sequence, port = HEADER.unpack_from(datagram, offset)
        if length < 16 or offset + length > end:
            return
        yield Message(kind, flags, sequence, port, datagram[offset + 16 : offset + length])
        offset += (length + 3) & ~3


def attributes(data: bytes, offset: int) -> dict[int, bytes]:
    """Attributes (rtattr) from `offset` on, by type, the nested and byte-order flags masked off. The last of
    a type wins."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four octets. Raises ValueError where it is too long for its 16 bit length."""
    length = 4 + len(value)
    if length > 0xFFFF:
        raise ValueError(f"netlink attribute of {length} octets: at most 65535")
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length & 3)


def errno_name(number: int) -> str:
    """`ENETUNREACH` for 101."""
    return errno.errorcode.get(number, f"errno {number}")


class RouteSocket:
    """One NETLINK_ROUTE socket, non-blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._sequence = 0

    @classmethod
    def open(cls, *, netns: str | None = None, groups: int = 0, receive_buffer: int = 4 << 20) -> RouteSocket:
        """Open and bind in this or the named network namespace. `groups` is the mask of multicast groups
        (RTMGRP_*).

        Raises KernelUnavailable."""
        try:
            sock = _socket(netns)
        except (OSError, RuntimeError, TimeoutError) as error:
            raise KernelUnavailable(_open_failure(error, netns)) from error
        try:
            sock.setblocking(False)
            _set_receive_buffer(sock, receive_buffer)
            for option in (NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK):
                _try_option(sock, option)
            sock.bind((0, groups))
        except OSError as error:
            sock.close()
            raise KernelUnavailable(_open_failure(error, netns)) from error
        return cls(sock)

    @property
    def port(self) -> int:
        """Our netlink port, the `nlmsg_pid` in the notifications of what we change."""
        port: int = self.socket.getsockname()[0]
        return port

    @property
    def receive_buffer(self) -> int:
        """SO_RCVBUF, in the kernel's accounting (octets)."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def sequences(self, count: int) -> int:
        """Reserve `count` sequence numbers in a row; the first is returned. 0 is never one of them."""
        if self._sequence + count >= 1 << 31:
            self._sequence = 0
        first = self._sequence + 1
        self._sequence += count
        return first

    def transact(self, requests: bytes | bytearray, last: int) -> Replies:
        """Send encoded requests and read all replies. The request with sequence number `last` must ask for an
        acknowledgement: its reply says that all before it were worked off. Raises OSError where nothing was
        sent."""
        self.socket.send(requests)
        replies = Replies()
        while True:
            try:
                datagram = self.socket.recv(RECEIVE_SIZE)
            except BlockingIOError:
                return replies
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue  # replies were dropped, also the last: `complete` stays False
            for message in messages(datagram):
                if message.type != NLMSG_ERROR:
                    replies.messages.append(message)
                    continue
                number, text = _error(message)
                if number:
                    replies.errors[message.sequence] = (number, text)
                if message.sequence == last:
                    replies.complete = True

    async def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All datagrams of a dump (NLM_F_DUMP) of message type `kind` (RTM_GET...) with the request `body`.

        Lets other tasks run in between. A dump that the kernel marks as interrupted by a change is taken
        again, a few times; what then may be missing is found by the events of that change. Raises OSError."""
        for _ in range(DUMP_ATTEMPTS):
            self._discard()  # a dump that was cancelled half-way would make this one EBUSY
            sequence = self.sequences(1)
            self.socket.send(
                HEADER.pack(16 + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, 0) + body
            )
            datagrams, interrupted = await self._read_dump(sequence)
            if not interrupted:
                break
        return datagrams

    async def _read_dump(self, sequence: int) -> tuple[list[bytes], bool]:
        datagrams: list[bytes] = []
        interrupted = False
        loop = asyncio.get_running_loop()
        while True:
            try:
                datagram = self.socket.recv(RECEIVE_SIZE)
            except BlockingIOError:
                datagram = await loop.sock_recv(self.socket, RECEIVE_SIZE)
            length, kind, flags, answered, _ = HEADER.unpack_from(datagram)
            if answered != sequence:
                continue
            interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
            if kind == NLMSG_ERROR:
                number, text = _error(Message(kind, flags, answered, 0, datagram[16:length]))
                if number:
                    raise OSError(number, text or os.strerror(number))
            datagrams.append(datagram)
            if kind == NLMSG_DONE or _ends_dump(datagram):
                return datagrams, interrupted
            await asyncio.sleep(0)

    def _discard(self) -> None:
        while True:
            try:
                self.socket.recv(RECEIVE_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def _socket(netns: str | None) -> socket.socket:
    """A socket in this or the named network namespace."""
    if netns is None:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    # Not at the top: it costs 14 MB and a quarter of a second, and a daemon works in its own namespace.
    from pyroute2 import netns as namespaces

    return namespaces.create_socket(  # type: ignore[no-any-return]
        netns, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE, flags=os.O_RDONLY
    )


def require_net_admin(sock: RouteSocket) -> None:
    """Raises KernelUnavailable unless this process may change routes. The kernel checks that before it looks
    at a request, so the question is one that can do nothing: to delete a prefix of 33 bits (EINVAL)."""
    sequence = sock.sequences(1)
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 33, 0, 0, MAIN_TABLE, PROTOCOL, 255, 0, 0)
    request = HEADER.pack(16 + len(body), RTM_DELROUTE, NLM_F_REQUEST | NLM_F_ACK, sequence, 0) + body
    try:
        replies = sock.transact(request, sequence)
    except OSError as error:
        raise KernelUnavailable(
            f"netlink does not take route requests: {error}; --no-kernel runs without"
        ) from error
    if replies.errors.get(sequence, (0, ""))[0] in (errno.EPERM, errno.EACCES):
        raise KernelUnavailable(
            "changing kernel routes needs the capability CAP_NET_ADMIN, which this process does not have. "
            "Run as root, or with that capability (container: capabilities.add: [NET_ADMIN]), "
            "or with --no-kernel to leave the kernel's routes alone"
        )


def _ends_dump(datagram: bytes) -> bool:
    """True where the datagram's last message is NLMSG_DONE: newer kernels put it behind the last objects."""
    return any(message.type == NLMSG_DONE for message in messages(datagram))


def _error(message: Message) -> tuple[int, str]:
    """(errno, the kernel's words) of an NLMSG_ERROR: `nlmsgerr` (netlink(7)), then attributes
    (NETLINK_EXT_ACK). errno 0 is an ACK."""
    if len(message.body) < 4:
        return errno.EBADMSG, "truncated error message"
    number = -_ERROR_CODE.unpack_from(message.body)[0]
    if not message.flags & NLM_F_ACK_TLVS:
        return number, ""
    offset = 20
    if not message.flags & NLM_F_CAPPED and len(message.body) >= 8:  # the request is echoed whole
        offset = 4 + int.from_bytes(message.body[4:8], sys.byteorder)
    text = attributes(message.body, offset).get(NLMSGERR_ATTR_MSG, b"")
    return number, text.rstrip(b"\0").decode("utf-8", "replace")


def _try_option(sock: socket.socket, option: int) -> None:
    """Set a netlink option to 1; kernels before 4.20 lack some, and all of them only make replies smaller or
    clearer."""
    try:
        sock.setsockopt(SOL_NETLINK, option, 1)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise


def _set_receive_buffer(sock: socket.socket, size: int) -> None:
    """SO_RCVBUFFORCE goes beyond net.core.rmem_max, with CAP_NET_ADMIN; without it take what that allows."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def _open_failure(error: BaseException, netns: str | None) -> str:
    reason = str(error) or type(error).__name__
    if netns is None:
        return (
            f"cannot open a netlink socket: {reason}. "
            "Let the process open AF_NETLINK sockets (seccomp, SELinux), or run with --no-kernel"
        )
    if isinstance(error, FileNotFoundError):
        return f"cannot open a netlink socket in network namespace {netns!r}: there is no such namespace"
    return (
        f"cannot open a netlink socket in network namespace {netns!r}: {reason}. "
        "To enter a network namespace CAP_SYS_ADMIN is needed; or run with --no-kernel"
    )
