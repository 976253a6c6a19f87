"""Connections on the event loop: read and write for the sans-IO sessions.

Raw non-blocking sockets, not asyncio streams: what a thousand peers must be
sent is the same few slices of an export group's log, and `sendmsg` takes them
as they are. Nothing here knows a BGP message; the reader hands bytes on, and
the writer sends control messages first, then what the outlets hold.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Protocol

from routed.bgp.route import Address
from routed.bgp.tcp_options import Progress, progress, set_hops, set_key
from routed.secret import SecretValue

#: One read; big enough that a full UPDATE burst of a peer is parsed in one go, small enough that no
#: peer keeps the loop from the others for long.
READ_OCTETS = 256 * 1024
#: One write. Linux takes at most 1,024 buffers (UIO_MAXIOV) in one sendmsg.
WRITE_OCTETS = 256 * 1024
MAX_BUFFERS = 1024
#: Writes of one connection before it lets the others have a turn. A range is there once, not once a change
#: and peer.
_WRITES_A_TURN = range(4)

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

    def advance(self, sent: int) -> bool:
        """So many octets of the last `collect` are on their way. True where there may be more to send."""


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

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """`ADDR:PORT` or `[IPV6]:PORT`. Raises ValueError, which says what to write, where it is neither."""
        address, _, port = text.rpartition(":")
        if address.startswith("[") and address.endswith("]"):
            address = address[1:-1]
        elif ":" in address:
            raise ValueError("put an IPv6 address in brackets, [ADDR]:PORT")
        try:
            result = cls(ip_address(address), int(port))
        except ValueError:
            raise ValueError("write ADDR:PORT, such as 127.0.0.1:1790, or [::1]:1790") from None
        if not 1 <= result.port <= 65535:
            raise ValueError("a port is 1 to 65535")
        return result


def plain_address(text: str) -> Address:
    """The address in a socket name: a scope is cut off, an IPv4-mapped one is IPv4.

    Raises ValueError where it is none."""
    address = ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


class LinkControl(Protocol):
    """What can be changed on, and learned of, a connection below the octets that it carries."""

    def set_key(self, key: SecretValue | None) -> None:
        """Sign with another TCP-MD5 key from now on; None: with none. Raises OSError."""

    def set_hops(self, hops: int | None) -> None:
        """GTSM with so many hops; None: without. Raises OSError."""

    def progress(self) -> Progress:
        """What has happened so far."""


class NoControl:
    """Of a connection that is not TCP: nothing can be set, and nothing is known."""

    def set_key(self, key: SecretValue | None) -> None:
        """Does nothing."""

    def set_hops(self, hops: int | None) -> None:
        """Does nothing."""

    def progress(self) -> Progress:
        """Nothing has happened."""
        return Progress(0, 0, 0, 0)


class TcpControl:
    """The options of one connected TCP socket."""

    __slots__ = ("_remote", "_sock")

    def __init__(self, sock: socket.socket, remote: Address) -> None:
        self._sock = sock
        self._remote = ip_network(remote)

    def set_key(self, key: SecretValue | None) -> None:
        """See `LinkControl`."""
        set_key(self._sock, self._remote, key)

    def set_hops(self, hops: int | None) -> None:
        """See `LinkControl`."""
        set_hops(self._sock, hops)

    def progress(self) -> Progress:
        """See `LinkControl`."""
        return progress(self._sock)


@dataclass(frozen=True, slots=True)
class Link:
    """A connected socket, non-blocking, and its two ends."""

    sock: socket.socket
    local: Endpoint
    remote: Endpoint
    control: LinkControl = field(default_factory=NoControl)


@dataclass(slots=True)
class Traffic:
    """Octets of BGP."""

    received: int = 0
    sent: int = 0


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
        "_traffic",
        "_unacknowledged",
        "_unfinished",
        "_writing",
        "blocked_since",
        "closed",
        "closing",
        "control",
        "key",
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
        traffic: Traffic | None = None,
    ) -> None:
        """`buffer` is read into; `traffic` gets what was received and sent once the connection is over."""
        self._loop = loop
        self._sock = sock = link.sock
        self._handler = handler
        self._buffer = buffer
        self._traffic = traffic or Traffic()
        self._control: list[bytes] = []
        self._part = 0  # octets of _control[0] that are sent
        self._unfinished: Outlet | None = None  # in the middle of a message of this one
        self._writing = False
        self.closed = False
        self.closing = False
        self.control = link.control
        self.key: SecretValue | None = None
        """The TCP-MD5 key that its socket has, or goes back to after a trial of another one."""
        self.blocked_since: float | None = None
        """Since when (the loop's time) the socket has taken nothing of what there is to send."""
        self._unacknowledged: tuple[int, float] = (-1, 0.0)
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
        for _ in _WRITES_A_TURN:
            outlet: Outlet | None
            if self._control or self._unfinished is not None:
                buffers, outlet = self._first_buffers()
            else:
                for outlet in self.outlets:
                    buffers = outlet.collect(WRITE_OCTETS)
                    if buffers:
                        break
                else:
                    return
            try:
                # A change that goes to a thousand peers is a thousand of these: one buffer each, as a rule,
                # for which `send` is a tenth faster.
                if len(buffers) == 1:
                    sent = self._sock.send(buffers[0])
                else:
                    sent = self._sock.sendmsg(buffers[:MAX_BUFFERS])
            except BlockingIOError:
                if self.blocked_since is None:
                    self.blocked_since = self._loop.time()
                self._wait_writable()
                return
            except OSError as error:
                # Not from here: the owner may be in the middle of its own work on this connection.
                self._loop.call_soon(self._lost, explain(error))
                self.outlets.clear()
                self._control.clear()
                self._unfinished = None
                return
            self.octets_out += sent
            self.blocked_since = None
            if outlet is None:
                self._control_sent(sent)
            elif outlet.advance(sent):
                self._unfinished = None if outlet.at_message_boundary else outlet
            else:
                self._unfinished = None
                if outlet is self.outlets[-1] and not self._control:
                    return  # The others had nothing before this one: no need to ask all of them again.
        self._wait_writable()

    def stalled_since(self) -> float | None:
        """Since when (the loop's time) the peer has taken nothing, though there was something to send; None:
        it takes what there is. What TCP itself holds is only known from one call to the next."""
        if self.blocked_since is not None or self.closed:
            return self.blocked_since
        progress = self.control.progress()
        acknowledged, since = self._unacknowledged
        if progress.waiting and progress.acknowledged == acknowledged:
            return since
        self._unacknowledged = (progress.acknowledged if progress.waiting else -1, self._loop.time())
        return None

    def _first_buffers(self) -> tuple[Sequence[Buffer], Outlet | None]:
        """What goes before all else: the rest of a message that is begun, then control messages. With the
        outlet it is from (None: control messages)."""
        unfinished = self._unfinished
        if unfinished is None or self._part:
            return self._control_buffers(), None
        if self._control:
            return unfinished.collect_to_boundary(), unfinished
        return unfinished.collect(WRITE_OCTETS), unfinished

    def _control_buffers(self) -> list[Buffer]:
        first, *rest = self._control
        return [memoryview(first)[self._part :], *rest]

    def _control_sent(self, sent: int) -> None:
        sent += self._part
        whole = 0
        for message in self._control:
            if sent < len(message):
                break
            sent -= len(message)
            whole += 1
        del self._control[:whole]
        self._part = sent

    def _blocked_by_update(self) -> bool:
        return self._writing and self._unfinished is not None

    def _wait_writable(self) -> None:
        self._writing = True
        self._loop.add_writer(self._sock.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        self._writing = False
        self.pump()

    def read(self) -> None:
        """Take what the socket has now, if anything: for a hold timer that is due while the loop had no time
        to look at this socket."""
        if not self.closed:
            self._on_readable()

    def _on_readable(self) -> None:
        try:
            count = self._sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(explain(error))
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
        self._traffic.received += self.octets_in
        self._traffic.sent += self.octets_out
        self.outlets = []
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()


def endpoint_of(name: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    """The endpoint that a socket name of either family stands for."""
    return Endpoint(plain_address(name[0]), name[1])


def explain(error: OSError) -> str:
    """The error in words."""
    return error.strerror or errno.errorcode.get(error.errno or 0, str(error))


def reset(sock: socket.socket) -> None:
    """Refuse an accepted connection with a TCP RST, so that it holds no state here and the peer knows at
    once."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
