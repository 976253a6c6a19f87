"""Many BGP sessions in one process and one thread, for benchmarks that need more than a load generator.

They keep short timers, join, flap, stop reading and misbehave, and they know what they were told. Routes are
numbered: route `i` is the host prefix 10.0.0.0 + i (/32), and its version is in MED. So a session's table is
an array of numbers, all tables can be compared with each other and with what was said, and a hundred thousand
routes at five hundred sessions fit into memory. The codec is small and of its own.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import socket
import struct
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

MARKER = b"\xff" * 16
OPEN, UPDATE, NOTIFICATION, KEEPALIVE = 1, 2, 3, 4
KEEPALIVE_MESSAGE = MARKER + b"\0\x13\x04"
FIRST_ROUTE = 10 << 24
_MED = 4
_READ_OCTETS = 256 * 1024
#: No session is read for longer before the timers are looked at again, seconds.
_READ_TIME = 0.05
#: UPDATEs up to this size are decoded once for all sessions; so many of them.
_REMEMBERED_OCTETS = 1200
_REMEMBERED = 10_000
#: A full UPDATE has room for so many host prefixes beside the attributes.
_ROUTES_A_MESSAGE = 790


def message(kind: int, body: bytes = b"") -> bytes:
    """A whole message with its header (RFC 4271 section 4.1)."""
    return MARKER + struct.pack("!HB", 19 + len(body), kind) + body


def open_message(asn: int, identifier: bytes, hold_time: int, four_octet_as: bool = True) -> bytes:
    """An OPEN for IPv4 unicast, with route refresh."""
    capabilities = b"\x01\x04\0\1\0\1" + b"\x02\0"
    if four_octet_as:
        capabilities += b"\x41\x04" + asn.to_bytes(4)
    parameter = bytes((2, len(capabilities))) + capabilities
    head = struct.pack("!BHH", 4, asn if asn < 65536 else 23456, hold_time)
    return message(OPEN, head + identifier + bytes((len(parameter),)) + parameter)


def nlri(routes: Iterable[int]) -> bytes:
    """The prefixes of these routes."""
    return b"".join(b"\x20" + (FIRST_ROUTE + route).to_bytes(4) for route in routes)


def announcement(routes: Sequence[int], version: int, next_hop: bytes, extra: bytes = b"") -> bytes:
    """UPDATEs that announce routes in one version. `extra`: more path attributes, of higher type codes."""
    attributes = (
        b"\x40\x01\x01\0\x40\x02\0\x40\x03\x04"
        + next_hop
        + b"\x80\x04\x04"
        + version.to_bytes(4)
        + b"\x40\x05\x04\0\0\0\x64"
        + extra
    )
    head = b"\0\0" + struct.pack("!H", len(attributes)) + attributes
    return b"".join(
        message(UPDATE, head + nlri(routes[at : at + _ROUTES_A_MESSAGE]))
        for at in range(0, len(routes), _ROUTES_A_MESSAGE)
    )


def withdrawal(routes: Sequence[int]) -> bytes:
    """UPDATEs that withdraw routes."""
    return b"".join(
        message(UPDATE, struct.pack("!H", 5 * len(some)) + nlri(some) + b"\0\0")
        for some in (routes[at : at + _ROUTES_A_MESSAGE] for at in range(0, len(routes), _ROUTES_A_MESSAGE))
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """What all sessions of a fleet have in common."""

    port: int
    target: str = "127.0.0.1"
    asn: int = 64512
    hold_time: int = 90
    routes: int = 0
    """How many routes there may be; 0: tables are not kept, octets are only counted."""
    four_octet_as: bool = True


@dataclass(slots=True)
class Counts:
    """What happened to a fleet's sessions."""

    established: int = 0
    lost: int = 0
    """Sessions that were Established and ended although nobody here wanted it."""
    refused: int = 0
    """Connections that ended before they were Established."""
    expired: int = 0
    """Sessions on which nothing came for the hold time; they are among the lost."""
    octets: int = 0
    updates: int = 0
    foreign: int = 0
    """Routes that cannot be: of a number that there is not."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Why sessions were lost, and how often."""


class Session:
    """One session of a fleet; `number` gives it its address and BGP identifier."""

    __slots__ = (
        "_buffer",
        "_fleet",
        "_out",
        "_since",
        "address",
        "established",
        "heard_at",
        "may_go",
        "number",
        "opened",
        "own",
        "paused",
        "sock",
        "table",
    )

    def __init__(self, fleet: Fleet, number: int, address: str) -> None:
        self._fleet = fleet
        self._buffer = b""
        self._out = bytearray()
        self._since = 0.0
        self.number = number
        self.address = address
        self.sock: socket.socket | None = None
        self.opened = False
        """The other end's OPEN has come."""
        self.established = False
        self.heard_at = 0.0
        self.paused = False
        self.may_go = False
        """The other end may end it, without that it counts as lost."""
        self.own = range(0)
        """The routes that it announces: it must not hold them from others."""
        self.table: array[int] = array("I")

    @property
    def connected(self) -> bool:
        """True from the connect until the connection ends."""
        return self.sock is not None

    @property
    def next_hop(self) -> bytes:
        """Itself."""
        return IPv4Address(self.address).packed

    def connect(self) -> None:
        """Dial and send the OPEN. Raises OSError where that fails at once."""
        settings = self._fleet.settings
        sock = socket.socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Otherwise the port is chosen at bind, and thousands of addresses compete for one pool.
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.bind((self.address, 0))
            sock.settimeout(5.0)
            sock.connect((settings.target, settings.port))
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        self.sock = sock
        self._buffer = b""
        self._out = bytearray()
        self._since = self.heard_at = time.monotonic()
        self.may_go = False
        self.table = array("I", bytes(4 * settings.routes))
        self._fleet._register(self)
        self.send(self._open())

    def close(self) -> None:
        """End the connection without a word."""
        if self.sock is not None:
            self._fleet._unregister(self)
            self.sock.close()
            self.sock = None
            self.opened = self.established = False

    def pause(self, paused: bool = True) -> None:
        """Read no more, or go on."""
        self.paused = paused
        self._fleet._interest(self)

    def send(self, data: bytes) -> None:
        """Send octets, or keep them until the socket takes them."""
        self._out += data
        self.flush()

    def flush(self) -> None:
        """Send what was kept."""
        if self.sock is None:
            return
        try:
            while self._out:
                sent = self.sock.send(memoryview(self._out)[:1048576])
                del self._out[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            self._fleet._lost(self, os.strerror(error.errno or 0))
            return
        self._fleet._interest(self)

    @property
    def backlog(self) -> int:
        """Octets that wait to be sent."""
        return len(self._out)

    def announce(self, routes: Iterable[int], version: int, extra: bytes = b"") -> None:
        """Announce routes in a version (not 0)."""
        self.send(announcement(list(routes), version, self.next_hop, extra))

    def withdraw(self, routes: Iterable[int]) -> None:
        """Withdraw routes."""
        self.send(withdrawal(list(routes)))

    def held(self) -> int:
        """How many routes it holds."""
        return len(self.table) - self.table.count(0)

    def _open(self) -> bytes:
        settings = self._fleet.settings
        identifier = (0xAC100000 + self.number).to_bytes(4)
        return open_message(settings.asn, identifier, settings.hold_time, settings.four_octet_as)

    def _read(self) -> None:
        """Take what is there."""
        assert self.sock is not None
        try:
            data = self.sock.recv(_READ_OCTETS)
        except BlockingIOError:
            return
        except OSError as error:
            self._fleet._lost(self, os.strerror(error.errno or 0))
            return
        if not data:
            self._fleet._lost(self, "closed by the other end")
            return
        fleet = self._fleet
        fleet.counts.octets += len(data)
        self.heard_at = time.monotonic()
        buffer = self._buffer + data if self._buffer else data
        at, end = 0, len(buffer)
        while end - at >= 19:
            length = buffer[at + 16] << 8 | buffer[at + 17]
            if end - at < length:
                break
            kind = buffer[at + 18]
            if kind == UPDATE:
                fleet.counts.updates += 1
                if self.table:
                    self._take(buffer[at + 19 : at + length])
            elif kind == KEEPALIVE:
                if not self.established:
                    self.established = True
                    fleet._established(self)
            elif kind == OPEN:
                self.opened = True
                self.send(KEEPALIVE_MESSAGE)
            elif kind == NOTIFICATION:
                fleet._lost(self, f"NOTIFICATION {buffer[at + 19]}/{buffer[at + 20]}")
                return
            at += length
        self._buffer = buffer[at:]

    def _take(self, body: bytes) -> None:
        """One UPDATE."""
        fleet, table = self._fleet, self.table
        said = fleet.decoded.get(body)
        if said is None:
            said = _decode(body, len(table))
            if len(body) <= _REMEMBERED_OCTETS:
                if len(fleet.decoded) >= _REMEMBERED:
                    fleet.decoded.clear()
                fleet.decoded[body] = said
        fleet.counts.foreign += said.foreign
        for routes, version in said.runs:
            if len(routes) == 1:
                table[routes.start] = version
            else:
                table[routes.start : routes.stop] = array("I", (version,)) * len(routes)


@dataclass(frozen=True, slots=True)
class _Said:
    """What an UPDATE says: runs of routes with their versions, in order; 0: withdrawn."""

    runs: tuple[tuple[range, int], ...]
    foreign: int


def _decode(body: bytes, routes: int) -> _Said:
    """An UPDATE's body, where there are so many routes."""
    withdrawn = body[0] << 8 | body[1]
    at = 2 + withdrawn
    stop = at + 2 + (body[at] << 8 | body[at + 1])
    runs = _runs(body[2 : 2 + withdrawn], 0)
    at += 2
    version = 0
    while at < stop:
        flags, code = body[at], body[at + 1]
        if flags & 0x10:
            length, at = body[at + 2] << 8 | body[at + 3], at + 4
        else:
            length, at = body[at + 2], at + 3
        if code == _MED:
            version = int.from_bytes(body[at : at + length])
        at += length
    runs += _runs(body[stop:], version)
    known = [(run, version) for run, version in runs if run.start >= 0 and run.stop <= routes]
    return _Said(tuple(known), len(runs) - len(known))


def _runs(nlri: bytes, version: int) -> list[tuple[range, int]]:
    """Host prefixes as runs of route numbers that follow one another."""
    found: list[tuple[range, int]] = []
    start = stop = -1
    for at in range(0, len(nlri), 5):
        route = int.from_bytes(nlri[at + 1 : at + 5]) - FIRST_ROUTE if nlri[at] == 32 else -2
        if route == stop:
            stop += 1
            continue
        if stop != -1:
            found.append((range(start, stop), version))
        start, stop = route, route + 1
    if stop != -1:
        found.append((range(start, stop), version))
    return found


class Fleet:
    """Sessions by number, their sockets and their timers. `run` does all the work."""

    def __init__(self, settings: Settings, first_address: str = "127.1.0.1") -> None:
        self.settings = settings
        self.sessions: list[Session] = []
        self.counts = Counts()
        self.on_established: Callable[[Session], None] | None = None
        self.decoded: dict[bytes, _Said] = {}
        """UPDATEs that came not long ago: all sessions get the same ones, and one decodes them."""
        self._first = int(IPv4Address(first_address))
        self._epoll = select.epoll()
        self._by_fd: dict[int, Session] = {}
        self._timers: list[tuple[float, int, Session, socket.socket]] = []
        self._order = itertools.count()
        self._latest = 0.0
        """By how much this process was late with a keepalive, at most."""

    @property
    def latest(self) -> float:
        """By how many seconds a KEEPALIVE of ours was late, at most: where that is more than the hold time
        allows, a lost session is this process's own fault."""
        return self._latest

    def add(self, count: int) -> list[Session]:
        """So many more sessions, not connected."""
        known = len(self.sessions)
        new = [Session(self, n, str(IPv4Address(self._first + n))) for n in range(known, known + count)]
        self.sessions += new
        return new

    def established(self) -> int:
        """How many sessions are up."""
        return sum(session.established for session in self.sessions)

    def connect(self, sessions: Iterable[Session], at_once: int = 50, timeout: float = 60.0) -> None:
        """Bring sessions up, so many handshakes at a time. Raises TimeoutError, and OSError where one
        is refused."""
        waiting = [session for session in sessions if not session.connected]
        for first in range(0, len(waiting), at_once):
            some = waiting[first : first + at_once]
            for session in some:
                session.connect()
            self._wait_established(some, timeout)

    def _wait_established(self, some: list[Session], timeout: float) -> None:
        def up() -> bool:
            for one in some:
                if not one.connected:
                    raise ConnectionError(f"session {one.number} was ended before it was up")
            return all(one.established for one in some)

        self.run_until(up, timeout, "sessions up")

    def run_until(self, condition: Callable[[], bool], timeout: float, what: str = "") -> float:
        """Work until the condition holds; returns how long it took. Raises TimeoutError."""
        begun = time.monotonic()
        while not condition():
            if time.monotonic() - begun > timeout:
                raise TimeoutError(f"{what or 'condition'}: not within {timeout:g} s")
            self.run(0.002)
        return time.monotonic() - begun

    def run(self, seconds: float) -> None:
        """Work for so long: read, write, keep the sessions alive."""
        end = time.monotonic() + seconds
        while True:
            now = self._keep_alive()
            wait = min(end, self._timers[0][0] if self._timers else end) - now
            events = self._epoll.poll(max(0.0, wait), 64)
            begun = time.monotonic()
            for fd, what in events:
                session = self._by_fd.get(fd)
                if session is None:
                    continue
                if what & select.EPOLLOUT:
                    session.flush()
                if what & ~select.EPOLLOUT and session.sock is not None:
                    session._read()
                if time.monotonic() - begun > _READ_TIME:
                    break  # the others are still readable, and come first the next time
            if time.monotonic() >= end:
                return

    def close(self) -> None:
        """End everything."""
        for session in self.sessions:
            session.close()
        self._epoll.close()

    def _keep_alive(self) -> float:
        now = time.monotonic()
        interval = self.settings.hold_time / 3
        while self._timers and self._timers[0][0] <= now:
            due, _, session, sock = heapq.heappop(self._timers)
            if session.sock is not sock:
                continue
            self._latest = max(self._latest, now - due)
            if self.settings.hold_time and not session.paused:
                silent = now - max(session.heard_at, session._since)
                if silent > self.settings.hold_time and not self._readable(session):
                    self.counts.expired += 1
                    self._lost(session, "hold timer expired here")
                    continue
            if session.opened:
                session.send(KEEPALIVE_MESSAGE)
            heapq.heappush(self._timers, (now + interval, next(self._order), session, sock))
        return now

    def _readable(self, session: Session) -> bool:
        assert session.sock is not None
        poll = select.poll()
        poll.register(session.sock, select.POLLIN)
        return bool(poll.poll(0))

    def _register(self, session: Session) -> None:
        assert session.sock is not None
        fd = session.sock.fileno()
        self._by_fd[fd] = session
        self._epoll.register(fd, select.EPOLLIN)
        if self.settings.hold_time:
            due = time.monotonic() + self.settings.hold_time / 3
            heapq.heappush(self._timers, (due, next(self._order), session, session.sock))

    def _unregister(self, session: Session) -> None:
        assert session.sock is not None
        fd = session.sock.fileno()
        self._by_fd.pop(fd, None)
        self._epoll.unregister(fd)

    def _interest(self, session: Session) -> None:
        if session.sock is not None:
            reading = 0 if session.paused else select.EPOLLIN
            writing = select.EPOLLOUT if session._out else 0
            self._epoll.modify(session.sock.fileno(), reading | writing)

    def _established(self, session: Session) -> None:
        self.counts.established += 1
        if self.on_established is not None:
            self.on_established(session)

    def _lost(self, session: Session, reason: str) -> None:
        """The other end ended it, or TCP did."""
        if session.established and not session.may_go:
            self.counts.lost += 1
            self.counts.reasons[reason] = self.counts.reasons.get(reason, 0) + 1
        elif not session.established:
            self.counts.refused += 1
        session.close()
