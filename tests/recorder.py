"""A BGP peer that writes down every message it gets, for tests that count messages.

It has a codec of its own, a small one, so that routed is not measured with its own ruler. It waits for
connections, answers OPEN and KEEPALIVE, announces what it is told to, and decides nothing.
"""

from __future__ import annotations

import contextlib
import enum
import ipaddress
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.netns import Machine, wait_for

_HEADER = struct.Struct("!16sHB")
_MARKER = b"\xff" * 16


class Kind(enum.IntEnum):
    """Message types (RFC 4271 section 4.1)."""

    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


@dataclass(frozen=True, slots=True)
class Message:
    """One received message: its type, its bytes after the header, and when it was read (time.monotonic)."""

    kind: Kind
    body: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Update:
    """A decoded UPDATE of either family."""

    announced: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    attributes: dict[int, bytes] = field(default_factory=dict)
    """Attribute values by type code."""

    @property
    def end_of_rib(self) -> bool:
        """True for an End-of-RIB marker (RFC 4724 section 2)."""
        return not self.announced and not self.withdrawn


def parse_prefixes(data: bytes, version: int) -> Iterator[str]:
    """The NLRI of one family as text (RFC 4271 section 4.3)."""
    octets = 4 if version == 4 else 16
    while data:
        length = data[0]
        used = (length + 7) // 8
        address = ipaddress.ip_address(data[1 : 1 + used].ljust(octets, b"\0"))
        yield f"{address}/{length}"
        data = data[1 + used :]


def parse_update(body: bytes) -> Update:
    """Decodes an UPDATE that is well formed (RFC 4271 section 4.3, RFC 4760)."""
    (withdrawn_octets,) = struct.unpack_from("!H", body)
    withdrawn = list(parse_prefixes(body[2 : 2 + withdrawn_octets], 4))
    position = 2 + withdrawn_octets
    (attribute_octets,) = struct.unpack_from("!H", body, position)
    position += 2
    end = position + attribute_octets
    attributes: dict[int, bytes] = {}
    while position < end:
        flags, code = body[position], body[position + 1]
        extended = flags & 0x10
        length = int.from_bytes(body[position + 2 : position + (4 if extended else 3)], "big")
        position += 4 if extended else 3
        attributes[code] = body[position : position + length]
        position += length
    announced = list(parse_prefixes(body[end:], 4))
    if reach := attributes.get(14):  # AFI, SAFI, next hop, a reserved octet, NLRI
        announced += parse_prefixes(reach[5 + reach[3] :], 6)
    if unreach := attributes.get(15):  # AFI, SAFI, NLRI
        withdrawn += parse_prefixes(unreach[3:], 6)
    return Update(tuple(announced), tuple(withdrawn), attributes)


def _message(kind: Kind, body: bytes = b"") -> bytes:
    return _HEADER.pack(_MARKER, _HEADER.size + len(body), kind) + body


def _prefix(text: str) -> bytes:
    network = ipaddress.ip_network(text)
    return bytes((network.prefixlen,)) + network.network_address.packed[: (network.prefixlen + 7) // 8]


class RecordingPeer:
    """Listens on a machine and records. A context manager: leaving it closes everything."""

    def __init__(
        self, machine: Machine, asn: int, router_id: str, version: int = 4, hold_time: int = 90
    ) -> None:
        self.address = machine.address(version)
        self.version = version
        self.asn = asn
        self.router_id = router_id
        self.hold_time = hold_time
        self.messages: list[Message] = []
        """Of all connections, in order of arrival."""
        self.connections = 0
        """How many connections were ever accepted."""
        self._established = threading.Event()
        self._closing = threading.Event()
        self._connection: socket.socket | None = None
        self._listener = machine.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.address, 179))
        self._listener.listen()
        self._listener.settimeout(0.2)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()
        self._listener.close()

    @property
    def established(self) -> bool:
        """True while a session is up."""
        return self._established.is_set()

    def wait_established(self, timeout: float = 60.0) -> None:
        """Until the session is up."""
        wait_for(lambda: self.established, f"recorder {self.address}: Established", timeout)

    def updates(self) -> list[Update]:
        """Every UPDATE so far, End-of-RIB markers included."""
        return [parse_update(message.body) for message in list(self.messages) if message.kind is Kind.UPDATE]

    def table(self) -> dict[str, dict[int, bytes]]:
        """What the UPDATEs amount to: attributes by prefix."""
        table: dict[str, dict[int, bytes]] = {}
        for update in self.updates():
            for prefix in update.withdrawn:
                table.pop(prefix, None)
            for prefix in update.announced:
                table[prefix] = update.attributes
        return table

    def wait_routes(self, have: Iterable[str] = (), lack: Iterable[str] = (), timeout: float = 60.0) -> None:
        """Until the table has each prefix of `have` and none of `lack`."""
        have, lack = set(have), set(lack)

        def complete() -> bool:
            seen = set(self.table())
            assert have <= seen, f"lacks {sorted(have - seen)}"
            assert not lack & seen, f"still has {sorted(lack & seen)}"
            return True

        wait_for(complete, f"recorder {self.address}: routes", timeout)

    def wait_end_of_rib(self, timeout: float = 60.0) -> None:
        """Until the peer has said that this is its whole table (RFC 4724 section 2)."""

        def came() -> bool:
            return any(update.end_of_rib for update in self.updates())

        wait_for(came, f"End-of-RIB at {self.address}", timeout)

    def announce(self, *prefixes: str, as_path: tuple[int, ...] = (), local_pref: int | None = None) -> None:
        """Sends one UPDATE with these prefixes of its family, itself as next hop."""
        segment = b"".join(number.to_bytes(4, "big") for number in as_path)
        attributes = b"\x40\x01\x01\x00"
        attributes += b"\x40\x02" + (
            bytes((2 + len(segment), 2, len(as_path))) + segment if as_path else b"\x00"
        )
        if local_pref is not None:
            attributes += b"\x40\x05\x04" + local_pref.to_bytes(4, "big")
        nlri = b"".join(map(_prefix, prefixes))
        next_hop = ipaddress.ip_address(self.address).packed
        if self.version == 4:
            attributes += b"\x40\x03\x04" + next_hop
            self._send(b"\0\0" + struct.pack("!H", len(attributes)) + attributes + nlri)
        else:
            reach = b"\x00\x02\x01\x10" + next_hop + b"\0" + nlri
            attributes = b"\x90\x0e" + struct.pack("!H", len(reach)) + reach + attributes
            self._send(b"\0\0" + struct.pack("!H", len(attributes)) + attributes)

    def withdraw(self, *prefixes: str) -> None:
        """Sends one UPDATE that withdraws these prefixes of its family."""
        nlri = b"".join(map(_prefix, prefixes))
        if self.version == 4:
            self._send(struct.pack("!H", len(nlri)) + nlri + b"\0\0")
        else:
            unreach = b"\x00\x02\x01" + nlri
            self._send(
                b"\0\0"
                + struct.pack("!H", 4 + len(unreach))
                + b"\x90\x0f"
                + struct.pack("!H", len(unreach))
                + unreach
            )

    def _send(self, body: bytes) -> None:
        assert self._connection is not None, "no session"
        self._connection.sendall(_message(Kind.UPDATE, body))

    def _open(self) -> bytes:
        # Multiprotocol for its one family, and 4-octet AS numbers (RFC 5492, 4760, 6793).
        family = struct.pack("!BBHBB", 1, 4, 1 if self.version == 4 else 2, 0, 1)
        four_octets = struct.pack("!BBI", 65, 4, self.asn)
        parameter = bytes((2, len(family + four_octets))) + family + four_octets
        head = struct.pack("!BHH", 4, self.asn if self.asn < 65536 else 23456, self.hold_time)
        router_id = ipaddress.IPv4Address(self.router_id).packed
        return _message(Kind.OPEN, head + router_id + bytes((len(parameter),)) + parameter)

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            with connection, contextlib.suppress(OSError):
                self._connection = connection
                self._talk(connection)
            self._connection = None
            self._established.clear()

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(0.2)
        connection.sendall(self._open())
        buffer = b""
        next_keepalive = time.monotonic() + self.hold_time / 3
        while not self._closing.is_set():
            if time.monotonic() >= next_keepalive:
                connection.sendall(_message(Kind.KEEPALIVE))
                next_keepalive += self.hold_time / 3
            try:
                data = connection.recv(65536)
            except TimeoutError:
                continue
            if not data:
                return
            buffer += data
            while len(buffer) >= _HEADER.size:
                _, length, number = _HEADER.unpack_from(buffer)
                if len(buffer) < length:
                    break
                self._take(connection, Message(Kind(number), buffer[_HEADER.size : length], time.monotonic()))
                buffer = buffer[length:]

    def _take(self, connection: socket.socket, message: Message) -> None:
        self.messages.append(message)
        if message.kind is Kind.OPEN:
            connection.sendall(_message(Kind.KEEPALIVE))
        elif message.kind is Kind.KEEPALIVE:
            self._established.set()
