"""A BGP peer that is told octet by octet what to say, and writes down whatever it hears.

It has a codec of its own, so that routed is not measured with its own ruler, and it makes no decisions: it
answers OPEN with KEEPALIVE, keeps the session alive, and sends what a test gives it, sound or not. It
listens, and dials where it is told to. What it can do besides: offer any capability, use TCP-MD5 or a TTL of
one's choice, stop reading, and vanish without a word.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.netns import Machine, wait_for
from tests.recorder import Kind, Message

MARKER = b"\xff" * 16
_HEADER = struct.Struct("!16sHB")
#: linux/tcp.h: TCP_MD5SIG takes a struct tcp_md5sig, whose address is a sockaddr_storage.
_TCP_MD5SIG = 14
_MD5SIG = struct.Struct("128sBBHi80s")

# Path attribute types (IANA, "BGP Path Attributes").
ORIGIN, AS_PATH, NEXT_HOP, MED, LOCAL_PREF, ATOMIC_AGGREGATE, AGGREGATOR, COMMUNITIES = range(1, 9)
ORIGINATOR_ID, CLUSTER_LIST = 9, 10
MP_REACH, MP_UNREACH, EXTENDED_COMMUNITIES = 14, 15, 16
LARGE_COMMUNITIES = 32
#: Flags (RFC 4271 section 4.3): optional, transitive, partial, extended length.
OPTIONAL, TRANSITIVE, PARTIAL, EXTENDED = 0x80, 0x40, 0x20, 0x10

# Capabilities (IANA, "Capability Codes").
MULTIPROTOCOL, ROUTE_REFRESH, EXTENDED_MESSAGE, GRACEFUL_RESTART = 1, 2, 6, 64
FOUR_OCTET_AS, ADD_PATH, ENHANCED_REFRESH, LONG_LIVED = 65, 69, 70, 71


@dataclass(frozen=True, slots=True)
class Attribute:
    """One path attribute as it is on the wire."""

    flags: int
    code: int
    value: bytes

    def encode(self) -> bytes:
        """Its octets; with a two-octet length where flag or value ask for it."""
        if self.flags & EXTENDED or len(self.value) > 255:
            return struct.pack("!BBH", self.flags | EXTENDED, self.code, len(self.value)) + self.value
        return struct.pack("!BBB", self.flags, self.code, len(self.value)) + self.value


Attributes = Mapping[int, Attribute]


@dataclass(frozen=True, slots=True)
class Route:
    """A prefix as it is told: with a path identifier where ADD-PATH is in use, else 0."""

    prefix: str
    path_id: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """One UPDATE, decoded."""

    announced: tuple[Route, ...]
    withdrawn: tuple[Route, ...]
    attributes: Attributes

    @property
    def end_of_rib(self) -> bool:
        """RFC 4724 section 2."""
        return not self.announced and not self.withdrawn and not self.attributes.keys() - {MP_UNREACH}


@dataclass(frozen=True, slots=True)
class Open:
    """An OPEN, decoded (RFC 4271 section 4.2, RFC 5492)."""

    asn: int
    hold_time: int
    router_id: str
    capabilities: tuple[tuple[int, bytes], ...]

    def values(self, code: int) -> list[bytes]:
        """The values of a capability, in order; none where it is not there."""
        return [value for one, value in self.capabilities if one == code]


def message(kind: int, body: bytes = b"") -> bytes:
    """A whole message with its header."""
    return _HEADER.pack(MARKER, _HEADER.size + len(body), kind) + body


def encode_prefix(text: str) -> bytes:
    """One NLRI."""
    network = ipaddress.ip_network(text)
    return bytes((network.prefixlen,)) + network.network_address.packed[: (network.prefixlen + 7) // 8]


def decode_prefixes(data: bytes, version: int, add_path: bool) -> Iterator[Route]:
    """The NLRI of one family (RFC 4271 section 4.3, RFC 7911 section 3)."""
    octets = 4 if version == 4 else 16
    position = 0
    while position < len(data):
        path_id = 0
        if add_path:
            (path_id,) = struct.unpack_from("!I", data, position)
            position += 4
        length = data[position]
        used = (length + 7) // 8
        address = ipaddress.ip_address(data[position + 1 : position + 1 + used].ljust(octets, b"\0"))
        yield Route(f"{address}/{length}", path_id)
        position += 1 + used


def decode_attributes(data: bytes) -> dict[int, Attribute]:
    """The path attributes of a sound UPDATE by type code."""
    attributes: dict[int, Attribute] = {}
    position = 0
    while position < len(data):
        flags, code = data[position], data[position + 1]
        start = position + (4 if flags & EXTENDED else 3)
        length = int.from_bytes(data[position + 2 : start], "big")
        attributes[code] = Attribute(flags & ~EXTENDED, code, data[start : start + length])
        position = start + length
    return attributes


def decode_update(body: bytes, add_path: bool = False) -> Told:
    """An UPDATE that is sound; of IPv4 or IPv6 unicast."""
    (withdrawn_octets,) = struct.unpack_from("!H", body)
    middle = 2 + withdrawn_octets
    (attribute_octets,) = struct.unpack_from("!H", body, middle)
    end = middle + 2 + attribute_octets
    attributes = decode_attributes(body[middle + 2 : end])
    withdrawn = list(decode_prefixes(body[2:middle], 4, add_path))
    announced = list(decode_prefixes(body[end:], 4, add_path))
    if reach := attributes.get(MP_REACH):  # AFI, SAFI, next hop, a reserved octet, NLRI
        announced += decode_prefixes(
            reach.value[5 + reach.value[3] :], 4 if reach.value[1] == 1 else 6, add_path
        )
    if unreach := attributes.get(MP_UNREACH):
        withdrawn += decode_prefixes(unreach.value[3:], 4 if unreach.value[1] == 1 else 6, add_path)
    return Told(tuple(announced), tuple(withdrawn), attributes)


def decode_open(body: bytes) -> Open:
    """An OPEN whose optional parameters are capabilities."""
    _, short_asn, hold_time = struct.unpack_from("!BHH", body)
    capabilities: list[tuple[int, bytes]] = []
    parameters = body[10 : 10 + body[9]]
    while parameters:
        kind, length = parameters[:2]
        value, parameters = parameters[2 : 2 + length], parameters[2 + length :]
        while kind == 2 and value:
            capabilities.append((value[0], value[2 : 2 + value[1]]))
            value = value[2 + value[1] :]
    asn = next((int.from_bytes(value, "big") for code, value in capabilities if code == FOUR_OCTET_AS), None)
    router_id = str(ipaddress.IPv4Address(body[5:9]))
    return Open(short_asn if asn is None else asn, hold_time, router_id, tuple(capabilities))


def family(version: int) -> bytes:
    """AFI and SAFI of an IP version's unicast routes."""
    return struct.pack("!HB", 1 if version == 4 else 2, 1)


def multiprotocol(*versions: int) -> list[tuple[int, bytes]]:
    """The capability for each IP version (RFC 4760 section 8)."""
    return [(MULTIPROTOCOL, struct.pack("!HBB", 1 if version == 4 else 2, 0, 1)) for version in versions]


def encode_as_path(as_path: Iterable[int | frozenset[int]]) -> bytes:
    """AS_PATH with 4-octet numbers: one sequence for neighbouring numbers, a set for each frozenset."""
    segments: list[tuple[int, list[int]]] = []
    for one in as_path:
        if isinstance(one, frozenset):
            segments.append((1, sorted(one)))
        elif segments and segments[-1][0] == 2:
            segments[-1][1].append(one)
        else:
            segments.append((2, [one]))
    return b"".join(
        bytes((kind, len(numbers))) + b"".join(number.to_bytes(4, "big") for number in numbers)
        for kind, numbers in segments
    )


def attributes(
    *,
    as_path: Iterable[int | frozenset[int]] = (),
    origin: int | None = 0,
    local_pref: int | None = None,
    med: int | None = None,
    communities: Iterable[tuple[int, int]] = (),
    large_communities: Iterable[tuple[int, int, int]] = (),
    originator_id: str | None = None,
    cluster_list: Iterable[str] = (),
    more: Iterable[Attribute] = (),
) -> tuple[Attribute, ...]:
    """Path attributes but for the next hop, in the order of their codes."""
    found: list[Attribute] = [Attribute(TRANSITIVE, AS_PATH, encode_as_path(as_path)), *more]
    packed = [ipaddress.IPv4Address(one).packed for one in cluster_list]
    for code, flags, value in (
        (ORIGIN, TRANSITIVE, None if origin is None else bytes((origin,))),
        (MED, OPTIONAL, None if med is None else med.to_bytes(4, "big")),
        (LOCAL_PREF, TRANSITIVE, None if local_pref is None else local_pref.to_bytes(4, "big")),
        (COMMUNITIES, OPTIONAL | TRANSITIVE, b"".join(struct.pack("!HH", *one) for one in communities)),
        (ORIGINATOR_ID, OPTIONAL, originator_id and ipaddress.IPv4Address(originator_id).packed),
        (CLUSTER_LIST, OPTIONAL, b"".join(packed)),
        (
            LARGE_COMMUNITIES,
            OPTIONAL | TRANSITIVE,
            b"".join(struct.pack("!III", *one) for one in large_communities),
        ),
    ):
        if value:
            found.append(Attribute(flags, code, value))
    return tuple(sorted(found, key=lambda one: one.code))


def update(
    prefixes: Iterable[str],
    next_hop: str,
    path: Iterable[Attribute] = (),
    path_id: int | None = None,
) -> bytes:
    """The body of an UPDATE that announces prefixes of one family; with a path identifier for ADD-PATH."""
    identifier = b"" if path_id is None else path_id.to_bytes(4, "big")
    texts = list(prefixes)
    nlri = b"".join(identifier + encode_prefix(text) for text in texts)
    hop = ipaddress.ip_address(next_hop)
    if all(ipaddress.ip_network(text).version == 4 for text in texts):
        given = Attribute(TRANSITIVE, NEXT_HOP, hop.packed)
    else:
        value = family(6) + bytes((len(hop.packed),)) + hop.packed + b"\0" + nlri
        given, nlri = Attribute(OPTIONAL, MP_REACH, value), b""
    encoded = b"".join(one.encode() for one in sorted((*path, given), key=lambda one: one.code))
    return b"\0\0" + struct.pack("!H", len(encoded)) + encoded + nlri


def withdrawal(prefixes: Iterable[str], path_id: int | None = None) -> bytes:
    """The body of an UPDATE that withdraws prefixes of one family."""
    identifier = b"" if path_id is None else path_id.to_bytes(4, "big")
    texts = list(prefixes)
    nlri = b"".join(identifier + encode_prefix(text) for text in texts)
    if all(ipaddress.ip_network(text).version == 4 for text in texts):
        return struct.pack("!H", len(nlri)) + nlri + b"\0\0"
    encoded = Attribute(OPTIONAL, MP_UNREACH, family(6) + nlri).encode()
    return b"\0\0" + struct.pack("!H", len(encoded)) + encoded


def end_of_rib(version: int) -> bytes:
    """The body of an End-of-RIB marker (RFC 4724 section 2)."""
    if version == 4:
        return b"\0\0\0\0"
    encoded = Attribute(OPTIONAL, MP_UNREACH, family(6)).encode()
    return b"\0\0" + struct.pack("!H", len(encoded)) + encoded


@dataclass(frozen=True, slots=True)
class Options:
    """Who a `RawPeer` is and how it connects."""

    asn: int
    router_id: str
    address: str | None = None
    """One of the machine's addresses; None: its first of the version."""
    version: int = 4
    """IP version of the transport, and of the routes unless `capabilities` say otherwise."""
    hold_time: int = 90
    capabilities: tuple[tuple[int, bytes], ...] | None = None
    """All of them; None: multiprotocol for its own family and 4-octet AS numbers."""
    remote: str | None = None
    """Dial this address, and dial again when the connection ends; None: only listen."""
    remote_port: int = 179
    port: int = 179
    """Where to listen; 0: do not listen."""
    password: str | None = None
    """TCP-MD5 (RFC 2385), with `remote` or `password_for`."""
    password_for: str | None = None
    end_of_rib: bool = False
    """Say End-of-RIB as soon as a session is up: it has nothing to announce of its own accord."""
    ttl: int | None = None
    """TTL, or hop limit, of what it sends; 1 from a peer that knows nothing of GTSM and is external."""


class RawPeer:
    """A peer on a machine. A context manager: leaving it closes everything."""

    def __init__(self, machine: Machine, options: Options) -> None:
        self.machine = machine
        self.options = options
        self.address = options.address or machine.address(options.version)
        self.messages: list[Message] = []
        """Of all connections, in order of arrival."""
        self.accepted = 0
        """Connections that came in."""
        self.dialed = 0
        """Connections that went out and were accepted."""
        self.sessions = 0
        """How often a session was established."""
        self.lost: list[str] = []
        """How each connection ended, in our words."""
        self.read_pause = threading.Event()
        """While set, nothing is read and nothing is sent."""
        self._closing = threading.Event()
        self._established = threading.Event()
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._add_path = False
        self._session_start = 0
        self._decoding = threading.Lock()
        self._decoded: tuple[int, list[Told]] = (-1, [])
        self._decoded_until = 0
        self._listener: socket.socket | None = None
        self._hold_back = threading.Event()
        self._busy = threading.Lock()
        self._threads: list[threading.Thread] = []

    # Life

    def start(self) -> Self:
        """Listens, and dials where it is to."""
        if self.options.port:
            self._listener = listener = self._socket()
            listener.bind((self.address, self.options.port))
            listener.listen(8)
            listener.settimeout(0.1)
            self._threads.append(threading.Thread(target=self._accept, args=(listener,)))
        if self.options.remote is not None:
            self._threads.append(threading.Thread(target=self._dial))
        for thread in self._threads:
            thread.start()
        return self

    def close(self) -> None:
        """Ends everything; says nothing to the other end but TCP's own goodbye."""
        self._closing.set()
        self.hang_up()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def hang_up(self) -> None:
        """Ends the connection that there is."""
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stay_away(self, away: bool = True) -> None:
        """While away it takes no connection and makes none; the one there is ends."""
        if away:
            self._hold_back.set()
            self.hang_up()
        else:
            self._hold_back.clear()

    # What it heard

    @property
    def established(self) -> bool:
        """True while a session is up."""
        return self._established.is_set()

    def wait_established(self, timeout: float = 60.0) -> None:
        """Until the session is up."""
        wait_for(lambda: self.established, f"peer {self.address}: Established ({self.lost[-3:]})", timeout)

    def received(self, kind: Kind) -> list[bytes]:
        """Bodies of the messages of one type, of all connections."""
        return [one.body for one in list(self.messages) if one.kind is kind]

    def open(self) -> Open:
        """The last OPEN; LookupError where there was none."""
        return decode_open(self.received(Kind.OPEN)[-1])

    def updates(self) -> list[Told]:
        """The UPDATEs of this session, or of the last one."""
        with self._decoding:
            start, told = self._decoded
            if start != self._session_start:
                start, told = self._decoded = self._session_start, []
                self._decoded_until = start
            heard = self.messages[self._decoded_until :]
            self._decoded_until += len(heard)
            told += [decode_update(one.body, self._add_path) for one in heard if one.kind is Kind.UPDATE]
            return list(told)

    def table(self) -> dict[Route, Attributes]:
        """What the UPDATEs of this session amount to."""
        table: dict[Route, Attributes] = {}
        for told in self.updates():
            for route in told.withdrawn:
                table.pop(route, None)
            for route in told.announced:
                table[route] = told.attributes
        return table

    def prefixes(self) -> set[str]:
        """The prefixes of `table`."""
        return {route.prefix for route in self.table()}

    def wait_prefixes(
        self, have: Iterable[str] = (), lack: Iterable[str] = (), timeout: float = 60.0
    ) -> None:
        """Until it has been told of each prefix of `have` and of none of `lack`."""
        have, lack = set(have), set(lack)

        def complete() -> bool:
            seen = self.prefixes()
            assert have <= seen, f"lacks {sorted(have - seen)}"
            assert not lack & seen, f"still has {sorted(lack & seen)}"
            return True

        wait_for(complete, f"peer {self.address}: routes", timeout)

    def wait_end_of_rib(self, timeout: float = 60.0) -> None:
        """Until the other end has said that this is its whole table."""
        wait_for(
            lambda: any(told.end_of_rib for told in self.updates()),
            f"peer {self.address}: End-of-RIB",
            timeout,
        )

    # What it says

    def announce(
        self, *prefixes: str, next_hop: str | None = None, path_id: int | None = None, **path: object
    ) -> None:
        """One UPDATE; `path` as for `attributes`; itself as next hop by default."""
        made = attributes(**path)  # type: ignore[arg-type]
        self.send(message(Kind.UPDATE, update(prefixes, next_hop or self.address, made, path_id)))

    def withdraw(self, *prefixes: str, path_id: int | None = None) -> None:
        """One UPDATE."""
        self.send(message(Kind.UPDATE, withdrawal(prefixes, path_id)))

    def send_end_of_rib(self) -> None:
        """For its own family."""
        self.send(message(Kind.UPDATE, end_of_rib(self.options.version)))

    def send(self, octets: bytes) -> None:
        """Octets as they are. OSError where there is no connection (any more)."""
        connection = self._connection
        if connection is None:
            raise ConnectionError(f"peer {self.address}: no connection")
        rest = memoryview(octets)
        with self._lock:
            while rest:
                # The socket's short time-out is for reading; whoever does not read may take longer.
                with contextlib.suppress(TimeoutError):
                    rest = rest[connection.send(rest) :]

    def open_message(self) -> bytes:
        """Its OPEN."""
        options = self.options
        capabilities = options.capabilities
        if capabilities is None:
            capabilities = (*multiprotocol(options.version), (FOUR_OCTET_AS, options.asn.to_bytes(4, "big")))
        parameters = b"".join(
            bytes((2, len(value) + 2, code, len(value))) + value for code, value in capabilities
        )
        head = struct.pack("!BHH", 4, options.asn if options.asn < 65536 else 23456, options.hold_time)
        router_id = ipaddress.IPv4Address(options.router_id).packed
        return message(Kind.OPEN, head + router_id + bytes((len(parameters),)) + parameters)

    # At work

    def _socket(self) -> socket.socket:
        version = self.options.version
        made = self.machine.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.options.ttl is not None:
            level, option = (
                (socket.IPPROTO_IP, socket.IP_TTL)
                if version == 4
                else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
            )
            made.setsockopt(level, option, self.options.ttl)
        if self.options.password is not None:
            remote = self.options.password_for or self.options.remote
            assert remote is not None, "a password is for one address"
            key = self.options.password.encode()
            packed = ipaddress.ip_address(remote).packed
            address = (
                struct.pack("=HH4s", socket.AF_INET, 0, packed)
                if version == 4
                else struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, packed, 0)
            )
            made.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG, _MD5SIG.pack(address, 0, 0, len(key), 0, key))
        return made

    def _accept(self, listener: socket.socket) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            if self._hold_back.is_set() or not self._busy.acquire(blocking=False):
                connection.close()
                continue
            self.accepted += 1
            self._serve(connection)
            self._busy.release()

    def _dial(self) -> None:
        assert self.options.remote is not None
        while not self._closing.is_set():
            if not self._hold_back.is_set() and self._busy.acquire(blocking=False):
                self._dial_once(self.options.remote)
                self._busy.release()
            # Nobody is asked a hundred times a second.
            self._closing.wait(0.1)

    def _dial_once(self, remote: str) -> None:
        with self._socket() as connection:
            connection.settimeout(2.0)
            try:
                connection.bind((self.address, 0))
                connection.connect((remote, self.options.remote_port))
            except OSError as error:
                self._note(f"dial: {error}")
                return
            self.dialed += 1
            self._serve(connection)

    def _note(self, text: str) -> None:
        if not self.lost or self.lost[-1] != text:
            self.lost.append(text)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            self._connection = connection
            self._session_start = len(self.messages)
            self._add_path = False
            try:
                self._talk(connection)
                self._note("the other end closed")
            except OSError as error:
                self._note(str(error))
            finally:
                self._established.clear()
                self._connection = None

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(0.1)
        self.send(self.open_message())
        buffer = b""
        interval = self.options.hold_time / 3 or 30
        next_keepalive = time.monotonic() + interval
        while not self._closing.is_set():
            if self.read_pause.is_set():
                self._closing.wait(0.05)
                continue
            if time.monotonic() >= next_keepalive:
                self.send(message(Kind.KEEPALIVE))
                next_keepalive = time.monotonic() + interval
            try:
                data = connection.recv(262144)
            except TimeoutError:
                continue
            if not data:
                return
            buffer += data
            position = 0
            while len(buffer) - position >= _HEADER.size:
                _, length, number = _HEADER.unpack_from(buffer, position)
                if len(buffer) - position < length:
                    break
                body = buffer[position + _HEADER.size : position + length]
                self._take(Message(Kind(number), body, time.monotonic()))
                position += length
            buffer = buffer[position:]

    def _take(self, heard: Message) -> None:
        self.messages.append(heard)
        if heard.kind is Kind.OPEN:
            self._add_path = self._agreed_add_path(decode_open(heard.body))
            self.send(message(Kind.KEEPALIVE))
        elif heard.kind is Kind.KEEPALIVE and not self._established.is_set():
            self.sessions += 1
            self._established.set()
            if self.options.end_of_rib:
                self.send_end_of_rib()

    def _agreed_add_path(self, theirs: Open) -> bool:
        """The other end sends path identifiers where it offers to send and we to receive (RFC 7911
        section 4)."""
        ours = dict(self.options.capabilities or ()).get(ADD_PATH, b"")
        mode = {value[i : i + 3]: value[i + 3] for value in [ours] for i in range(0, len(value), 4)}
        wanted = family(self.options.version)
        for value in theirs.values(ADD_PATH):
            for i in range(0, len(value), 4):
                if value[i : i + 3] == wanted and value[i + 3] & 2 and mode.get(wanted, 0) & 1:
                    return True
        return False


def with_capabilities(options: Options, *more: tuple[int, bytes]) -> Options:
    """The same peer with capabilities beside its own family and 4-octet AS numbers."""
    base = (*multiprotocol(options.version), (FOUR_OCTET_AS, options.asn.to_bytes(4, "big")))
    return dataclasses.replace(options, capabilities=(*base, *more))
