"""Capabilities (RFC 5492): what a speaker says in OPEN that it can do, and what two of them have in
common."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from routed.bgp.errors import ErrorCode, OpenError, SessionError
from routed.bgp.nlri import Family

SAFI_UNICAST: Final = 1


class CapabilityCode(enum.IntEnum):
    """IANA, Capability Codes; those that are understood here."""

    MULTIPROTOCOL = 1
    ROUTE_REFRESH = 2
    EXTENDED_MESSAGE = 6
    GRACEFUL_RESTART = 64
    FOUR_OCTET_AS = 65
    ADD_PATH = 69
    ENHANCED_ROUTE_REFRESH = 70
    LONG_LIVED_GRACEFUL_RESTART = 71


class AddPathMode(enum.IntFlag):
    """What a speaker wants to do with several paths of a prefix (RFC 7911 section 4)."""

    RECEIVE = 1
    SEND = 2


NO_ADD_PATH: Final = AddPathMode(0)


@dataclass(frozen=True, slots=True)
class GracefulRestart:
    """RFC 4724 section 3. `families` maps (AFI, SAFI) to the Forwarding State bit; `notification` is the N
    bit (RFC 8538); `restart_time` is in seconds, at most 4095."""

    restart_time: int
    families: tuple[tuple[int, int, bool], ...] = ()
    restarted: bool = False
    notification: bool = False


@dataclass(frozen=True, slots=True)
class LongLivedGracefulRestart:
    """RFC 9494 section 3.1. `families` holds (AFI, SAFI, the Forwarding State bit, Long-Lived Stale Time in
    seconds, at most 16777215)."""

    families: tuple[tuple[int, int, bool, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """One OPEN's capabilities. `multiprotocol` holds (AFI, SAFI) in wire order; `four_octet_as` is the AS
    number given there; `add_path` holds (AFI, SAFI, mode); `others` what is not understood, as (code,
    value)."""

    multiprotocol: tuple[tuple[int, int], ...] = ()
    route_refresh: bool = False
    four_octet_as: int | None = None
    extended_message: bool = False
    enhanced_route_refresh: bool = False
    graceful_restart: GracefulRestart | None = None
    long_lived_graceful_restart: LongLivedGracefulRestart | None = None
    add_path: tuple[tuple[int, int, AddPathMode], ...] = ()
    others: tuple[tuple[int, bytes], ...] = ()

    @property
    def families(self) -> frozenset[Family]:
        """The families that are known here. Without any multiprotocol capability it is IPv4 unicast (RFC 4760
        section 8)."""
        if not self.multiprotocol:
            return frozenset((Family.IPV4,))
        return frozenset(family for family in Family if (int(family), SAFI_UNICAST) in self.multiprotocol)

    def add_path_families(self, mode: AddPathMode) -> frozenset[Family]:
        """The families in which the speaker wants to do what `mode` says."""
        wanted = {(afi, safi) for afi, safi, modes in self.add_path if mode in modes}
        return frozenset(family for family in Family if (int(family), SAFI_UNICAST) in wanted)

    def encode(self) -> bytes:
        """The capabilities one after the other: the value of the Capabilities optional parameter."""
        return b"".join(bytes((code, len(value))) + value for code, value in self._pairs())

    def _pairs(self) -> Iterator[tuple[int, bytes]]:
        for afi, safi in self.multiprotocol:
            yield CapabilityCode.MULTIPROTOCOL, struct.pack("!HBB", afi, 0, safi)
        if self.route_refresh:
            yield CapabilityCode.ROUTE_REFRESH, b""
        if self.extended_message:
            yield CapabilityCode.EXTENDED_MESSAGE, b""
        if self.graceful_restart is not None:
            yield CapabilityCode.GRACEFUL_RESTART, _encode_graceful_restart(self.graceful_restart)
        if self.four_octet_as is not None:
            yield CapabilityCode.FOUR_OCTET_AS, self.four_octet_as.to_bytes(4)
        if self.add_path:
            modes = (struct.pack("!HBB", afi, safi, mode) for afi, safi, mode in self.add_path)
            yield CapabilityCode.ADD_PATH, b"".join(modes)
        if self.enhanced_route_refresh:
            yield CapabilityCode.ENHANCED_ROUTE_REFRESH, b""
        if self.long_lived_graceful_restart is not None:
            families = self.long_lived_graceful_restart.families
            values = (
                struct.pack("!HBBBH", a, s, 0x80 if forwarding else 0, time >> 16, time & 0xFFFF)
                for a, s, forwarding, time in families
            )
            yield CapabilityCode.LONG_LIVED_GRACEFUL_RESTART, b"".join(values)
        yield from self.others


def _encode_graceful_restart(restart: GracefulRestart) -> bytes:
    flags = (0x8000 if restart.restarted else 0) | (0x4000 if restart.notification else 0)
    families = (struct.pack("!HBB", a, s, 0x80 if forwarding else 0) for a, s, forwarding in restart.families)
    return (flags | restart.restart_time).to_bytes(2) + b"".join(families)


def decode_capabilities(values: list[bytes]) -> Capabilities:
    """The capabilities in the values of all Capabilities parameters of an OPEN.

    A capability that is there twice counts once, the first time, but for families, which add up (RFC 5492
    section 4). One of an impossible length is kept with the unknown ones and not used.

    Raises `SessionError` where a capability overruns its parameter, or where families or the AS number cannot
    be read: a session could not be right without them."""
    return _decode(tuple(values))


@lru_cache(maxsize=64)  # the thousand clients of a reflector have one and the same
def _decode(values: tuple[bytes, ...]) -> Capabilities:
    multiprotocol: dict[tuple[int, int], None] = {}
    add_path: dict[tuple[int, int], AddPathMode] = {}
    flags: set[int] = set()
    four_octet_as: int | None = None
    restart: GracefulRestart | None = None
    long_lived: LongLivedGracefulRestart | None = None
    others: list[tuple[int, bytes]] = []
    for code, value in _split(values):
        if code == CapabilityCode.MULTIPROTOCOL:
            if len(value) != 4:
                raise _malformed("a multiprotocol capability", value)
            multiprotocol[value[0] << 8 | value[1], value[3]] = None
        elif code == CapabilityCode.FOUR_OCTET_AS:
            if len(value) != 4:
                raise _malformed("a 4-octet AS capability", value)
            four_octet_as = int.from_bytes(value) if four_octet_as is None else four_octet_as
        elif code in _WITHOUT_VALUE and not value:
            flags.add(code)
        elif code == CapabilityCode.GRACEFUL_RESTART and len(value) % 4 == 2:
            restart = restart or _decode_graceful_restart(value)
        elif code == CapabilityCode.LONG_LIVED_GRACEFUL_RESTART and len(value) % 7 == 0:
            long_lived = long_lived or _decode_long_lived(value)
        elif code == CapabilityCode.ADD_PATH and value and len(value) % 4 == 0:
            for afi, safi, mode in struct.iter_unpack("!HBB", value):
                if mode in (1, 2, 3):  # RFC 7911 section 4: any other is ignored
                    add_path.setdefault((afi, safi), AddPathMode(mode))
        else:
            others.append((code, value))
    return Capabilities(
        multiprotocol=tuple(multiprotocol),
        route_refresh=CapabilityCode.ROUTE_REFRESH in flags,
        four_octet_as=four_octet_as,
        extended_message=CapabilityCode.EXTENDED_MESSAGE in flags,
        enhanced_route_refresh=CapabilityCode.ENHANCED_ROUTE_REFRESH in flags,
        graceful_restart=restart,
        long_lived_graceful_restart=long_lived,
        add_path=tuple((afi, safi, mode) for (afi, safi), mode in add_path.items()),
        others=tuple(others),
    )


_WITHOUT_VALUE: Final = (
    CapabilityCode.ROUTE_REFRESH,
    CapabilityCode.EXTENDED_MESSAGE,
    CapabilityCode.ENHANCED_ROUTE_REFRESH,
)


def _decode_graceful_restart(value: bytes) -> GracefulRestart:
    head = value[0] << 8 | value[1]
    families = tuple((a, s, bool(flags & 0x80)) for a, s, flags in struct.iter_unpack("!HBB", value[2:]))
    return GracefulRestart(head & 0x0FFF, families, bool(head & 0x8000), bool(head & 0x4000))


def _decode_long_lived(value: bytes) -> LongLivedGracefulRestart:
    return LongLivedGracefulRestart(
        tuple(
            (a, s, bool(flags & 0x80), high << 16 | low)
            for a, s, flags, high, low in struct.iter_unpack("!HBBBH", value)
        )
    )


def _split(values: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for value in values:
        at, end = 0, len(value)
        while at < end:
            stop = at + 2 + value[at + 1] if at + 2 <= end else end + 1
            if stop > end:
                raise SessionError(
                    ErrorCode.OPEN_MESSAGE,
                    OpenError.UNSPECIFIC,
                    b"",
                    "a capability is longer than its parameter",
                )
            yield value[at], value[at + 2 : stop]
            at = stop


def _malformed(what: str, value: bytes) -> SessionError:
    reason = f"{what} of {len(value)} octets, not 4"
    return SessionError(ErrorCode.OPEN_MESSAGE, OpenError.UNSPECIFIC, b"", reason)
