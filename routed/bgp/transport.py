"""Sockets on the event loop: accept, dial, read and write for the sans-IO sessions.

Raw non-blocking sockets, not asyncio streams: what a thousand peers must be
sent is the same few slices of an export group's log, and `sendmsg` takes them
as they are. Nothing here knows a BGP message; the reader hands bytes on, and
the writer sends control messages first, then what the outlets hold.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from routed.bgp.route import Address

#: One read; big enough that a full UPDATE burst of a peer is parsed in one go, small enough that no
#: peer keeps the loop from the others for long.
READ_OCTETS = 256 * 1024
#: One write. Linux takes at most 1,024 buffers (UIO_MAXIOV) in one sendmsg.
WRITE_OCTETS = 256 * 1024
MAX_BUFFERS = 1024
#: Writes of one connection before it lets the others have a turn.
WRITES_A_TURN = 4
LISTEN_BACKLOG = 4096
#: How long an attempt to connect may take, seconds.
DIAL_TIMEOUT = 10.0

Buffer = bytes | memoryview


class Outlet(Protocol):
    """Where a connection's UPDATEs come from: a member of an export group."""

    @property
    def at_message_boundary(self) -> bool:
        """True where what was sent so far ends with a whole BGP message."""

    def collect(self, budget: int) -> Sequence[Buffer]:
        """At least one whole message where there is any, else about `budget` octets; empty: nothing to
        send."""

    def collect_to_boundary(self) -> Sequence[Buffer]:
        """Just the rest of the message that was sent in part."""

    def advance(self, sent: int) -> None:
        """So many octets of the last `collect` are on their way."""


class ConnectionHandler(Protocol):
    """The owner of a connection."""

    def on_bytes(self, connection: Connection, data: memoryview) -> None:
        """Octets from the peer; the view is only valid during the call."""

    def on_lost(self, connection: Connection, reason: str) -> None:
        """The connection is over: end of file, or a socket error. Not called after `close`."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and port of one end."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


def plain_address(text: str) -> Address:
    """The address in a socket name: a scope is cut off, an IPv4-mapped one is IPv4.

    Raises ValueError where it is none."""
    address = ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    # A BGP message is worth sending at once: batches are made before they come here.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@dataclass(frozen=True, slots=True)
class Link:
    """A connected socket, non-blocking, and its two ends."""

    sock: socket.socket
    local: Endpoint
    remote: Endpoint


class Connection:
    """One TCP connection: reads into a shared buffer, writes control messages and outlets.

    `outlets` are set by the owner once the session is Established."""

    __slots__ = (
        "_buffer",
        "_control",
        "_handler",
        "_loop",
        "_part",
        "_sock",
        "_writing",
        "closed",
        "closing",
        "local",
        "octets_in",
        "octets_out",
        "outlets",
        "remote",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: Link,
        handler: ConnectionHandler,
        buffer: memoryview,
    ) -> None:
        self._loop = loop
        self._sock = sock = link.sock
        self._handler = handler
        self._buffer = buffer
        self._control: deque[bytes] = deque()
        self._part = 0
        self._writing = False
        self.closed = False
        self.closing = False
        self.outlets: list[Outlet] = []
        self.octets_in = 0
        self.octets_out = 0
        self.local = link.local
        self.remote = link.remote
        loop.add_reader(sock.fileno(), self._on_readable)

    def adopt(self, handler: ConnectionHandler) -> None:
        """Let another owner have what is read from now on."""
        self._handler = handler

    def send(self, message: bytes) -> None:
        """Queue one whole control message (OPEN, KEEPALIVE, NOTIFICATION): it goes before any UPDATE that
        is not begun."""
        if not (self.closed or self.closing):
            self._control.append(message)
            self.pump()

    def close(self) -> None:
        """Send what control messages the socket still takes at once, then end the connection."""
        if self.closed or self.closing:
            return
        if not self._blocked_by_update():
            self.outlets.clear()
            self.pump()
        self._shut()

    def pump(self) -> None:
        """Send until the socket takes no more, or there is nothing left, or others should have a turn."""
        if self.closed or self._writing:
            return
        for _ in range(WRITES_A_TURN):
            buffers, outlet = self._next_buffers()
            if not buffers:
                return
            try:
                sent = self._sock.sendmsg(buffers)
            except BlockingIOError:
                self._wait_writable()
                return
            except OSError as error:
                # Not from here: the owner may be in the middle of its own work on this connection.
                self._loop.call_soon(self._lost, _explain(error))
                self.outlets.clear()
                self._control.clear()
                return
            self.octets_out += sent
            if outlet is not None:
                outlet.advance(sent)
            else:
                self._control_sent(sent)
        self._wait_writable()

    def _next_buffers(self) -> tuple[Sequence[Buffer], Outlet | None]:
        """What to send next, and the outlet it is from (None: control messages)."""
        if self._part:
            return self._control_buffers(), None
        for outlet in self.outlets:
            if not outlet.at_message_boundary:
                if self._control:
                    return outlet.collect_to_boundary(), outlet
                return outlet.collect(WRITE_OCTETS)[:MAX_BUFFERS], outlet
        if self._control:
            return self._control_buffers(), None
        for outlet in self.outlets:
            buffers = outlet.collect(WRITE_OCTETS)
            if buffers:
                return buffers[:MAX_BUFFERS], outlet
        return (), None

    def _control_buffers(self) -> list[Buffer]:
        first, *rest = self._control
        return [memoryview(first)[self._part :], *rest]

    def _control_sent(self, sent: int) -> None:
        sent += self._part
        while self._control and sent >= len(self._control[0]):
            sent -= len(self._control.popleft())
        self._part = sent

    def _blocked_by_update(self) -> bool:
        return self._writing and any(not outlet.at_message_boundary for outlet in self.outlets)

    def _wait_writable(self) -> None:
        self._writing = True
        self._loop.add_writer(self._sock.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        self._writing = False
        self.pump()

    def _on_readable(self) -> None:
        try:
            count = self._sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(_explain(error))
            return
        if count == 0:
            self._lost("closed by the peer")
            return
        self.octets_in += count
        self._handler.on_bytes(self, self._buffer[:count])

    def _lost(self, reason: str) -> None:
        if not self.closed:
            self._shut()
            self._handler.on_lost(self, reason)

    def _shut(self) -> None:
        self.closed = True
        self.outlets = []
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()


def _endpoint(name: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    return Endpoint(plain_address(name[0]), name[1])


def _explain(error: OSError) -> str:
    return error.strerror or errno.errorcode.get(error.errno or 0, str(error))


AcceptCallback = Callable[[Link], None]


class Listener:
    """Accepts connections on one address and port; all that wait are taken in one turn of the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, on_accept: AcceptCallback
    ) -> None:
        """Raises OSError where the address and port cannot be had."""
        self._loop = loop
        self._on_accept = on_accept
        sock = socket.socket(_family(endpoint.address), socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if endpoint.address.version == 6:
                # The IPv4 socket is another one, so that each can be bound, and fail, by itself.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((str(endpoint.address), endpoint.port))
            sock.listen(LISTEN_BACKLOG)
        except OSError:
            sock.close()
            raise
        self._sock = sock
        self.endpoint = _endpoint(sock.getsockname())
        loop.add_reader(sock.fileno(), self._on_readable)

    def close(self) -> None:
        """Accept no more."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _on_readable(self) -> None:
        while True:
            try:
                sock, name = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # Out of descriptors: the backlog stays readable, so look again only after a while.
                    self._loop.remove_reader(self._sock.fileno())
                    self._loop.call_later(0.1, self._resume)
                    return
                continue  # the peer was gone before it was accepted
            try:
                _prepare(sock)
                self._on_accept(Link(sock, _endpoint(sock.getsockname()), _endpoint(name)))
            except OSError:
                sock.close()

    def _resume(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock.fileno(), self._on_readable)


DialDone = Callable[[Link | None, str], None]


class Dial:
    """One attempt to connect; `done` gets the connection, or None and the reason."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        remote: Endpoint,
        source: Address | None,
        done: DialDone,
        *,
        timeout: float,
    ) -> None:
        self._loop = loop
        self._done = done
        self._sock: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        sock = socket.socket(_family(remote.address), socket.SOCK_STREAM)
        self._sock = sock
        try:
            _prepare(sock)
            if source is not None:
                sock.bind((str(source), 0))
            code = sock.connect_ex((str(remote.address), remote.port))
        except OSError as error:
            loop.call_soon(self._finish, _explain(error))
            return
        if code not in (0, errno.EINPROGRESS):
            loop.call_soon(self._finish, os.strerror(code))
            return
        loop.add_writer(sock.fileno(), self._on_writable)
        self._timer = loop.call_later(timeout, self._finish, "timed out")

    def close(self) -> None:
        """Give up without a word to `done`."""
        sock = self._release()
        if sock is not None:
            sock.close()

    def _on_writable(self) -> None:
        assert self._sock is not None
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._finish(os.strerror(code))
            return
        sock = self._release()
        if sock is None:
            return
        try:
            link = Link(sock, _endpoint(sock.getsockname()), _endpoint(sock.getpeername()))
        except OSError as error:  # the other end is gone already
            sock.close()
            self._done(None, _explain(error))
        else:
            self._done(link, "")

    def _finish(self, reason: str) -> None:
        sock = self._release()
        if sock is not None:
            sock.close()
            self._done(None, reason)

    def _release(self) -> socket.socket | None:
        sock, self._sock = self._sock, None
        if self._timer is not None:
            self._timer.cancel()
        if sock is not None:
            self._loop.remove_writer(sock.fileno())
        return sock


class Closable(Protocol):
    """Something that accepts, or dials, until it is told to end."""

    def close(self) -> None:
        """End it."""


class Network(Protocol):
    """How a speaker reaches others; `TcpNetwork`, or one in memory in the tests."""

    def listen(self, endpoint: Endpoint, on_accept: AcceptCallback) -> Closable:
        """Accept connections. Raises OSError where the endpoint cannot be had."""

    def dial(self, remote: Endpoint, source: Address | None, done: DialDone) -> Closable:
        """Try to connect; `done` is called later, and not at all after `close`."""


class TcpNetwork:
    """TCP, as the kernel gives it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def listen(self, endpoint: Endpoint, on_accept: AcceptCallback) -> Closable:
        """See `Network`."""
        return Listener(self._loop, endpoint, on_accept)

    def dial(self, remote: Endpoint, source: Address | None, done: DialDone) -> Closable:
        """See `Network`."""
        return Dial(self._loop, remote, source, done, timeout=DIAL_TIMEOUT)


def reset(sock: socket.socket) -> None:
    """Refuse an accepted connection with a TCP RST, so that it holds no state here and the peer knows at
    once."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
