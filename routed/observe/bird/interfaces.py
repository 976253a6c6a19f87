"""`show interfaces`: asked of the kernel (netdevice(7)), with nothing kept."""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final

from routed.bgp.nlri import Family
from routed.bgp.route import Address
from routed.observe.bird.replies import (
    INTERFACE,
    INTERFACE_ADDRESS,
    INTERFACE_FLAGS,
    INTERFACE_HEADER,
    INTERFACE_SUMMARY,
    Line,
    Reply,
)
from routed.observe.bird.view import View
from routed.observe.bird.words import Word, none_left

_SIOCGIFCONF, _SIOCGIFFLAGS, _SIOCGIFMTU, _SIOCGIFNETMASK = 0x8912, 0x8913, 0x8921, 0x891B
_UP, _BROADCAST, _LOOPBACK, _POINT_TO_POINT, _RUNNING, _MULTICAST = 0x1, 0x2, 0x8, 0x10, 0x40, 0x1000
_IFREQ: Final = 40  # octets of struct ifreq
_NAME: Final = 16
#: Interfaces between two turns of the event loop.
PORTION: Final = 256
_SUMMARY: Final = "{:<9} {:<5} {}"


@dataclass(frozen=True, slots=True)
class Interface:
    """What one line, or three, are about."""

    name: str
    index: int
    flags: int
    mtu: int
    addresses: tuple[tuple[Address, int], ...]
    """With their prefix lengths."""

    @property
    def up(self) -> bool:
        """As BIRD takes it: it is up, its link is, and it has an address of the family."""
        return bool(self.flags & _UP and self.flags & _RUNNING and self.addresses)


def interfaces(family: Family) -> Iterator[Interface]:
    """All there are. One that goes meanwhile is left out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        addresses = _ipv4(sock) if family is Family.IPV4 else _ipv6()
        for index, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                flags = struct.unpack_from("=H", _ask(sock, _SIOCGIFFLAGS, name), _NAME)[0]
                mtu = struct.unpack_from("=i", _ask(sock, _SIOCGIFMTU, name), _NAME)[0]
                yield Interface(name, index, flags, mtu, tuple(addresses.get(name, ())))


def show_interfaces(view: View, words: list[Word]) -> Reply:
    """`show interfaces [summary]`."""
    summary = words[:1] == [Word("summary")]
    none_left(words[1:] if summary else words)
    if summary:
        yield Line(INTERFACE_HEADER, "interface state address")
    for at, one in enumerate(interfaces(view.family)):
        if at % PORTION == PORTION - 1:
            yield None
        state = "up" if one.up else "DOWN"
        if summary:
            main = next((text for text, _, scope in _addresses(one) if scope != "link"), "")
            main = main or next((text for text, _, _ in _addresses(one)), "")
            yield Line(INTERFACE_SUMMARY, _SUMMARY.format(one.name, state, main))
            continue
        yield Line(INTERFACE, f"{one.name} {state} (index={one.index})")
        yield Line(INTERFACE_FLAGS, f"\t{' '.join(_flags(one))}")
        for text, rank, scope in _addresses(one):
            yield Line(INTERFACE_ADDRESS, f"\t{text} ({rank}, scope {scope})")


def _flags(one: Interface) -> Iterator[str]:
    flags = one.flags
    words = (
        ("PtP", flags & _POINT_TO_POINT),
        ("MultiAccess", not flags & _POINT_TO_POINT),
        ("Broadcast", flags & _BROADCAST),
        ("Multicast", flags & _MULTICAST),
        ("AdminUp", flags & _UP),
        ("AdminDown", not flags & _UP),
        ("LinkUp", flags & _RUNNING),
        ("LinkDown", not flags & _RUNNING),
        ("Loopback Ignored", flags & _LOOPBACK),
        (f"MTU={one.mtu}", True),
    )
    return (word for word, has in words if has)


def _addresses(one: Interface) -> Iterator[tuple[str, str, str]]:
    """Each address, whether it is the interface's main one, and its scope."""
    main = next((address for address, _ in one.addresses if not address.is_link_local), None)
    for address, length in one.addresses:
        chosen = address == main or (main is None and address == one.addresses[0][0])
        scope = "host" if address.is_loopback else "link" if address.is_link_local else "univ"
        yield f"{address}/{length}", "Primary" if chosen else "Unselected", scope


def _ask(sock: socket.socket, request: int, name: str) -> bytes:
    packed = name.encode(errors="surrogateescape")[: _NAME - 1]
    return fcntl.ioctl(sock, request, packed.ljust(_IFREQ, b"\0"))


def _ipv4(sock: socket.socket) -> dict[str, list[tuple[Address, int]]]:
    room = array.array("B", bytes(_IFREQ))
    while True:
        at, octets = room.buffer_info()
        (used,) = struct.unpack_from("i", fcntl.ioctl(sock, _SIOCGIFCONF, struct.pack("iP", octets, at)))
        if used + _IFREQ <= octets:
            break
        room = array.array("B", bytes(4 * octets))
    found: dict[str, list[tuple[Address, int]]] = {}
    raw = room.tobytes()[:used]
    for start in range(0, used, _IFREQ):
        one = raw[start : start + _IFREQ]
        name = one[:_NAME].rstrip(b"\0").decode(errors="surrogateescape")
        with contextlib.suppress(OSError):
            # The request has the address too: an interface may have several.
            mask = fcntl.ioctl(sock, _SIOCGIFNETMASK, one)[_NAME + 4 : _NAME + 8]
            length = ip_network(f"0.0.0.0/{ip_address(mask)}").prefixlen if any(mask) else 0
            address = ip_address(one[_NAME + 4 : _NAME + 8])
            found.setdefault(name.partition(":")[0], []).append((address, length))
    return found


def _ipv6() -> dict[str, list[tuple[Address, int]]]:
    found: dict[str, list[tuple[Address, int]]] = {}
    with contextlib.suppress(OSError):  # a kernel without IPv6 has no such file
        for line in Path("/proc/self/net/if_inet6").read_text(errors="surrogateescape").splitlines():
            address, _index, length, _scope, _flags, name = line.split(maxsplit=5)
            found.setdefault(name.strip(), []).append((ip_address(bytes.fromhex(address)), int(length, 16)))
    for addresses in found.values():
        addresses.sort(key=lambda one: one[0].is_link_local)
    return found
