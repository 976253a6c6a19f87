"""The registry of path attributes: one row an attribute, not a switch in every function that meets one.

A row knows the attribute's name, its flags, how a received value is checked and brought into the one form
that is kept (AS numbers in 4 octets), what a malformed one leads to (RFC 7606), whether an external peer may
send it or get it, and how it prints.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from routed.bgp.as_path import BadAsPath, check_as_path, decode_as_path, encode_as_path, path_text
from routed.bgp.errors import Action, UpdateError

OPTIONAL: Final = 0x80
TRANSITIVE: Final = 0x40
PARTIAL: Final = 0x20
EXTENDED_LENGTH: Final = 0x10

_WELL_KNOWN = TRANSITIVE
_OPTIONAL_TRANSITIVE = OPTIONAL | TRANSITIVE
_OPTIONAL_NON_TRANSITIVE = OPTIONAL

Json = str | int | bool | list[str]


class Code(enum.IntEnum):
    """Path attribute type codes (IANA, BGP Path Attributes)."""

    ORIGIN = 1
    AS_PATH = 2
    NEXT_HOP = 3
    MED = 4
    LOCAL_PREF = 5
    ATOMIC_AGGREGATE = 6
    AGGREGATOR = 7
    COMMUNITIES = 8
    ORIGINATOR_ID = 9
    CLUSTER_LIST = 10
    MP_REACH = 14
    MP_UNREACH = 15
    EXTENDED_COMMUNITIES = 16
    AS4_PATH = 17
    AS4_AGGREGATOR = 18
    LARGE_COMMUNITIES = 32


class Malformed(Exception):  # noqa: N818 - the RFC's word
    """A value that is no value of its attribute: the UPDATE Message Error subcode and what is wrong."""

    def __init__(self, subcode: UpdateError, text: str) -> None:
        self.subcode = subcode
        super().__init__(text)


Check = Callable[[bytes, bool], bytes]  # (value, the peer writes 4-octet AS numbers) -> value as kept


def _exactly(octets: int) -> Check:
    def check(value: bytes, four_octet_as: bool) -> bytes:
        if len(value) != octets:
            raise Malformed(UpdateError.ATTRIBUTE_LENGTH, f"is {len(value)} octets long, not {octets}")
        return value

    return check


def _multiple_of(octets: int) -> Check:
    def check(value: bytes, four_octet_as: bool) -> bytes:
        if not value or len(value) % octets:
            text = f"is {len(value)} octets long, not a multiple of {octets} and at least one"
            raise Malformed(UpdateError.OPTIONAL_ATTRIBUTE, text)
        return value

    return check


def _check_origin(value: bytes, four_octet_as: bool) -> bytes:
    """RFC 7606 section 7.1."""
    if len(value) != 1:
        raise Malformed(UpdateError.ATTRIBUTE_LENGTH, f"is {len(value)} octets long, not 1")
    if value[0] > 2:
        raise Malformed(UpdateError.INVALID_ORIGIN, f"has the undefined value {value[0]}")
    return value


def _check_as_path(value: bytes, four_octet_as: bool) -> bytes:
    """RFC 7606 section 7.2. Kept with 4 octets an AS."""
    try:
        path = decode_as_path(value, octets=4 if four_octet_as else 2)
        check_as_path(path)
    except BadAsPath as error:
        raise Malformed(UpdateError.MALFORMED_AS_PATH, f"is malformed: {error}") from None
    return value if four_octet_as else encode_as_path(path)


def _check_as4_path(value: bytes, four_octet_as: bool) -> bytes:
    """RFC 6793 section 6. Confederation segments are left out by the merge, so they are no error here."""
    try:
        path = decode_as_path(value)
    except BadAsPath as error:
        raise Malformed(UpdateError.OPTIONAL_ATTRIBUTE, f"is malformed: {error}") from None
    if not path or any(kind not in (1, 2, 3, 4) or 0 in asns for kind, asns in path):
        raise Malformed(
            UpdateError.OPTIONAL_ATTRIBUTE, "is malformed: undefined segment type, AS 0 or no path"
        )
    return value


def _check_next_hop(value: bytes, four_octet_as: bool) -> bytes:
    """RFC 7606 section 7.3; RFC 4271 section 6.3: a valid host address."""
    if len(value) != 4:
        raise Malformed(UpdateError.ATTRIBUTE_LENGTH, f"is {len(value)} octets long, not 4")
    if not valid_next_hop(value):
        raise Malformed(UpdateError.INVALID_NEXT_HOP, f"{IPv4Address(value)} is no host address")
    return value


def _check_aggregator(value: bytes, four_octet_as: bool) -> bytes:
    """RFC 7606 section 7.7, RFC 7607 section 2. Kept with a 4-octet AS."""
    octets = 8 if four_octet_as else 6
    if len(value) != octets:
        raise Malformed(UpdateError.OPTIONAL_ATTRIBUTE, f"is {len(value)} octets long, not {octets}")
    if not any(value[:-4]):
        raise Malformed(UpdateError.OPTIONAL_ATTRIBUTE, "has AS 0")
    return value if four_octet_as else b"\0\0" + value


def _check_large_communities(value: bytes, four_octet_as: bool) -> bytes:
    """RFC 8092 section 6; section 3: repeated values are removed silently."""
    _multiple_of(12)(value, four_octet_as)
    values = [value[at : at + 12] for at in range(0, len(value), 12)]
    return value if len(set(values)) == len(values) else b"".join(dict.fromkeys(values))


def _unused(value: bytes, four_octet_as: bool) -> bytes:
    """MP_REACH and MP_UNREACH: `update.py` parses them, because their errors are the NLRI's."""
    return value


def valid_next_hop(address: bytes) -> bool:
    """Whether 4 or 16 octets can be the address of a router: not unspecified, not multicast, not class E
    (RFC 4271 section 6.3). Loopback is accepted: on one machine, peers are there."""
    if not any(address):
        return False
    return address[0] < 224 if len(address) == 4 else address[0] != 0xFF


def _text_address(value: bytes) -> str:
    return str(IPv4Address(value))


def _text_origin(value: bytes) -> str:
    return ("IGP", "EGP", "incomplete")[value[0]]


def _text_as_path(value: bytes) -> str:
    return path_text(decode_as_path(value))


def _text_aggregator(value: bytes) -> str:
    return f"{int.from_bytes(value[:4])} {IPv4Address(value[4:])}"


def _number(value: bytes) -> int:
    return int.from_bytes(value)


_WELL_KNOWN_COMMUNITY_TEXT = {
    0xFFFF0000: "graceful-shutdown",
    0xFFFF0006: "llgr-stale",
    0xFFFF0007: "no-llgr",
    0xFFFF029A: "blackhole",
    0xFFFFFF01: "no-export",
    0xFFFFFF02: "no-advertise",
    0xFFFFFF03: "no-export-subconfed",
    0xFFFFFF04: "no-peer",
}


def community_text(community: int) -> str:
    """`64512:100`, or the well-known name (IANA, BGP Well-known Communities)."""
    return _WELL_KNOWN_COMMUNITY_TEXT.get(community) or f"{community >> 16}:{community & 0xFFFF}"


def _texts_communities(value: bytes) -> list[str]:
    return [community_text(c) for c in struct.unpack(f"!{len(value) // 4}I", value)]


def _texts_addresses(value: bytes) -> list[str]:
    return [_text_address(value[at : at + 4]) for at in range(0, len(value), 4)]


def _texts_extended(value: bytes) -> list[str]:
    return [value[at : at + 8].hex() for at in range(0, len(value), 8)]


def _texts_large(value: bytes) -> list[str]:
    return [":".join(map(str, three)) for three in struct.iter_unpack("!III", value)]


@dataclass(frozen=True, slots=True)
class PathAttribute:
    """One row. `flags` are the Optional and Transitive bits it must have. `check` raises `Malformed` or gives
    the value as it is kept. `from_ebgp`: what an external peer sends counts. `to_ebgp`: a received value may
    go to an external peer. `kept`: it is part of `AttributeSet.wire`. `show` takes a kept value."""

    code: Code
    flags: int
    check: Check
    on_malformed: Action
    show: Callable[[bytes], Json]
    from_ebgp: bool = True
    to_ebgp: bool = True
    kept: bool = True

    @property
    def name(self) -> str:
        """The name in JSON and tables: `as_path`."""
        return self.code.name.lower()


_WITHDRAW = Action.TREAT_AS_WITHDRAW
_DISCARD = Action.ATTRIBUTE_DISCARD

REGISTRY: Final[dict[int, PathAttribute]] = {
    row.code: row
    for row in (
        PathAttribute(Code.ORIGIN, _WELL_KNOWN, _check_origin, _WITHDRAW, _text_origin),
        PathAttribute(Code.AS_PATH, _WELL_KNOWN, _check_as_path, _WITHDRAW, _text_as_path),
        PathAttribute(Code.NEXT_HOP, _WELL_KNOWN, _check_next_hop, _WITHDRAW, _text_address, kept=False),
        # RFC 4271 section 5.1.4: a received MED stays in our AS.
        PathAttribute(
            Code.MED, _OPTIONAL_NON_TRANSITIVE, _exactly(4), _WITHDRAW, _number, to_ebgp=False
        ),  # RFC 7606 section 7.4
        PathAttribute(
            Code.LOCAL_PREF, _WELL_KNOWN, _exactly(4), _WITHDRAW, _number, from_ebgp=False, to_ebgp=False
        ),  # RFC 7606 section 7.5
        PathAttribute(Code.ATOMIC_AGGREGATE, _WELL_KNOWN, _exactly(0), _DISCARD, lambda _: True),
        PathAttribute(Code.AGGREGATOR, _OPTIONAL_TRANSITIVE, _check_aggregator, _DISCARD, _text_aggregator),
        PathAttribute(Code.COMMUNITIES, _OPTIONAL_TRANSITIVE, _multiple_of(4), _WITHDRAW, _texts_communities),
        # RFC 7606 sections 7.9 and 7.10: from an external peer they are discarded.
        PathAttribute(
            Code.ORIGINATOR_ID,
            _OPTIONAL_NON_TRANSITIVE,
            _exactly(4),
            _WITHDRAW,
            _text_address,
            from_ebgp=False,
            to_ebgp=False,
        ),
        PathAttribute(
            Code.CLUSTER_LIST,
            _OPTIONAL_NON_TRANSITIVE,
            _multiple_of(4),
            _WITHDRAW,
            _texts_addresses,
            from_ebgp=False,
            to_ebgp=False,
        ),
        PathAttribute(Code.MP_REACH, _OPTIONAL_NON_TRANSITIVE, _unused, _WITHDRAW, bytes.hex, kept=False),
        PathAttribute(Code.MP_UNREACH, _OPTIONAL_NON_TRANSITIVE, _unused, _WITHDRAW, bytes.hex, kept=False),
        PathAttribute(
            Code.EXTENDED_COMMUNITIES, _OPTIONAL_TRANSITIVE, _multiple_of(8), _WITHDRAW, _texts_extended
        ),
        PathAttribute(
            Code.AS4_PATH, _OPTIONAL_TRANSITIVE, _check_as4_path, _DISCARD, _text_as_path, kept=False
        ),
        PathAttribute(
            Code.AS4_AGGREGATOR,
            _OPTIONAL_TRANSITIVE,
            lambda value, _: _check_aggregator(value, True),
            _DISCARD,
            _text_aggregator,
            kept=False,
        ),
        PathAttribute(
            Code.LARGE_COMMUNITIES, _OPTIONAL_TRANSITIVE, _check_large_communities, _WITHDRAW, _texts_large
        ),
    )
}


def attribute_name(code: int) -> str:
    """The RFC's name of an attribute, for errors: `AS_PATH`; `attribute 99` where it has none here."""
    row = REGISTRY.get(code)
    return row.code.name if row else f"attribute {code}"


def encode_attribute(flags: int, code: int, value: bytes) -> bytes:
    """One attribute on the wire; the Extended Length bit of `flags` is set or cleared as `value` needs."""
    if len(value) > 255:
        return struct.pack("!BBH", flags | EXTENDED_LENGTH, code, len(value)) + value
    return bytes((flags & ~EXTENDED_LENGTH, code, len(value))) + value


def split_attributes(wire: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Walk well-formed attributes: (flags, code, start of the attribute, start of its value, its end)."""
    at, end = 0, len(wire)
    while at < end:
        flags = wire[at]
        if flags & EXTENDED_LENGTH:
            value = at + 4
            stop = value + (wire[at + 2] << 8 | wire[at + 3])
        else:
            value = at + 3
            stop = value + wire[at + 2]
        yield flags, wire[at + 1], at, value, stop
        at = stop
