"""Encoding UPDATEs: whole messages, as few as will hold what there is to say (RFC 4271, RFC 4760)."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from routed.bgp.attributes import AttributeSet
from routed.bgp.capabilities import SAFI_UNICAST
from routed.bgp.four_octet_as import to_two_octet_as
from routed.bgp.message import HEADER_OCTETS, MARKER, MAX_MESSAGE_OCTETS, MessageType
from routed.bgp.nlri import Family
from routed.bgp.path_attributes import OPTIONAL, Code, encode_attribute, split_attributes

# The header and the two length fields of an UPDATE.
_FRAME_OCTETS: Final = HEADER_OCTETS + 4
_LONGEST_NLRI_OCTETS: Final = 4 + 17  # with a path identifier


def _message(withdrawn: bytes, attributes: bytes, nlri: bytes) -> bytes:
    octets = _FRAME_OCTETS + len(withdrawn) + len(attributes) + len(nlri)
    head = struct.pack("!16sHBH", MARKER, octets, MessageType.UPDATE, len(withdrawn))
    return b"".join((head, withdrawn, len(attributes).to_bytes(2), attributes, nlri))


def _packed(nlri: Sequence[bytes], room: int) -> Iterator[bytes]:
    """`nlri` in order, joined into pieces of at most `room` octets, each as full as it can be."""
    together = b"".join(nlri)
    if len(together) <= room:
        if together:
            yield together
        return
    ends = list(accumulate(map(len, nlri)))  # one bisection a message, not one addition and test an NLRI
    first = start = 0
    while first < len(ends):
        last = bisect_right(ends, start + room, lo=first)
        yield together[start : ends[last - 1]]
        first, start = last, ends[last - 1]


def encode_announcements(
    family: Family,
    attributes: AttributeSet,
    nlri: Sequence[bytes],
    *,
    four_octet_as: bool = True,
    max_size: int = MAX_MESSAGE_OCTETS,
) -> list[bytes]:
    """Whole UPDATE messages, header included, that announce `nlri` with `attributes`, as few as will hold
    them.

    IPv4 with a next hop of 4 octets goes as NEXT_HOP and NLRI; everything else in MP_REACH_NLRI, which is the
    first attribute (RFC 7606 section 5.1). `four_octet_as` and `max_size` are what was negotiated. With
    ADD-PATH, `nlri` are route keys: a path identifier before each prefix (RFC 7911 section 3).

    Where the attributes leave no room for a prefix, the messages withdraw the NLRI instead: the peer must not
    keep what we advertised before (RFC 8654 section 4)."""
    wire = attributes.wire if four_octet_as else to_two_octet_as(attributes.wire)
    next_hop = attributes.next_hop
    room = max_size - _FRAME_OCTETS - len(wire)
    if family is Family.IPV4 and len(next_hop) == 4:
        wire = _with_next_hop(wire, next_hop)
        room -= 7
        if room < _LONGEST_NLRI_OCTETS and not _fits(nlri, room):
            return encode_withdrawals(family, nlri, max_size=max_size)
        return [_message(b"", wire, piece) for piece in _packed(nlri, room)]
    head = struct.pack("!HBB", family, SAFI_UNICAST, len(next_hop)) + next_hop + b"\0"
    room -= 4 + len(head)
    if room < _LONGEST_NLRI_OCTETS and not _fits(nlri, room):
        return encode_withdrawals(family, nlri, max_size=max_size)
    return [
        _message(b"", encode_attribute(OPTIONAL, Code.MP_REACH, head + piece) + wire, b"")
        for piece in _packed(nlri, room)
    ]


def _fits(nlri: Sequence[bytes], room: int) -> bool:
    return all(len(one) <= room for one in nlri)


def _with_next_hop(wire: bytes, next_hop: bytes) -> bytes:
    """NEXT_HOP in its place by type: attributes are in ascending order (RFC 4271 section 5)."""
    at = 0
    for _flags, code, start, _value, end in split_attributes(wire):
        if code > Code.NEXT_HOP:
            at = start
            break
        at = end
    return b"".join((wire[:at], b"\x40\x03\x04", next_hop, wire[at:]))


def encode_withdrawals(
    family: Family, nlri: Sequence[bytes], *, max_size: int = MAX_MESSAGE_OCTETS
) -> list[bytes]:
    """Whole UPDATE messages, header included, that withdraw `nlri` (with ADD-PATH: route keys): IPv4 in the
    Withdrawn Routes field, IPv6 in MP_UNREACH_NLRI."""
    room = max_size - _FRAME_OCTETS
    if family is Family.IPV4:
        return [_message(piece, b"", b"") for piece in _packed(nlri, room)]
    head = struct.pack("!HB", family, SAFI_UNICAST)
    return [
        _message(b"", encode_attribute(OPTIONAL, Code.MP_UNREACH, head + piece), b"")
        for piece in _packed(nlri, room - 4 - len(head))
    ]


def encode_end_of_rib(family: Family) -> bytes:
    """The End-of-RIB marker (RFC 4724 section 2)."""
    if family is Family.IPV4:
        return _message(b"", b"", b"")
    unreach = struct.pack("!HB", family, SAFI_UNICAST)
    return _message(b"", encode_attribute(OPTIONAL, Code.MP_UNREACH, unreach), b"")
