"""How connections come to be: listen and accept, dial; on sockets that are protected as peers want it."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Final, Protocol

from routed.bgp.nlri import Network as Prefix
from routed.bgp.route import Address
from routed.bgp.tcp_options import GTSM_TTL, TcpOptions, set_hops, set_key, set_ttl, waiting_connections
from routed.bgp.transport import Endpoint, Link, TcpControl, endpoint_of, explain, reset
from routed.secret import SecretValue

LISTEN_BACKLOG: Final = 4096
#: Connections that are accepted before all else has its turn: who connects without end must not have the loop
#: for itself.
ACCEPTS_A_TURN: Final = 256
#: File descriptors that accepted connections leave for all else: dials, files, netlink.
RESERVED_DESCRIPTORS: Final = 32
#: How long to wait before more is accepted when there are no file descriptors left, seconds.
EXHAUSTED_TIME: Final = 0.1


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    # A BGP message is worth sending at once: batches are made before they come here.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _link(sock: socket.socket, remote: Endpoint) -> Link:
    return Link(sock, endpoint_of(sock.getsockname()), remote, TcpControl(sock, remote.address))


AcceptCallback = Callable[[Link], None]
ExhaustedCallback = Callable[[int, OSError | None], None]
"""Gets how many connections wait at least for a file descriptor, and the error where there was one."""


class Listener:
    """Accepts connections on one address and port, many in one turn of the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoint: Endpoint,
        on_accept: AcceptCallback,
        on_exhausted: ExhaustedCallback,
        keys: Mapping[Prefix, SecretValue],
    ) -> None:
        """`keys`: TCP-MD5 keys by the addresses of peers. One that cannot be set is in `refused`.

        Raises OSError where the address and port cannot be had."""
        self._loop = loop
        self._on_accept = on_accept
        self._on_exhausted = on_exhausted
        self._resume_timer: asyncio.TimerHandle | None = None
        self.refused: dict[Prefix, OSError] = {}
        """Addresses whose key could not be set: what they send is not checked."""
        sock = self._sock = socket.socket(_family(endpoint.address), socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if endpoint.address.version == 6:
                # The IPv4 socket is another one, so that each can be bound, and fail, by itself.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # A peer with GTSM takes no SYN-ACK with a lower one; each accepted connection gets its own.
            set_ttl(sock, GTSM_TTL)
            sock.bind((str(endpoint.address), endpoint.port))
            for remote, key in keys.items():
                self.set_key(remote, key)
            sock.listen(LISTEN_BACKLOG)
        except OSError:
            sock.close()
            raise
        self.endpoint = endpoint_of(sock.getsockname())
        loop.add_reader(sock.fileno(), self._accept_some)

    def set_key(self, remote: Prefix, key: SecretValue | None) -> None:
        """Want segments from these addresses signed with this key; None: with none. Established connections
        keep the key that they have. Connections that wait are accepted first: they have the old key."""
        if self._sock.family != (socket.AF_INET if remote.version == 4 else socket.AF_INET6):
            return
        self.refused.pop(remote, None)
        try:
            set_key(self._sock, remote, key)
        except OSError as error:
            self.refused[remote] = error

    def accept_waiting(self) -> None:
        """Accept what waits, now."""
        for _ in range(LISTEN_BACKLOG // ACCEPTS_A_TURN):
            if self._resume_timer is not None or not self._accept_some():
                return

    def close(self) -> None:
        """Accept what waits, and no more."""
        if self._sock.fileno() >= 0:
            self.accept_waiting()
            if self._resume_timer is not None:
                self._resume_timer.cancel()
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _accept_some(self) -> bool:
        """True where more may wait."""
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, name = self._sock.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause(error)
                    return False
                continue  # the peer was gone before it was accepted
            if sock.fileno() >= descriptors_for_connections():  # it is the lowest that was free
                reset(sock)
                self._pause(None)
                return False
            try:
                _prepare(sock)
                self._on_accept(_link(sock, endpoint_of(name)))
            except OSError:
                sock.close()
        return True

    def _pause(self, error: OSError | None) -> None:
        """Out of descriptors: the backlog stays readable, so look again only after a while."""
        waiting = waiting_connections(self._sock)
        self._loop.remove_reader(self._sock.fileno())
        self._resume_timer = self._loop.call_later(EXHAUSTED_TIME, self._resume)
        self._on_exhausted(waiting + (error is None), error)

    def _resume(self) -> None:
        self._resume_timer = None
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock.fileno(), self._accept_some)


def descriptors_for_connections() -> int:
    """How many of this process' file descriptors may be in use before no more connections are accepted."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return 1 << 30
    return limit - min(RESERVED_DESCRIPTORS, limit // 4)


DialDone = Callable[[Link | None, str], None]


class Dial:
    """One attempt to connect; `done` gets the connection, or None and the reason."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        remote: Endpoint,
        source: Address | None,
        done: DialDone,
        options: TcpOptions,
    ) -> None:
        self._loop = loop
        self._done = done
        self._options = options
        self._sock: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        try:
            sock = self._sock = self._open(remote, source)
            code = sock.connect_ex((str(remote.address), remote.port))
        except OSError as error:
            loop.call_soon(self._finish, explain(error))
            return
        if code not in (0, errno.EINPROGRESS):
            loop.call_soon(self._finish, os.strerror(code))
            return
        loop.add_writer(sock.fileno(), self._on_writable)
        self._timer = loop.call_later(options.connect_time, self._timed_out)

    def _open(self, remote: Endpoint, source: Address | None) -> socket.socket:
        sock = socket.socket(_family(remote.address), socket.SOCK_STREAM)
        try:
            _prepare(sock)
            if self._options.key is not None:
                set_key(sock, ip_network(remote.address), self._options.key)
            set_hops(sock, self._options.hops)
            if source is not None:
                sock.bind((str(source), 0))
        except OSError:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """Give up without a word to `done`."""
        self._over = True
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
            link = _link(sock, endpoint_of(sock.getpeername()))
        except OSError as error:  # the other end is gone already
            sock.close()
            self._done(None, explain(error))
        else:
            self._done(link, "")

    def _timed_out(self) -> None:
        # Segments that are signed wrongly, or come from too far away, are dropped without a word.
        hints = ["the password at the other end"] if self._options.key is not None else []
        hints += ["its TTL security"] if self._options.hops is not None else []
        self._finish(f"timed out (is {' and '.join(hints)} the same?)" if hints else "timed out")

    def _finish(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
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


class Listening(Closable, Protocol):
    """An endpoint where connections are accepted."""

    refused: dict[Prefix, OSError]
    """Addresses whose key could not be set: what they send is not checked."""

    def set_key(self, remote: Prefix, key: SecretValue | None) -> None:
        """Want segments from these addresses signed with this key; None: with none."""

    def accept_waiting(self) -> None:
        """Accept what waits, now."""


class Network(Protocol):
    """How a speaker reaches others; `TcpNetwork`, or one in memory in the tests."""

    def listen(
        self,
        endpoint: Endpoint,
        on_accept: AcceptCallback,
        on_exhausted: ExhaustedCallback,
        keys: Mapping[Prefix, SecretValue],
    ) -> Listening:
        """Accept connections. Raises OSError where the endpoint cannot be had."""

    def dial(self, remote: Endpoint, source: Address | None, done: DialDone, options: TcpOptions) -> Closable:
        """Try to connect; `done` is called later, and not at all after `close`."""


class TcpNetwork:
    """TCP, as the kernel gives it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def listen(
        self,
        endpoint: Endpoint,
        on_accept: AcceptCallback,
        on_exhausted: ExhaustedCallback,
        keys: Mapping[Prefix, SecretValue],
    ) -> Listening:
        """See `Network`."""
        return Listener(self._loop, endpoint, on_accept, on_exhausted, keys)

    def dial(self, remote: Endpoint, source: Address | None, done: DialDone, options: TcpOptions) -> Closable:
        """See `Network`."""
        return Dial(self._loop, remote, source, done, options)
