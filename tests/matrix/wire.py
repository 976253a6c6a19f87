"""Listens on the wire between two machines of a laboratory: TCP segments of BGP sessions, and the messages in
them. It takes no part in anything, so it sees what is really said, TCP-MD5 and TTLs included."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.netns import Machine
from tests.raw_peer import Open, Told, decode_open, decode_update
from tests.recorder import Kind

BGP_PORT = 179
_ETH_P_ALL = 3
_IPV4, _IPV6 = 0x0800, 0x86DD
_TCP = 6
#: Kind of the TCP option of RFC 2385.
_MD5 = 19
_HEADER = 19


@dataclass(frozen=True, slots=True)
class Segment:
    """What of a TCP segment matters here."""

    source: str
    target: str
    ports: tuple[int, int]
    sequence: int
    syn: bool
    ttl: int
    md5: bool
    payload: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """A BGP message and who said it."""

    source: str
    target: str
    kind: int
    body: bytes

    @property
    def length(self) -> int:
        """Octets with the header."""
        return len(self.body) + _HEADER


@dataclass(slots=True)
class _Stream:
    """One direction of a connection: octets in order."""

    next: int | None = None
    early: dict[int, bytes] = field(default_factory=dict)
    buffer: bytes = b""

    def take(self, segment: Segment) -> bytes:
        """Puts a segment in its place; returns what is in order and not consumed."""
        if segment.syn:
            self.next, self.early, self.buffer = segment.sequence + 1 & 0xFFFFFFFF, {}, b""
        if segment.payload and self.next is not None:
            self.early[segment.sequence] = segment.payload
        while self.next is not None and (payload := self.early.pop(self.next, None)) is not None:
            self.buffer += payload
            self.next = self.next + len(payload) & 0xFFFFFFFF
        return self.buffer


def parse_frame(frame: bytes) -> Segment | None:
    """A TCP segment of a BGP session in an Ethernet frame, or None for anything else."""
    (kind,) = struct.unpack_from("!H", frame, 12)
    if kind == _IPV4 and frame[23] == _TCP:
        length = 4 * (frame[14] & 15)
        packet = frame[14 : 14 + struct.unpack_from("!H", frame, 16)[0]]
        ttl, source, target = packet[8], packet[12:16], packet[16:20]
    elif kind == _IPV6 and frame[20] == _TCP:
        length = 40
        packet = frame[14 : 14 + 40 + struct.unpack_from("!H", frame, 18)[0]]
        ttl, source, target = packet[7], packet[8:24], packet[24:40]
    else:
        return None
    tcp = packet[length:]
    ports = struct.unpack_from("!HH", tcp)
    if BGP_PORT not in ports:
        return None
    offset = 4 * (tcp[12] >> 4)
    return Segment(
        str(ipaddress.ip_address(source)),
        str(ipaddress.ip_address(target)),
        ports,
        int.from_bytes(tcp[4:8], "big"),
        bool(tcp[13] & 2),
        ttl,
        _MD5 in tcp_options(tcp[20:offset]),
        tcp[offset:],
    )


def tcp_options(octets: bytes) -> set[int]:
    """The kinds of TCP options (RFC 9293 section 3.1)."""
    kinds: set[int] = set()
    while octets and octets[0] != 0:
        kinds.add(octets[0])
        if octets[0] == 1:
            octets = octets[1:]
        elif len(octets) < 2 or octets[1] < 2:
            break
        else:
            octets = octets[octets[1] :]
    return kinds


class Wire:
    """Listens on one port of the laboratory's bridge. A context manager."""

    def __init__(self, bridge: Machine, port: str) -> None:
        self.heard: list[Heard] = []
        self.ttls: dict[tuple[str, str], set[int]] = defaultdict(set)
        """By sender and receiver, of all segments that say something (a refusal has the kernel's own TTL)."""
        self.signed: dict[tuple[str, str], set[bool]] = defaultdict(set)
        """Likewise: with TCP-MD5 (RFC 2385), and without."""
        self._streams: dict[tuple[str, str, tuple[int, int]], _Stream] = defaultdict(_Stream)
        self._closing = threading.Event()
        self._socket = bridge.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind((port, _ETH_P_ALL))
        self._socket.settimeout(0.1)
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def messages(self, source: str, target: str, kind: Kind | None = None) -> list[Heard]:
        """What one address has said to another, of one type or of all."""
        return [
            one
            for one in list(self.heard)
            if (one.source, one.target) == (source, target) and kind in (None, one.kind)
        ]

    def open(self, source: str, target: str) -> Open:
        """The last OPEN from one address to another; LookupError where there was none."""
        return decode_open(self.messages(source, target, Kind.OPEN)[-1].body)

    def updates(self, source: str, target: str, add_path: bool = False) -> list[Told]:
        """The UPDATEs from one address to another."""
        return [decode_update(one.body, add_path) for one in self.messages(source, target, Kind.UPDATE)]

    def _listen(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                frame = self._socket.recv(1 << 18)
                if (segment := parse_frame(frame)) is not None:
                    self._take(segment)

    def _take(self, segment: Segment) -> None:
        if segment.payload:
            self.ttls[segment.source, segment.target].add(segment.ttl)
            self.signed[segment.source, segment.target].add(segment.md5)
        stream = self._streams[segment.source, segment.target, segment.ports]
        buffer = stream.take(segment)
        while len(buffer) >= _HEADER:
            length, kind = struct.unpack_from("!HB", buffer, 16)
            if len(buffer) < length:
                break
            body = buffer[_HEADER:length]
            self.heard.append(Heard(segment.source, segment.target, kind, body))
            buffer = buffer[length:]
        stream.buffer = buffer
